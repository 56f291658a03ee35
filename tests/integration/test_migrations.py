"""The migrations: one line, both ways, equal to the models, and one migrator at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from pytest_alembic.tests import test_model_definitions_match_ddl as test_models_equal_migrations
from pytest_alembic.tests import test_single_head_revision as test_there_is_one_head
from pytest_alembic.tests import test_up_down_consistency as test_each_migration_can_be_undone
from pytest_alembic.tests import test_upgrade as test_an_empty_database_can_be_upgraded
from sqlalchemy import Engine, create_engine, text

from cuvee.states import JobState
from service.db.models import DEFAULT_TENANT, Base
from service.db.revision import alembic_config as own_config
from service.db.revision import revision_status, upgrade

__all__ = [
    "test_an_empty_database_can_be_upgraded",
    "test_each_migration_can_be_undone",
    "test_models_equal_migrations",
    "test_there_is_one_head",
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def database_url(own_database_url: str) -> str:
    """These tests change schemas."""
    return own_database_url


@pytest.fixture
def alembic_config() -> Config:
    return own_config()


@pytest.fixture
def alembic_engine(empty_database: str) -> Iterator[Engine]:
    engine = create_engine(empty_database)
    yield engine
    engine.dispose()


def test_going_down_and_up_again_with_data_leaves_a_working_database(
    desk: Any, database_url: str, engine: Engine
) -> None:
    job = desk.searching_job()
    desk.work_off()
    config = own_config(database_url)
    command.downgrade(config, "base")
    with engine.connect() as connection:
        tables = connection.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).all()
        assert tables == ["alembic_version"]
        assert revision_status(connection) == "behind"
    command.upgrade(config, "head")
    desk.searching_job()
    desk.work_off()
    with engine.connect() as connection:
        assert revision_status(connection) == "current"
        assert connection.scalars(text("SELECT id::text FROM tenant")).all() == [DEFAULT_TENANT]
        assert connection.scalars(text("SELECT id::text FROM job")).all() != [job.id]


def _schema(engine: Engine) -> dict[str, list[Any]]:
    """What ``pg_dump -s`` would say, as far as names and definitions go."""
    queries = {
        "columns": "SELECT table_name, column_name, data_type, udt_name, is_nullable,"
        " column_default, is_identity FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        " ORDER BY 1, 2",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " ORDER BY 1",
        "options": "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace ORDER BY 1",
    }
    with engine.connect() as connection:
        return {
            name: [
                tuple(row) for row in connection.execute(text(query)) if row[0] != "alembic_version"
            ]
            for name, query in queries.items()
        }


def test_the_schema_of_the_migrations_is_the_schema_of_the_models(
    engine: Engine, alembic_engine: Engine
) -> None:
    Base.metadata.create_all(alembic_engine)
    migrated, created = _schema(engine), _schema(alembic_engine)
    migrated["indexes"] = [row for row in migrated["indexes"] if "alembic_version" not in row[0]]
    assert migrated == created


def test_every_constraint_has_a_name_of_ours(engine: Engine) -> None:
    names = [row[1] for row in _schema(engine)["constraints"]]
    assert names
    assert [n for n in names if n.split("_")[0] not in {"pk", "fk", "uq", "ck"}] == []


def test_the_states_that_the_database_allows_are_those_of_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        definition = connection.scalar(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname='ck_job_state'")
        )
    assert definition is not None
    assert all(f"'{state}'" in definition for state in JobState)


def test_two_migrators_at_once_migrate_once(empty_database: str) -> None:
    environment = os.environ | {"CUVEE_DATABASE_URL": empty_database}
    migrators = [
        subprocess.Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [migrator.communicate(timeout=120)[0] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0, 0], said


def test_a_database_of_a_newer_release_is_told_from_one_to_migrate(
    empty_database: str, alembic_engine: Engine
) -> None:
    with alembic_engine.connect() as connection:
        assert revision_status(connection) == "behind"
    upgrade(empty_database)
    with alembic_engine.begin() as connection:
        assert revision_status(connection) == "current"
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with alembic_engine.connect() as connection:
        assert revision_status(connection) == "ahead"
