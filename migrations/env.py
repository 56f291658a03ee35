"""Alembic's entry point: one migrator at a time, against the database of the settings.

The URL comes from ``Settings`` unless the caller put one into the configuration's attributes.
A session-level advisory lock on a connection of its own lets one migrator work while the others
wait: Alembic has none, and a lock bound to a transaction would end with the first commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, pool, text

from service.db.models import Base
from service.settings import Settings

_LOCK_KEY = 0x43757665  # "Cuve"
_LOCK_WAIT = "60s"
_LOCK_TIMEOUT = "10s"
"""A migration that waits longer for a table holds up every query behind it: fail and retry."""


def _database_url() -> str:
    given = context.config.attributes.get("database_url")
    return given if isinstance(given, str) else Settings().database_url


@contextmanager
def _one_migrator(engine: Engine) -> Iterator[None]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"SET lock_timeout = '{_LOCK_WAIT}'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(
        url=_database_url(),
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate over a given connection (tests), or open one and take the lock."""
    given = context.config.attributes.get("connection")
    if isinstance(given, Engine):
        with given.connect() as connection:
            _migrate(connection)
        return
    if isinstance(given, Connection):
        _migrate(given)
        return
    engine = create_engine(_database_url(), poolclass=pool.NullPool)
    with _one_migrator(engine), engine.connect() as connection:
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.commit()
        _migrate(connection)


if context.is_offline_mode():
    run_offline()
else:
    run_online()
