"""Queries: the limits of a connection, and lists that stay fast when tables grow."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.db.models import DEFAULT_TENANT, CorpusRow, JobRow, new_id
from service.db.repositories import jobs
from service.db.session import make_engine, make_sessions


def test_every_connection_has_its_limits_and_says_who_it_is(database_url: str) -> None:
    engine = make_engine(database_url, role="worker", statement_seconds=1.5)
    with engine.connect() as connection:
        shown = {
            name: connection.scalar(text(f"SHOW {name}"))
            for name in (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "application_name",
                "timezone",
            )
        }
    engine.dispose()
    assert shown == {
        "statement_timeout": "1500ms",
        "lock_timeout": "3s",
        "idle_in_transaction_session_timeout": "30s",
        "application_name": "cuvee-worker",
        "timezone": "UTC",
    }


def test_a_statement_that_takes_too_long_is_ended(database_url: str) -> None:
    engine = make_engine(database_url, role="test", statement_seconds=0.1)
    with engine.connect() as connection, pytest.raises(OperationalError, match="timeout"):
        connection.execute(text("SELECT pg_sleep(5)"))
    engine.dispose()


def test_nobody_waits_for_a_lock_for_ever(desk: Any, database_url: str) -> None:
    job = desk.searching_job()
    engine = make_engine(database_url, role="test", lock_seconds=0.1)
    with desk.work() as holder:
        jobs.lock(holder, job.id)
        with make_sessions(engine)() as waiter, pytest.raises(OperationalError, match="lock"):
            jobs.lock(waiter, job.id)
    engine.dispose()


def test_nothing_is_loaded_behind_a_query(desk: Any) -> None:
    job_id = desk.searching_job().id
    with desk.work() as session:
        job = session.get_one(JobRow, job_id)
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            _ = job.corpus


def test_what_is_not_json_is_refused_before_it_is_stored(sessions: sessionmaker[Session]) -> None:
    row = CorpusRow(
        id=new_id(), tenant_id=DEFAULT_TENANT, name=None, spec={"x": float("nan")}, spec_hash=""
    )
    with sessions() as session:
        session.add(row)
        with pytest.raises(ValueError, match="JSON compliant"):
            session.flush()


def test_ids_sort_by_time() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1_000


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET state = 'dreaming'",
        "UPDATE job SET phase = 'dreaming'",
        "UPDATE job SET state = 'succeeded'",  # without finished_at
        "UPDATE run SET state = 'lost'",
        "UPDATE run SET purpose = 'fun'",
        "UPDATE run_lease SET worker = 'w'",  # without an end
        "UPDATE corpus SET state = 'preparing'",  # without a lease
        "UPDATE corpus SET manifest = NULL",  # of a ready corpus
        "UPDATE run SET tenant_id = '00000000-0000-7000-8000-000000000002'",
    ],
)
def test_the_database_itself_refuses_what_makes_no_sense(desk: Any, statement: str) -> None:
    desk.searching_job()
    with pytest.raises(Exception, match=r"violates (check|foreign key) constraint"):
        desk.sql(statement)
