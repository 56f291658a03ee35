"""A service driven by hand: every step of a job's life is one call, in its own transaction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from builders import a_corpus_spec, a_manifest, a_proposal, a_recommendation, a_spec, losses
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from cuvee.records import Corpus, CorpusManifest, Event, Job, Run
from service.db.models import DEFAULT_TENANT
from service.edge import unit_of_work
from service.queue import Message
from service.usecases import advance, corpora, jobs, runs
from service.usecases.advance import Decision
from service.usecases.runs import RunLease

WORKER = "worker-1"


class Desk:
    """What API, worker and reconciler do, without them; ``sent`` is what the broker would get."""

    tenant = DEFAULT_TENANT

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.sent: list[Message] = []

    def work(self) -> AbstractContextManager[Session]:
        return unit_of_work(self.sessions, self.sent.append)

    def do(self, use_case: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a use case in a transaction of its own."""
        with self.work() as session:
            return use_case(session, *args, **kwargs)

    # -- corpora

    def corpus(self, **fields: Any) -> Corpus:
        """A registered corpus."""
        fields.setdefault("name", "corpus")
        return self.do(corpora.register_corpus, self.tenant, a_corpus_spec(**fields))

    def prepare(self, corpus_id: str, manifest: CorpusManifest | None = None) -> None:
        lease = self.do(corpora.claim_preparation, corpus_id, WORKER)
        self.do(corpora.complete_preparation, corpus_id, lease.attempt, manifest or a_manifest())

    def ready_corpus(self, **fields: Any) -> Corpus:
        corpus = self.corpus(**fields)
        self.prepare(corpus.id)
        return self.do(corpora.get_corpus, self.tenant, corpus.id)

    # -- jobs

    def accept(self, **fields: Any) -> Job:
        return self.do(jobs.create_job, self.tenant, a_spec(**fields))

    def job(self, job_id: str) -> Job:
        return self.do(jobs.get_job, self.tenant, job_id)

    def events(self, job_id: str) -> list[Event]:
        return self.do(jobs.list_events, job_id, 0, 10_000)

    def event_types(self, job_id: str) -> list[str]:
        return [event.type for event in self.events(job_id)]

    def searching_job(self, **fields: Any) -> Job:
        """A job with a ready corpus and as many runs queued as may go on at once."""
        self.ready_corpus()
        job = self.accept(**fields)
        self.propose(job.id)
        return self.job(job.id)

    # -- decisions

    def begin(self, job_id: str) -> Decision | None:
        return self.do(advance.begin, job_id, WORKER)

    def propose(self, job_id: str, count: int | None = None, **fields: Any) -> tuple[str, ...]:
        decision = self.begin(job_id)
        assert decision is not None
        assert decision.phase == "searching"
        proposals = [
            a_proposal(seed=number, **fields)
            for number in range(decision.count if count is None else count)
        ]
        return self.do(
            advance.complete_proposals, job_id, decision.token, proposals, decision.digest
        )

    def verify(self, job_id: str, labels: tuple[str, ...] = ("recommended", "baseline")) -> bool:
        decision = self.begin(job_id)
        assert decision is not None
        proposals = [a_proposal(purpose="verify", label=label) for label in labels]
        return self.do(
            advance.start_verification,
            job_id,
            decision.token,
            a_recommendation(),
            proposals,
            "the engine is certain",
        )

    # -- runs

    def claim(self, pool: str = "cpu", worker: str = WORKER) -> RunLease | None:
        return self.do(runs.claim_run, pool, worker, 60)

    def held(self) -> RunLease:
        lease = self.claim()
        assert lease is not None
        return lease

    def measure(self, lease: RunLease, bits_per_byte: float = 2.0) -> bool:
        return self.do(runs.observe, lease.run_id, lease.attempt, losses(bits_per_byte), 8_192, 1.5)

    def run(self, run_id: str) -> Run:
        return self.do(runs.get_run, self.tenant, run_id)

    def work_off(self) -> int:
        """Measure every run that can be claimed; returns how many."""
        done = 0
        while (lease := self.claim()) is not None:
            self.measure(lease)
            done += 1
        return done

    # -- time

    def sql(self, statement: str, **values: Any) -> Any:
        with self.work() as session:
            return session.execute(text(statement), values)

    def let_lease_end(self, run_id: str) -> None:
        """As if its worker had been silent for longer than the lease."""
        self.sql(
            "UPDATE run_lease SET lease_until = now() - interval '1 second' WHERE run_id = :run",
            run=run_id,
        )


@pytest.fixture
def desk(sessions: sessionmaker[Session]) -> Desk:
    return Desk(sessions)
