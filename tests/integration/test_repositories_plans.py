"""Lists that stay fast when tables grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from cuvee.states import JobState, RunState
from service.db.models import DEFAULT_TENANT
from service.db.repositories import corpora, jobs, outbox, runs

RUNS = 20_000


@pytest.fixture
def database_url(own_database_url: str) -> str:
    """Statistics of a table with many rows must not reach other tests."""
    return own_database_url


@pytest.fixture
def grown(desk: Any, engine: Engine) -> Any:
    """A database with many jobs, and one job with many runs, events and observations."""
    job = desk.searching_job(name="big")
    desk.measure(desk.held())
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO job (id, tenant_id, corpus_id, spec, spec_hash, spec_version, seed,"
            " concurrency, state, phase, version, next_event_seq, next_proposal, advance_losses,"
            " finished_at)"
            " SELECT gen_random_uuid(), tenant_id, corpus_id, spec, '', 1, 0, 1, 'succeeded',"
            " 'searching', 1, 1, 1, 0, now() FROM job, generate_series(1, 5000) WHERE name = 'big'",
            "CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS run_id, gen_random_uuid() AS"
            f" proposal_id, n FROM generate_series(1, {RUNS}) n",
            "INSERT INTO proposal SELECT made.proposal_id, p.tenant_id, p.job_id, 1000 + n,"
            " p.strategy, p.engine_version, p.observation_digest, p.high_water, p.pending, p.seed,"
            " p.purpose, p.reason, p.predicted, p.acquisition, p.seconds"
            " FROM made, (SELECT * FROM proposal LIMIT 1) p",
            "INSERT INTO run (id, tenant_id, job_id, proposal_id, rung, kind, pool, purpose,"
            " reason, state, shares, seed, attempt, losses, started_at, finished_at)"
            " SELECT made.run_id, r.tenant_id, r.job_id, made.proposal_id, 0, r.kind, r.pool,"
            " r.purpose, '', 'succeeded', r.shares, 0, 1, 0, now(), now()"
            " FROM made, (SELECT * FROM run LIMIT 1) r",
            "INSERT INTO run_attempt (run_seq, attempt, worker, ended_at, outcome)"
            " SELECT run_seq, 1, 'w', now(), 'succeeded' FROM run JOIN made ON id = run_id",
            "INSERT INTO observation SELECT r.run_seq, r.tenant_id, r.job_id, 1, 0, o.nats,"
            " o.nats_se, o.tokens, o.bytes, 3 + random(), 1, 1 FROM run r JOIN made ON r.id ="
            " run_id, (SELECT * FROM observation LIMIT 1) o",
            f"INSERT INTO event SELECT job_seq, n, 'run.started', '{{}}' FROM job,"
            f" generate_series(1000, {1000 + RUNS}) n WHERE name = 'big'",
            "ANALYZE",
        ):
            connection.execute(text(statement))
    return job


def test_no_list_reads_a_whole_table(grown: Any, engine: Engine, desk: Any) -> None:
    """Every list query on a grown database, planned with the very parameters it runs with."""
    page = desk.do(jobs.page, DEFAULT_TENANT, None, None, 51)
    run_id = desk.do(runs.page, grown.id, None, None, 1)[0][0].id
    queries = {
        "jobs, first page": lambda s: jobs.page(s, DEFAULT_TENANT, None, None, 51),
        "jobs, later page": lambda s: jobs.page(s, DEFAULT_TENANT, None, page[-1].id, 51),
        "jobs by state": lambda s: jobs.page(s, DEFAULT_TENANT, JobState.ACCEPTED, None, 51),
        "job by id": lambda s: jobs.find(s, DEFAULT_TENANT, grown.id),
        "job by name": lambda s: jobs.find(s, DEFAULT_TENANT, "big"),
        "corpora": lambda s: corpora.page(s, DEFAULT_TENANT, None, 51),
        "events": lambda s: jobs.events(s, grown.id, RUNS, 200),
        "runs, first page": lambda s: runs.page(s, grown.id, None, None, 51),
        "runs, later page": lambda s: runs.page(s, grown.id, None, RUNS // 2, 51),
        "runs by state": lambda s: runs.page(s, grown.id, RunState.QUEUED, RUNS - 50, 51),
        "one run": lambda s: runs.find(s, DEFAULT_TENANT, run_id),
        "unpublished messages": lambda s: outbox.lock_unpublished(s, 100, 0),
        "jobs to settle": lambda s: jobs.unsettled(s, 120),
    }
    large = {"job", "run", "event", "observation", "run_attempt", "proposal"}
    scanned = {
        name: found for name, query in queries.items() if (found := _scanned(engine, query) & large)
    }
    assert scanned == {}


def _scanned(engine: Engine, query: Callable[[Session], object]) -> set[str]:
    """Tables that a query reads from end to end, by the plans of the statements it sends."""
    sent: list[tuple[str, Any]] = []

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    with engine.connect() as connection, Session(bind=connection) as session:
        event.listen(engine, "before_cursor_execute", remember)
        query(session)
        event.remove(engine, "before_cursor_execute", remember)
        plans = [
            line
            for statement, parameters in sent
            for line in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
        ]
    assert plans
    return {line.split("Seq Scan on ")[1].split()[0] for line in plans if "Seq Scan on " in line}
