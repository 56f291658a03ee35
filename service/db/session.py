"""Engines and sessions, with every time limit set.

No connection may wait for ever: a statement, a lock and an idle transaction each have a limit, so
a stuck client gives its locks back.
"""

from __future__ import annotations

import json
from functools import partial

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

__all__ = ["make_engine", "make_sessions"]


def make_engine(
    database_url: str,
    *,
    role: str,
    pool_size: int = 5,
    statement_seconds: float = 15,
    lock_seconds: float = 3,
    idle_seconds: float = 30,
) -> Engine:
    """An engine for one process.

    Args:
        database_url: ``postgresql+psycopg://...``.
        role: ``api``, ``worker``, ``reconciler`` ...: the connection's application_name.
        pool_size: Connections kept open; as many again may open under load.
        statement_seconds: Limit of one statement.
        lock_seconds: Limit of waiting for one lock.
        idle_seconds: Limit of a transaction that does nothing.
    """
    limits = {
        "statement_timeout": statement_seconds,
        "lock_timeout": lock_seconds,
        "idle_in_transaction_session_timeout": idle_seconds,
    }
    options = " ".join(f"-c {name}={int(1000 * value)}" for name, value in limits.items())
    return create_engine(
        database_url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        pool_recycle=1800,
        pool_pre_ping=True,
        # NaN is not JSON: refuse it here, where the value is at hand, and not in the database.
        json_serializer=partial(json.dumps, allow_nan=False, ensure_ascii=False),
        connect_args={
            "application_name": f"cuvee-{role}",
            "connect_timeout": 5,
            "options": f"{options} -c timezone=UTC",
        },
    )


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    """A factory of sessions whose objects stay readable after a commit."""
    return sessionmaker(engine, expire_on_commit=False)
