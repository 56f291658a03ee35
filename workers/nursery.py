"""Where training processes are born: a process that has imported everything and only forks.

``python -m workers.nursery PARENT MODULE ...`` imports the modules once (torch and transformers
take four CPU seconds) and then forks one child per assignment, so every run is a process of its
own at the price of a fork. It runs no numerics and never touches an accelerator: a child of a
process that did could not use it.

Standard input is a Unix socket. An assignment's own socket arrives over it as a file descriptor;
answers are ``{"pid": ...}`` when the child is born and ``{"exit": ...}`` when it is dead (negative:
the signal that killed it). The end of the stream is the supervisor's death, and the nursery's.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.channel import Channel

__all__ = ["Nursery", "main"]

_PR_SET_PDEATHSIG = 1


class Nursery:
    """A supervisor's handle on its nursery process; started when needed, restarted when dead."""

    def __init__(self, modules: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._modules = tuple(modules)
        self._env = {
            **os.environ,
            # Lets torch count devices without touching them, which would spoil every fork.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.control: Channel | None = None

    def warm(self) -> Channel:
        """Start it if it is not running; it imports its modules while we do other things."""
        if self.control is None or self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workers.nursery", str(os.getpid()), *self._modules],
                    stdin=theirs.fileno(),
                    env=self._env,
                    cwd=Path(__file__).resolve().parents[1],
                )
            self.control = Channel(ours)
        return self.control

    def bear(self, assignment: Mapping[str, Any]) -> tuple[Channel, Channel]:
        """Ask for a child. Returns the channel to it, and the one that tells of its pid and end."""
        ours, theirs = socket.socketpair()
        with theirs:
            control = self.warm()
            try:
                socket.send_fds(control.socket, [b"+"], [theirs.fileno()])
            except OSError:  # it died between two runs
                self.close()
                control = self.warm()
                socket.send_fds(control.socket, [b"+"], [theirs.fileno()])
        child = Channel(ours)
        child.send(**assignment)
        return child, control

    def close(self) -> None:
        """End it, and with it any child that is left."""
        if self.control is not None:
            self.control.close()
            self.control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _bind_life_to(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies (Linux; elsewhere a no-op)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def main(parent: int, modules: Sequence[str]) -> None:
    """Serve until the supervisor closes its end or dies."""
    _bind_life_to(parent)
    # Whoever stops the service signals every process; children get to checkpoint first, and the
    # nursery ends by the end of its input.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for module in modules:
        importlib.import_module(module)
    answers = Channel(control)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        born = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            _live(born, descriptors[0])
        os.close(descriptors[0])
        answers.send(pid=pid)
        _, status = os.waitpid(pid, 0)
        answers.send(exit=os.waitstatus_to_exitcode(status))


def _live(nursery: int, descriptor: int) -> None:
    """The child's whole life; never returns into the nursery's loop."""
    code = 1
    try:
        os.setpgid(0, 0)
        _bind_life_to(nursery)
        from workers.trainer import run_assignment

        run_assignment(Channel(socket.socket(fileno=descriptor)))
        code = 0
    finally:
        # Not sys.exit: what the nursery registered to run at exit is not the child's business.
        os._exit(code)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2:])
    except (BrokenPipeError, ConnectionResetError):  # the supervisor is gone
        sys.exit(0)
