"""The reconciler: closes every open state, again and again. ``python -m workers.reconciler``

Messages nobody sent, leases nobody renews, jobs with nothing in flight and no decision, states
past their deadline: each is found by a query and put right by a use case that may be repeated.
Several reconcilers may run; a session advisory lock lets one lead, and its end frees the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from cuvee.errors import UnavailableError
from service.broker import Broker
from service.db.session import make_engine, make_sessions
from service.edge import unit_of_work
from service.observability import configure_logging
from service.queue import Message
from service.settings import Settings
from service.usecases import sweep
from workers import health
from workers.runtime import set_on_signals

__all__ = ["main", "run", "sweep_once"]

_log = structlog.get_logger(__name__)

_LOCK = 0x63757665  # "cuve": any number, the same for every reconciler of a database
_MESSAGES = 200
_RING_AFTER_SWEEPS = 2.0

Publish = Callable[[Message], None]


def sweep_once(
    sessions: sessionmaker[Session], publish: Publish | None, settings: Settings
) -> None:
    """One round: every step in its own transaction, so that one that fails stops no other."""
    ring_after = _RING_AFTER_SWEEPS * settings.sweep_seconds
    steps: dict[str, Callable[[Session], object]] = {
        "expire_leases": lambda s: sweep.expire_leases(s, max_attempts=settings.max_attempts),
        "settle_jobs": sweep.settle_jobs,
        "ring_again": lambda s: sweep.ring_again(s, ring_after),
        "purge": sweep.purge,
    }
    for name, step in steps.items():
        try:
            with unit_of_work(sessions, publish) as session:
                done = step(session)
        except SQLAlchemyError:
            _log.exception("sweep.failed", step=name)
        else:
            if done and name != "purge":
                _log.info("sweep.acted", step=name, done=done)
    if publish is not None:
        _relay(sessions, publish)


def _relay(sessions: sessionmaker[Session], publish: Publish) -> None:
    """Send what the edge could not; a failure rolls the marks back, and it is sent again."""
    try:
        with unit_of_work(sessions) as session:
            for message in sweep.relay_outbox(session, _MESSAGES):
                publish(message)
    except UnavailableError as error:
        _log.warning("relay.broker_unavailable", reason=str(error))
    except SQLAlchemyError:
        _log.exception("sweep.failed", step="relay_outbox")


def run(engine: Engine, publish: Publish | None, settings: Settings, stop: threading.Event) -> None:
    """Lead or wait to lead, until ``stop``."""
    sessions = make_sessions(engine)
    while not stop.is_set():
        health.beat()
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                if _leads(connection):
                    _log.info("reconciler.leads")
                    _lead(connection, sessions, publish, settings, stop)
        except SQLAlchemyError as error:
            _log.warning("reconciler.database_unavailable", error=repr(error))
        stop.wait(settings.sweep_seconds)


def _lead(
    connection: Connection,
    sessions: sessionmaker[Session],
    publish: Publish | None,
    settings: Settings,
    stop: threading.Event,
) -> None:
    try:
        while True:
            sweep_once(sessions, publish, settings)
            health.beat()
            if stop.wait(settings.sweep_seconds):
                return
            # The lock lives with this connection: if it is gone, somebody else may lead.
            connection.execute(text("SELECT 1"))
    finally:
        # A connection goes back to a pool, where it would keep the lock.
        connection.invalidate()


def _leads(connection: Connection) -> bool:
    return bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)").bindparams(key=_LOCK)))


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    settings = Settings()
    configure_logging(settings, "reconciler")
    stop = threading.Event()
    set_on_signals(stop)
    broker = Broker(settings.broker_url) if settings.broker_url else None
    engine = make_engine(settings.database_url, role="reconciler", pool_size=2)
    run(engine, broker.publish if broker else None, settings, stop)
    engine.dispose()


if __name__ == "__main__":
    main()
