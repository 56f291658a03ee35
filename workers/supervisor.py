"""A supervisor: holds the lease of one assignment while a child process computes it.

The lease is renewed here and never in the child, whose native code may hold the interpreter for
seconds. Three clocks run, all monotonic:

- *liveness*: the lease is renewed every ``renew_seconds``; if that has not worked until shortly
  before the lease ends, the child is killed (self-fencing), whatever this thread is waiting for;
- *progress*: a child that is alive but tells nothing for too long is stuck, and is killed;
- *grace*: a child that was told to stop has so long to write its checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cuvee.errors import FencedError
from cuvee.records import LossPoint, Problem
from workers.nursery import Nursery

__all__ = [
    "Failed",
    "Finished",
    "Lease",
    "Lost",
    "Outcome",
    "Stopped",
    "Timing",
    "supervise",
]

_log = structlog.get_logger(__name__)

_TICK_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_STUCK_FACTOR = 20.0
"""A child may be silent for so many times the longest silence it has shown before."""

_LOG_BYTES = 16_384


class Lease(Protocol):
    """The right to work on one attempt. Every call may raise FencedError: the right is gone."""

    def renew(self, share: float | None, message: str) -> Literal["continue", "stop"]: ...

    def point(self, point: LossPoint) -> None: ...


@dataclass(frozen=True)
class Timing:
    """Limits in seconds."""

    lease: float
    renew: float
    stuck: float = 300.0
    """No child is stuck before so much silence; the first word may take as long, too."""

    grace: float = 10.0

    @property
    def margin(self) -> float:
        """How long before the lease ends the child is dead, come what may."""
        return max(0.5, 0.1 * self.lease)


@dataclass(frozen=True)
class Finished:
    result: dict[str, Any]


@dataclass(frozen=True)
class Stopped:
    """Told to stop, and did; a checkpoint may be left."""


@dataclass(frozen=True)
class Failed:
    kind: Literal["user", "infrastructure"]
    problem: Problem


@dataclass(frozen=True)
class Lost:
    """The lease is gone: nothing may be written about this attempt any more."""


Outcome = Finished | Stopped | Failed | Lost


def supervise(
    nursery: Nursery,
    assignment: Mapping[str, Any],
    lease: Lease,
    timing: Timing,
    *,
    leased_at: float,
    draining: threading.Event | None = None,
) -> Outcome:
    """Run one assignment in a child of ``nursery`` and return what became of it.

    The child is dead when this returns, whatever is returned or raised.

    Args:
        nursery: Where the child is born.
        assignment: See ``workers.trainer.run_assignment``.
        lease: Renewed here until the child has ended.
        timing: Limits.
        leased_at: ``time.monotonic()`` from just before the lease was asked for.
        draining: Set when this worker is to shut down: the child is told to stop.
    """
    watch = _Supervision(nursery, assignment, lease, timing, leased_at, draining)
    try:
        return watch.run()
    finally:
        watch.close()


class _Supervision:
    """One call of ``supervise``."""

    def __init__(
        self,
        nursery: Nursery,
        assignment: Mapping[str, Any],
        lease: Lease,
        timing: Timing,
        leased_at: float,
        draining: threading.Event | None,
    ) -> None:
        self._nursery = nursery
        self._log_path = Path(assignment["log"])
        self._lease = lease
        self._timing = timing
        self._draining = draining or threading.Event()
        self._fence = leased_at + timing.lease - timing.margin
        self._share: float | None = None
        self._message = ""
        self._pid: int | None = None
        self._exit: int | None = None
        self._verdict_at: float | None = None
        self._child_closed = False
        self._last_word = time.monotonic()
        self._longest_silence = 0.0
        self._kill_at: float | None = None  # end of the grace after a stop
        self._verdict: Outcome | None = None  # decided here, before the child said anything
        self._said: Outcome | None = None  # the child's own last word
        self._closed = threading.Event()
        self._killing = threading.Lock()
        self._child, self._control = nursery.bear(assignment)
        threading.Thread(target=self._self_fence, name="self-fence", daemon=True).start()

    def run(self) -> Outcome:
        next_renewal = time.monotonic() + self._timing.renew
        with selectors.DefaultSelector() as ready:
            ready.register(self._child.socket, selectors.EVENT_READ, self._hear_child)
            ready.register(self._control.socket, selectors.EVENT_READ, self._hear_nursery)
            while self._exit is None:
                for key, _ in ready.select(_TICK_SECONDS):
                    key.data()
                    if key.fileobj is self._child.socket and self._child_closed:
                        ready.unregister(self._child.socket)
                if time.monotonic() >= next_renewal:
                    next_renewal = time.monotonic() + self._renew()
                self._check_limits()
            self._drain()
        return self._outcome()

    def close(self) -> None:
        """Leave no child, whatever happened."""
        self._closed.set()
        if self._exit is None:
            # An error on our side: the nursery still waits for this child, so both go.
            self._kill()
            self._nursery.close()
        self._child.close()

    # --------------------------------------------------------------------------------------------
    # Listening

    def _hear_child(self) -> None:
        messages = self._child.read()
        if messages is None:
            self._child_closed = True
            return
        now = time.monotonic()
        self._longest_silence = max(self._longest_silence, now - self._last_word)
        self._last_word = now
        for message in messages:
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "progress":
                self._share = message["share"]
                self._message = message["message"] or self._message
            case "point":
                self._write_point(LossPoint.model_validate(message["point"]))
            case "result":
                result = message["result"]
                self._said = Stopped() if result.get("stopped") else Finished(result)
            case "error":
                problem = Problem(
                    code=message["code"], message=message["message"], details=message["details"]
                )
                if message["kind"] == "infrastructure":
                    problem = self._explained(problem)
                self._said = Failed(message["kind"], problem)

    def _hear_nursery(self) -> None:
        messages = self._control.read()
        if messages is None:
            # The nursery is dead, and its child with it: the kernel saw to that.
            self._nursery.close()
            self._exit = -signal.SIGKILL
            return
        for message in messages:
            if "pid" in message:
                self._pid = message["pid"]
            else:
                self._exit = message["exit"]

    def _drain(self) -> None:
        """Read what the child said before it ended."""
        self._child.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while not self._child_closed:
                self._hear_child()

    # --------------------------------------------------------------------------------------------
    # The lease

    def _renew(self) -> float:
        """Renew the lease; returns the seconds until the next try."""
        asked = time.monotonic()
        try:
            directive = self._lease.renew(self._share, self._message)
        except FencedError:
            self._abort(Lost())
            return self._timing.renew
        except SQLAlchemyError as error:
            # Not yet a lost lease: try until the fence falls.
            _log.warning("lease.renewal_failed", error=repr(error))
            return min(_RETRY_SECONDS, self._timing.renew)
        self._fence = asked + self._timing.lease - self._timing.margin
        if directive == "stop":
            self._tell_to_stop()
        return self._timing.renew

    def _write_point(self, point: LossPoint) -> None:
        try:
            self._lease.point(point)
        except FencedError:
            self._abort(Lost())
        except SQLAlchemyError as error:
            # A curve with a gap is better than a run that is lost.
            _log.warning("run.point_failed", error=repr(error), step=point.step)

    def _self_fence(self) -> None:
        """Kill the child before the lease ends, even while the main thread waits for a database."""
        while not self._closed.wait(min(_TICK_SECONDS, self._timing.margin / 2)):
            if time.monotonic() >= self._fence:
                self._abort(Lost())

    # --------------------------------------------------------------------------------------------
    # Ending the child

    def _check_limits(self) -> None:
        now = time.monotonic()
        if self._draining.is_set():
            self._tell_to_stop()
        silence = now - self._last_word
        limit = max(self._timing.stuck, _STUCK_FACTOR * self._longest_silence)
        if silence > limit and self._verdict is None:
            message = f"no progress for {silence:.0f} s (limit {limit:.0f} s)"
            self._abort(Failed("infrastructure", self._explained(_problem("stuck", message))))
        elif self._kill_at is not None and now >= self._kill_at:
            self._abort(Stopped())
        elif self._pid is None and self._verdict_at and now > self._verdict_at + self._timing.grace:
            # The nursery hangs, and a child that was never born can not be waited for.
            self._nursery.close()
            self._exit = -signal.SIGKILL
        elif self._verdict is not None:
            self._kill()  # again: it may have been born after the first try

    def _tell_to_stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._timing.grace
            with contextlib.suppress(OSError):
                self._child.send(type="stop")

    def _abort(self, verdict: Outcome) -> None:
        if self._verdict is None or isinstance(verdict, Lost):
            self._verdict = verdict
            self._verdict_at = self._verdict_at or time.monotonic()
        self._kill()

    def _kill(self) -> None:
        with self._killing:
            if self._pid is not None and self._exit is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)

    # --------------------------------------------------------------------------------------------
    # What became of it

    def _outcome(self) -> Outcome:
        if isinstance(self._verdict, Lost):
            return self._verdict
        if self._said is not None:
            return self._said
        if self._verdict is not None:
            return self._verdict
        assert self._exit is not None
        if self._exit < 0:
            name = signal.Signals(-self._exit).name
            hint = " (out of memory?)" if self._exit == -signal.SIGKILL else ""
            problem = _problem("killed", f"the training process was killed by {name}{hint}")
        else:
            problem = _problem("died", f"the training process ended with status {self._exit}")
        return Failed("infrastructure", self._explained(problem))

    def _explained(self, problem: Problem) -> Problem:
        """The problem with what is known of the process: status, signal, host, end of its log."""
        details: dict[str, Any] = {**problem.details, "host": socket.gethostname()}
        if self._exit is not None:
            details["exit_code"] = self._exit
            if self._exit < 0:
                details["signal"] = signal.Signals(-self._exit).name
        details["log"] = _tail(self._log_path)
        return Problem(code=problem.code, message=problem.message, details=details)


def _problem(code: str, message: str) -> Problem:
    return Problem(code=code, message=message)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return log.read().decode(errors="replace")
    except OSError:
        return ""
