"""The processes of the stack: start, watch, restart with patience, end without leftovers.

Each member leads a session of its own. Its descendants stay in that session, so ending a member
means ending everything whose session id is its pid, however deep and whoever died in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["Member", "Program", "end_session", "read_records", "write_records"]

_LAUNCH = Path(__file__).with_name("launch.py")
_FIRST_RESTART_SECONDS = 0.5
_SLOWEST_RESTART_SECONDS = 30.0
_SETTLED_SECONDS = 60.0
"""A member that lived this long starts again from the shortest delay when it dies."""


@dataclass(frozen=True)
class Program:
    """What to run and how it ends."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    pass_fds: Sequence[int] = ()
    stdin: bytes | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, bound to the life of this process."""
        launched = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        launched += [str(int(self.death_signal)), self.user or "-", *self.argv]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                launched,
                env=dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL if self.stdin is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(self.pass_fds),
            )
        if self.stdin is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(self.stdin)
        return process

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log, for error messages."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 8192))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Member:
    """One process of the stack, kept alive until it is told to stop."""

    name: str
    program: Callable[[], Program]
    """Called for every start, so that a restart may choose other ports."""

    process: subprocess.Popen[bytes] | None = None
    current: Program | None = None
    started: float = 0.0
    restarts: int = 0
    _delay: float = _FIRST_RESTART_SECONDS
    _next_start: float | None = field(default=None)

    def start(self) -> None:
        self.current = self.program()
        self.process = self.current.start()
        self.started = time.monotonic()
        self._next_start = None

    def revive(self) -> bool:
        """Restart it if it is dead and its delay has passed; True if it was started now."""
        if self.process is None or self.process.poll() is None:
            return False
        now = time.monotonic()
        if self._next_start is None:
            end_session(self.process.pid, self.started_at)
            if now - self.started > _SETTLED_SECONDS:
                self._delay = _FIRST_RESTART_SECONDS
            self._next_start = now + self._delay
            self._delay = min(2 * self._delay, _SLOWEST_RESTART_SECONDS)
        if now < self._next_start:
            return False
        self.restarts += 1
        self.start()
        return True

    @property
    def started_at(self) -> float:
        """Wall-clock time of the last start: what the kernel's process times compare with."""
        return time.time() - (time.monotonic() - self.started)

    def ask_to_stop(self) -> None:
        if self.process is not None and self.current is not None and self.process.poll() is None:
            self.process.send_signal(self.current.stop_signal)

    def end(self, grace_seconds: float) -> None:
        """Wait for it to end by itself for so long, then end its whole session."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        end_session(self.process.pid, self.started_at)
        self.process.wait()
        self.process = None


def end_session(sid: int, since: float) -> None:
    """Kill every process of the session ``sid`` that started at or after ``since`` (epoch seconds).

    The time guards against a number that the kernel has given to somebody else by now.
    """
    victims = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == sid and process.create_time() >= since - 2.0:
                process.kill()
                victims.append(process)
    # Children of ours are reaped by their Popen; this only waits until the others are gone.
    psutil.wait_procs([v for v in victims if v.pid != sid], timeout=5)


def write_records(path: Path, members: Sequence[Member]) -> None:
    """Note who was started, so that the next stack can clean up if this one is killed."""
    records = [
        {"name": m.name, "pid": m.process.pid, "since": m.started_at}
        for m in members
        if m.process is not None
    ]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(records))
    partial.replace(path)


def read_records(path: Path) -> list[tuple[int, float]]:
    """(session id, start time) of what an earlier stack started; empty if it ended properly."""
    try:
        return [(int(r["pid"]), float(r["since"])) for r in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
