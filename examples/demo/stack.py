"""The embedded stack as a child of the demo, or one that already runs on the same folder."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuvee.client import Client
from cuvee.errors import UnavailableError

__all__ = ["RunningStack", "free_port", "handle_signals", "running_stack"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_START_SECONDS = 150.0
_STOP_SECONDS = 40.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Where the stack answers.

    Attributes:
        url: Of the API and the dashboard.
        pid: The process that ends the whole stack when it gets SIGTERM.
        found: Whether it ran before and is not ours to stop.
    """

    url: str
    pid: int
    found: bool


def handle_signals() -> None:
    """Make Ctrl-C, SIGTERM and SIGHUP a KeyboardInterrupt, once.

    What comes later is ignored: by then everything is being ended, and impatience must not leave
    processes behind.
    """

    def interrupt(number: int, frame: object) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, interrupt)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: None)


@contextmanager
def running_stack(data_dir: Path, port: int, *, keep: bool) -> Iterator[RunningStack]:
    """Start the stack, or use the one that runs on ``data_dir``; stop it at the end if it is ours.

    Args:
        data_dir: The stack's folder.
        port: Of the API; 0 takes a free one.
        keep: Leave it running after success. An error or an interruption ends it all the same.

    Raises:
        UnavailableError: If it does not come up; with the end of its log.
    """
    found = _answering(data_dir)
    if found is not None:
        yield found
        return
    process: subprocess.Popen[bytes] | None = None
    try:
        # A signal between the start and the assignment would leave a child that nobody knows.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = _start(data_dir, port, keep)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        yield _wait(process, data_dir)
        if keep:
            process = None
    finally:
        if process is not None:
            try:
                _stop(process)
            except KeyboardInterrupt:  # raised once at most, so this time it goes through
                _stop(process)
                raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its members end with it
        process.wait()


def _start(data_dir: Path, port: int, keep: bool) -> subprocess.Popen[bytes]:
    log = _log(data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "service.embedded", "--data-dir", str(data_dir)]
    command += ["--port", str(port), *(["--outlive-parent"] if keep else [])]
    with log.open("wb") as output:
        # A session of its own: the terminal's Ctrl-C reaches the demo, which ends it in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], data_dir: Path) -> RunningStack:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        known = _published(data_dir)
        if known is not None and known[1] == process.pid:
            return RunningStack(*known, found=False)
        if process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    log = _log(data_dir)
    said = log.read_text(errors="replace").strip()[-1500:]
    raise UnavailableError(f"the stack did not start; the end of {log}:\n{said}")


def _answering(data_dir: Path) -> RunningStack | None:
    known = _published(data_dir)
    if known is None:
        return None
    url, pid = known
    with Client(url, timeout=5, retry_delays=()) as client:
        return RunningStack(url, pid, found=True) if client.live() else None


def _published(data_dir: Path) -> tuple[str, int] | None:
    """Address and process of the stack on this folder, as it wrote them down when it was ready."""
    try:
        content = json.loads((data_dir / "stack.json").read_text())
        return str(content["url"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log(data_dir: Path) -> Path:
    return data_dir / "logs" / "stack.log"


def free_port(wanted: int) -> int:
    """``wanted`` if nothing listens there, else 0, which lets the stack take any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
