"""What one worker process holds: settings, sessions, the way to the broker, its name, its nursery.

Made on first use, once per process: with the start method *spawn* a pool's child is a fresh
interpreter, so nothing here is ever shared across a fork.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session, sessionmaker

from service.broker import Broker
from service.db.session import make_engine, make_sessions
from service.edge import unit_of_work
from service.queue import TRAIN, Message
from service.settings import Settings
from workers.nursery import Nursery
from workers.supervisor import Timing

if TYPE_CHECKING:
    from cuvee.corpus import PreparedCorpus

__all__ = ["DRAIN_SIGNAL", "Runtime", "make_runtime", "runtime", "set_on_signals"]

DRAIN_SIGNAL = signal.SIGUSR2
"""What a Celery worker tells its pool's child when it is to stop; the pool itself takes SIGTERM."""

_TRAINING_MODULES = ("workers.trainer", "cuvee.proxy.train")
_PREPARING_MODULES = ("workers.trainer", "cuvee.corpus")


@dataclass
class Runtime:
    """Resources of one process.

    Attributes:
        draining: Set when the process is to end: children stop at a checkpoint, no run is claimed.
        busy: Held while something is executed, so that a process does one thing at a time.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    publish: Callable[[Message], None] | None
    worker: str
    draining: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)
    _nurseries: dict[str, Nursery] = field(default_factory=dict)
    _corpora: dict[str, PreparedCorpus] = field(default_factory=dict)

    def work(self) -> AbstractContextManager[Session]:
        """A unit of work; see ``service.edge``."""
        return unit_of_work(self.sessions, self.publish)

    @property
    def timing(self) -> Timing:
        return Timing(lease=self.settings.lease_seconds, renew=self.settings.renew_seconds)

    def nursery(self, pool: str) -> Nursery:
        """Where children for this pool's long work are born."""
        if pool not in self._nurseries:
            modules = _TRAINING_MODULES if pool == TRAIN else _PREPARING_MODULES
            self._nurseries[pool] = Nursery(modules)
        return self._nurseries[pool]

    def corpus(self, digest: str) -> PreparedCorpus:
        """A prepared corpus, opened once: it is memory-mapped and never changes."""
        from cuvee.corpus import open_corpus  # a supervisor of training never needs it

        if digest not in self._corpora:
            self._corpora[digest] = open_corpus(self.settings.corpora_dir, digest)
        return self._corpora[digest]

    def close(self) -> None:
        """End the nurseries."""
        for nursery in self._nurseries.values():
            nursery.close()
        self._nurseries.clear()


def make_runtime(settings: Settings, *, publish: Callable[[Message], None] | None) -> Runtime:
    """Resources for one process, with a small pool of connections."""
    engine = make_engine(settings.database_url, role="worker", pool_size=2)
    return Runtime(
        settings=settings,
        sessions=make_sessions(engine),
        publish=publish,
        worker=f"{socket.gethostname()}/{os.getpid()}",
    )


@functools.cache
def runtime() -> Runtime:
    """This process's resources, from its environment."""
    settings = Settings()
    broker = Broker(settings.broker_url) if settings.broker_url else None
    return make_runtime(settings, publish=broker.publish if broker else None)


def set_on_signals(event: threading.Event, *signums: signal.Signals) -> None:
    """Set ``event`` on these signals (SIGTERM and Ctrl-C if none are given)."""

    def handle(*_: object) -> None:
        # In a thread: the main thread may be inside wait(), holding the event's own lock.
        threading.Thread(target=event.set).start()

    for signum in signums or (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, handle)
