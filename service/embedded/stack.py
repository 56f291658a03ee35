"""The embedded stack: every member started in order, kept alive, and ended without leftovers.

All processes are started, watched and ended by one thread. A Ctrl-C is raised in the main thread
only, so it can never fall between the start of a process and the note that it was started; and
the kernel's promise to end a child with its parent is tied to the thread that started it, which
here lives as long as the stack.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from cuvee.errors import ConflictError, UnavailableError
from service.embedded.lock import StackLock
from service.embedded.members import Member, Program, end_session, read_records, write_records
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedStack"]

_ROOT = Path(__file__).resolve().parents[2]
"""The checkout: where the packages, the migrations and their configuration are."""

_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")
_POLL_SECONDS = 0.03
_WATCH_SECONDS = 0.2
_DRAIN_SECONDS = 6.0
"""For workers to checkpoint and hand back their runs, and the API to end its streams."""

_SERVER_STOP_SECONDS = 10.0


class _Stopping(Exception):
    """``stop`` was called during the start."""


class EmbeddedStack:
    """PostgreSQL, Valkey, API, workers and reconciler on this machine, on 127.0.0.1 only.

    Args:
        data_dir: Holds everything: the database, corpora, checkpoints, logs. One stack at a time.
        port: Of the API; a free one if None.
        train_workers: Processes that train proxies, each one run at a time.
        threads: For the numerics of one worker; the machine's CPUs shared out if None.
        log_dir: ``data_dir/logs`` if None; one file per member.
        start_seconds: How long the start may take before it fails.

    Raises:
        ConflictError: From ``start``, if a stack runs on this folder or the port is taken.
        UnavailableError: From ``start``, if a member does not come up; with the end of its log.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int | None = None,
        train_workers: int | None = None,
        threads: int | None = None,
        log_dir: Path | str | None = None,
        start_seconds: float = 120.0,
    ) -> None:
        cpus = os.cpu_count() or 1
        self.data_dir = Path(data_dir).expanduser().resolve()
        self.log_dir = Path(log_dir).expanduser().resolve() if log_dir else self.data_dir / "logs"
        self.train_workers = min(2, cpus) if train_workers is None else train_workers
        self.threads = threads or max(1, cpus // max(1, self.train_workers))
        self.url = ""
        self._port = port
        self._start_seconds = start_seconds
        self._members: list[Member] = []
        self._stopping = threading.Event()
        self._settled = threading.Event()  # ready, or failed to start
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Return when the API is ready, or raise; a failed start leaves nothing behind."""
        try:
            self.begin()
            while not self._settled.wait(0.2):
                pass
        except BaseException:
            self.stop()
            raise
        if not self.url:
            self.finish()
            raise UnavailableError("the stack was stopped while it started")

    def begin(self) -> None:
        """Begin to start, without waiting: ``url`` is set when the API is ready."""
        atexit.register(self.stop)
        self._thread = threading.Thread(target=self._run, name="embedded-stack", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Stop, and raise what went wrong, if anything did."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End every member and remove lock and addresses. May be called again, and interrupted."""
        self.request_stop()
        interrupted: KeyboardInterrupt | None = None
        while self._thread is not None and self._thread.is_alive():
            try:
                self._thread.join(0.2)
            except KeyboardInterrupt as again:  # impatience must not leave processes behind
                interrupted = again
        atexit.unregister(self.stop)
        if interrupted is not None:
            raise interrupted

    def request_stop(self) -> None:
        """Begin to stop, without waiting."""
        self._stopping.set()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by member (``postgres``, ``api``, ``train-1`` ...)."""
        return {m.name: m.process.pid for m in self._members if m.process is not None}

    def __enter__(self) -> EmbeddedStack:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --------------------------------------------------------------------------------------------
    # The thread of the stack

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as undo:
                self._start_all(undo)
                self._settled.set()
                self._watch()
        except _Stopping:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._settled.set()

    def _start_all(self, undo: contextlib.ExitStack) -> None:
        deadline = time.monotonic() + self._start_seconds
        self.data_dir.mkdir(parents=True, exist_ok=True)
        lock = StackLock(self.data_dir / "stack.lock")
        lock.acquire()
        undo.callback(lock.release)
        self._clear_leftovers()
        listener = undo.enter_context(self._listen())
        sockets = undo.enter_context(self._socket_folder())
        undo.callback(self._end_all)
        undo.callback((self.data_dir / "stack.json").unlink, missing_ok=True)

        postgres = EmbeddedPostgres(
            self.data_dir / "postgres", sockets, self.log_dir / "postgres.log"
        )
        valkey = EmbeddedValkey(self.log_dir / "valkey.log")
        environment = self._environment(postgres.url, valkey.url, listener.getsockname()[1])

        postgres.initialise(lambda program: self._run_once(program, "initdb", deadline))
        self._launch("postgres", postgres.program)
        self._launch("valkey", valkey.program)
        self._wait(postgres.ready, "postgres", deadline)
        self._launch("api", lambda: self._api(environment, listener))
        self._run_once(self._python("migrate", environment, "alembic", "upgrade", "head"),
                       "the migration", deadline)  # fmt: skip
        self._wait(valkey.ready, "valkey", deadline)
        self._launch("reconciler", lambda: self._python("reconciler", environment,
                                                        "workers.reconciler"))  # fmt: skip
        self._launch_workers(environment)
        port = listener.getsockname()[1]
        self._wait(lambda: _answers(port), "api", deadline)
        self.url = f"http://127.0.0.1:{port}"
        lock.describe(self.url)
        self._publish_addresses(postgres.url)

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_SECONDS):
            revived = [member.name for member in self._members if member.revive()]
            if revived:
                self._record()

    def _end_all(self) -> None:
        """Those who use the database first, then the database."""
        servers = [m for m in self._members if m.name in ("postgres", "valkey")]
        users = [m for m in self._members if m not in servers]
        for group, seconds in ((users, _DRAIN_SECONDS), (servers, _SERVER_STOP_SECONDS)):
            for member in group:
                member.ask_to_stop()
            deadline = time.monotonic() + seconds
            for member in group:
                member.end(max(0.0, deadline - time.monotonic()))
        self._record_path.unlink(missing_ok=True)

    def _clear_leftovers(self) -> None:
        """End what a killed stack left running; the lock says that it is dead."""
        for sid, since in read_records(self._record_path):
            end_session(sid, since)
        self._record_path.unlink(missing_ok=True)
        (self.data_dir / "stack.json").unlink(missing_ok=True)

    # --------------------------------------------------------------------------------------------
    # Members

    def _launch(self, name: str, program: Callable[[], Program]) -> None:
        self._check_stopping()
        member = Member(name, program)
        self._members.append(member)
        member.start()
        self._record()

    def _launch_workers(self, environment: dict[str, str]) -> None:
        self._launch("cpu", lambda: self._worker(environment, "cpu", "cpu"))
        for number in range(1, self.train_workers + 1):
            name = f"train-{number}"
            self._launch(name, lambda name=name: self._worker(environment, name, "train"))  # type: ignore[misc]

    def _worker(self, environment: dict[str, str], name: str, queue: str) -> Program:
        return self._python(
            name, environment, "celery", "--app", "workers.app", "worker",
            "--queues", queue, "--hostname", f"{name}@embedded", "--loglevel", "INFO",
            # Workers that greet each other only take a second longer to start.
            "--without-mingle", "--without-gossip", "--without-heartbeat",
        )  # fmt: skip

    def _api(self, environment: dict[str, str], listener: socket.socket) -> Program:
        # The stack holds the listening socket: the port survives a restart of the API.
        descriptor = listener.fileno()
        return self._python(
            "api", environment, "uvicorn", "service.app:create_app", "--factory",
            "--fd", str(descriptor), "--timeout-graceful-shutdown", "2", "--no-access-log",
            pass_fds=(descriptor,),
        )  # fmt: skip

    def _python(
        self, name: str, environment: dict[str, str], *module: str, pass_fds: tuple[int, ...] = ()
    ) -> Program:
        return Program(
            argv=(sys.executable, "-m", *module),
            env=environment,
            cwd=_ROOT,
            log=self.log_dir / f"{name}.log",
            pass_fds=pass_fds,
        )

    def _environment(self, database_url: str, broker_url: str, port: int) -> dict[str, str]:
        threads = str(self.threads)
        return {
            # Short leases: on one machine a silent worker is a dead worker.
            "CUVEE_LEASE_SECONDS": "15",
            "CUVEE_RENEW_SECONDS": "3",
            "CUVEE_SWEEP_SECONDS": "2",
            **os.environ,
            "CUVEE_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "CUVEE_ENVIRONMENT": "embedded",
            "CUVEE_DATABASE_URL": database_url,
            "CUVEE_BROKER_URL": broker_url,
            "CUVEE_DATA_DIR": str(self.data_dir),
            "CUVEE_HOST": "127.0.0.1",
            "CUVEE_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }

    # --------------------------------------------------------------------------------------------
    # Waiting

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _Stopping

    def _wait(self, ready: Callable[[], bool], name: str, deadline: float) -> None:
        member = next(m for m in self._members if m.name == name)
        while not ready():
            if member.process is not None and member.process.poll() is not None:
                raise self._failed(name, f"ended with status {member.process.returncode}", member)
            if time.monotonic() > deadline:
                raise self._failed(name, "is not ready in time", member)
            if self._stopping.wait(_POLL_SECONDS):
                raise _Stopping

    def _run_once(self, program: Program, what: str, deadline: float) -> None:
        """Run a program to its end; a member while it runs, so that a stop ends it too."""
        self._launch(what, lambda: program)
        member = self._members[-1]
        process = member.process
        assert process is not None
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise self._failed(what, "did not end in time", member)
            if self._stopping.wait(_POLL_SECONDS):
                raise _Stopping
        self._members.remove(member)
        if process.returncode != 0:
            raise self._failed(what, f"ended with status {process.returncode}", member)

    def _failed(self, name: str, how: str, member: Member) -> UnavailableError:
        log = member.current.log if member.current else self.log_dir
        tail = member.current.tail() if member.current else ""
        return UnavailableError(f"{name} {how}; the end of {log}:\n{tail}", member=name)

    # --------------------------------------------------------------------------------------------
    # Files and sockets

    @property
    def _record_path(self) -> Path:
        return self.data_dir / "members.json"

    def _record(self) -> None:
        write_records(self._record_path, self._members)

    @contextlib.contextmanager
    def _listen(self) -> Iterator[socket.socket]:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", self._port or 0))
            except OSError as error:
                raise ConflictError(
                    f"port {self._port} of 127.0.0.1 is not free ({error.strerror}): give another "
                    "--port, or 0 for any",
                    port=self._port,
                ) from None
            # Listening starts here, so that early requests wait instead of being refused.
            listener.listen(128)
            yield listener

    @contextlib.contextmanager
    def _socket_folder(self) -> Iterator[Path]:
        folder = self.data_dir / "run"
        if len(os.fsencode(folder)) > _LONGEST_SOCKET_FOLDER:
            digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"cuvee-{os.getuid()}-{digest}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)  # refuses a folder that somebody else put there
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish_addresses(self, database_url: str) -> None:
        partial = self.data_dir / "stack.json.partial"
        content = {
            "url": self.url,
            "pid": os.getpid(),
            "pids": self.pids,
            "database_url": database_url,
            "data_dir": str(self.data_dir),
            "log_dir": str(self.log_dir),
        }
        partial.write_text(json.dumps(content, indent=2))
        partial.replace(self.data_dir / "stack.json")


def _answers(port: int) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
