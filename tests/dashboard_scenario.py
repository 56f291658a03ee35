"""Jobs in the database, moved only through the use cases, with the measurements of the samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

from dashboard_samples import a_plan, explanation
from dashboard_world import (
    DOMAINS,
    TOKENS,
    WEIGHTS,
    law,
    losses,
    natural,
    random_mixture,
    recommended,
)
from sqlalchemy.orm import Session

from cuvee.answer import Diagnosis, Interval, Recommendation, Report
from cuvee.mixture import Mixture
from cuvee.records import Corpus, CorpusManifest, DomainCensus, Job, LossPoint, Problem, Proposal
from cuvee.spec import (
    Constraints,
    CorpusSpec,
    DomainSource,
    JobSpec,
    NgramRung,
    Objective,
    ProxyRung,
    Verification,
)
from service.db.models import DEFAULT_TENANT
from service.usecases import advance, corpora, jobs, runs

ROOMY = Constraints(target_tokens=10_000_000)
Work = Callable[[], AbstractContextManager[Session]]


def manifest() -> CorpusManifest:
    return CorpusManifest(
        digest="5f2c3c1b9d7a44e0a1c6be03b2c9f7e6d1a84e5fb1c0e39a7d25f6b8c9e0a1b2",
        domains=tuple(
            DomainCensus(
                name=name,
                documents=tokens // 700,
                bytes=tokens * 4,
                tokens=tokens,
                heldout_documents=tokens // 14_000,
                heldout_bytes=tokens // 5,
                heldout_tokens=tokens // 20,
                duplicates=3,
            )
            for name, tokens in zip(DOMAINS, TOKENS, strict=True)
        ),
        vocab_size=4096,
        tokenizer_sha256="ab" * 32,
    )


class Scenario:
    """One corpus and one job; each method is what a worker would have done.

    Args:
        work: Opens a unit of work.
        seed: Of the measurements.
    """

    def __init__(self, work: Work, seed: int = 3) -> None:
        self.work = work
        self.noise = random.Random(seed)

    def corpus(self, name: str = "demo-text", *, ready: bool = True) -> Corpus:
        spec = CorpusSpec(
            name=name,
            domains=tuple(DomainSource(name=d, paths=(f"/data/{d}",)) for d in DOMAINS),
        )
        with self.work() as session:
            corpus = corpora.register_corpus(session, DEFAULT_TENANT, spec)
        if ready:
            self.prepare(corpus.id)
        return corpus

    def prepare(self, reference: str) -> None:
        with self.work() as session:
            corpus = corpora.get_corpus(session, DEFAULT_TENANT, reference)
            lease = corpora.claim_preparation(session, corpus.id, "worker-1")
            assert lease is not None
            corpora.complete_preparation(session, corpus.id, lease.attempt, manifest())

    def job(
        self,
        name: str | None = "demo",
        corpus: str = "demo-text",
        constraints: Constraints = ROOMY,
    ) -> Job:
        spec = JobSpec(
            name=name,
            corpus=corpus,
            rungs=(
                NgramRung(runs=12),
                ProxyRung(runs=14, parameters=200_000, tokens=400_000),
            ),
            objective=Objective(weights=dict(zip(DOMAINS, WEIGHTS, strict=True))),
            constraints=constraints,
            verification=Verification(seeds=3, references=("baseline", "uniform")),
            seed=1,
        )
        with self.work() as session:
            return jobs.create_job(session, DEFAULT_TENANT, spec)

    def propose(
        self, job: Job, count: int, rung: int = 1, found: Diagnosis | None = None
    ) -> tuple[str, ...]:
        """Queue runs: the baseline first if the target has none, then random mixtures.

        ``found`` is what the objective doctor says in the same breath.
        """
        with self.work() as session:
            decision = advance.begin(session, job.id, "worker-1")
        assert decision is not None
        first = rung == 1 and not any(o.rung == 1 for o in decision.history.observations)
        proposals = [
            Proposal(
                mixture=natural() if first and i == 0 else random_mixture(self.noise),
                rung=rung,
                seed=self.noise.randrange(2**31),
                label="baseline" if first and i == 0 else None,
                reason="covers the feasible set around the prior mixture",
                explanation=None
                if first and i == 0
                else explanation(
                    cost=1.0, alternatives={"ngram (rung 0)": 0.0012, "proxy (rung 1)": 0.0061}
                ),
            )
            for i in range(count)
        ]
        with self.work() as session:
            return advance.complete_proposals(
                session, job.id, decision.token, proposals, decision.digest, diagnosis=found
            )

    def claim(self, pool: str = "train") -> runs.RunLease:
        with self.work() as session:
            lease = runs.claim_run(session, pool, "worker-1")
            assert lease is not None, "no run is waiting"
            runs.start_run(session, lease.run_id, lease.attempt)
        return lease

    def point(self, lease: runs.RunLease, step: int, distance: float) -> None:
        """A point of the loss curve, so far from what the run ends with."""
        measured = {
            name: loss.model_copy(update={"nats": loss.nats * (1 + distance)})
            for name, loss in losses(lease.mixture, self.noise).items()
        }
        with self.work() as session:
            point = LossPoint(step=step, tokens=step * 4096, train_loss=3.1, losses=measured)
            runs.append_point(session, lease.run_id, lease.attempt, point)
            runs.renew_run(session, lease.run_id, lease.attempt, min(1.0, step / 100))

    def measure(self, lease: runs.RunLease) -> None:
        with self.work() as session:
            runs.observe(
                session,
                lease.run_id,
                lease.attempt,
                losses(lease.mixture, self.noise),
                400_000,
                7.0 + 2 * self.noise.random(),
            )

    def fail(self, lease: runs.RunLease, message: str) -> None:
        problem = Problem(code="engine_failed", message=message)
        with self.work() as session:
            runs.fail_run(session, lease.run_id, lease.attempt, "user", problem)

    def search(self, job: Job, count: int) -> None:
        """Propose and measure so many runs at the target."""
        while count > 0:
            batch = len(self.propose(job, min(2, count)))
            for _ in range(batch):
                lease = self.claim()
                for step, distance in ((25, 0.5), (50, 0.22), (75, 0.07), (100, 0.0)):
                    self.point(lease, step, distance)
                self.measure(lease)
            count -= batch

    def verify(self, job: Job) -> None:
        """End the search and queue the verification of the samples' recommendation."""
        best = recommended()
        with self.work() as session:
            decision = advance.begin(session, job.id, "worker-1")
        assert decision is not None
        recommendation = Recommendation(
            mixture=best,
            shares={
                d: Interval(mean=best[d], low=best[d] - 0.02, high=best[d] + 0.02) for d in DOMAINS
            },
            predicted={
                d: Interval(mean=law(i, best), low=law(i, best) - 0.02, high=law(i, best) + 0.02)
                for i, d in enumerate(DOMAINS)
            },
        )
        recommendation = recommendation.model_copy(update={"plan": (a_plan("baseline", 0.998),)})
        proposals = [
            Proposal(
                mixture=mixture, rung=1, seed=seed, reason="paired", purpose="verify", label=label
            )
            for seed in (101, 102, 103)
            for label, mixture in (
                ("recommended", best),
                ("baseline", natural()),
                ("uniform", Mixture.uniform(DOMAINS)),
            )
        ]
        with self.work() as session:
            advance.start_verification(
                session, job.id, decision.token, recommendation, proposals, "all runs are used up"
            )

    def finish(self, job: Job, report: Report) -> None:
        """Measure the verification and store the report."""
        for _ in range(9):
            self.measure(self.claim())
        with self.work() as session:
            decision = advance.begin(session, job.id, "worker-1")
            assert decision is not None
            assert decision.phase == "reporting"
        with self.work() as session:
            advance.finish(session, job.id, decision.token, report)
