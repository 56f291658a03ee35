"""Holding a run: claim, start, renew, release, and the fence that every write passes.

A worker holds a run through an attempt number. Every write carries it, and a write of an attempt
that no longer holds the lease is refused (``FencedError``), so a worker that was thought dead and
comes back can change nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, NoReturn

from sqlalchemy import func
from sqlalchemy.orm import Session

from cuvee.errors import FencedError
from cuvee.mixture import Mixture
from cuvee.records import CorpusManifest, Purpose
from cuvee.spec import Constraints, Record, Rung
from cuvee.states import JobState, RunState
from service.db.mapping import (
    job_spec,
    mixture_of,
)
from service.db.models import (
    CorpusRow,
    JobRow,
    RunAttemptRow,
    RunLeaseRow,
    RunRow,
)
from service.db.repositories import jobs, runs
from service.usecases.lifecycle import (
    continue_job,
    end_run,
    move_run,
    requeue_run,
    unwanted,
)

__all__ = [
    "Directive",
    "RunLease",
    "claim_run",
    "fence",
    "hold",
    "lock_run",
    "release_run",
    "renew_run",
    "require_held",
    "run_of",
    "start",
    "start_run",
]

Directive = Literal["continue", "stop"]

_JOBS_TRIED = 16


class RunLease(Record):
    """What a worker gets: everything it needs to do the run, and the attempt it must present."""

    run_id: str
    job_id: str
    attempt: int
    lease_seconds: float
    rung: Rung
    rung_index: int
    mixture: Mixture
    seed: int
    constraints: Constraints
    corpus_digest: str
    eval_sets: tuple[str, ...]
    purpose: Purpose
    label: str | None


# ------------------------------------------------------------------------------------------------
# The lease


def claim_run(
    session: Session, pool: str, worker: str, lease_seconds: float = 60
) -> RunLease | None:
    """Take the oldest waiting run of a pool whose job has room for it.

    Claims of one job are serialised by its row, which is what keeps ``job.concurrency`` exact;
    claims of different jobs do not meet.

    Args:
        session: A unit of work of its own, committed at once.
        pool: ``cpu`` or ``train``.
        worker: Who asks; for people.
        lease_seconds: How long the run stays claimed without a renewal.
    """
    for job_id in runs.claimable_jobs(session, pool, _JOBS_TRIED):
        # A savepoint, so that the lock of a job that has nothing after all is given back.
        savepoint = session.begin_nested()
        job = jobs.lock(session, job_id)
        if job is not None and job.state == JobState.RUNNING:
            lease = runs.lock_free_lease(session, job, pool)
            if lease is not None:
                savepoint.commit()
                return _grant(session, job, lease, worker, lease_seconds)
        savepoint.rollback()
    return None


def _grant(
    session: Session, job: JobRow, lease: RunLeaseRow, worker: str, lease_seconds: float
) -> RunLease:
    run = run_of(session, lease.run_id)
    attempt = run.attempt + 1
    lease.attempt = attempt
    lease.worker = worker
    lease.lease_seconds = lease_seconds
    lease.lease_until = func.now() + timedelta(seconds=lease_seconds)
    lease.progress_at = func.now()
    session.add(RunAttemptRow(run_seq=run.run_seq, attempt=attempt, worker=worker))
    move_run(
        session,
        job,
        run,
        RunState.LEASED,
        "run.leased",
        {"attempt": attempt, "worker": worker},
        attempt=attempt,
    )
    corpus = session.get_one(CorpusRow, job.corpus_id)
    spec = job_spec(job)
    return RunLease(
        run_id=run.id,
        job_id=job.id,
        attempt=attempt,
        lease_seconds=lease_seconds,
        rung=spec.rungs[run.rung],
        rung_index=run.rung,
        mixture=mixture_of(run, job.domains or []),
        seed=run.seed,
        constraints=spec.constraints,
        corpus_digest=CorpusManifest.model_validate(corpus.manifest).digest,
        eval_sets=tuple(job.eval_sets or ()),
        purpose="verify" if run.purpose == "verify" else "search",
        label=run.label,
    )


def start_run(session: Session, run_id: str, attempt: int) -> None:
    """Say that the work itself has begun; saying it twice is saying it once.

    Raises:
        FencedError: If this attempt no longer holds the run.
    """
    job, run, _ = hold(session, run_id, attempt)
    if run.state == RunState.LEASED:
        start(session, job, run)


def start(session: Session, job: JobRow, run: RunRow) -> None:
    row = runs.attempt(session, run, run.attempt)
    assert row is not None, "a held lease has an attempt: they are written together"
    row.started_at = func.now()
    move_run(session, job, run, RunState.RUNNING, "run.started", started_at=func.now())


def renew_run(
    session: Session, run_id: str, attempt: int, progress: float | None = None
) -> Directive:
    """Extend the lease, record the share of the work done, and hear whether to go on.

    Returns:
        ``stop`` when the result is no longer wanted: end the work, then call ``release_run``.

    Raises:
        FencedError: If this attempt no longer holds the run: end the work and write nothing.
    """
    job_id = runs.renew(session, run_id, attempt, progress)
    if job_id is None:
        fence(run_id, attempt)
    job = session.get_one(JobRow, job_id, populate_existing=True)
    return "stop" if unwanted(session, job) else "continue"


def release_run(session: Session, run_id: str, attempt: int) -> None:
    """Give a run back unfinished, without counting it: the worker is going away.

    Also how a worker answers the directive ``stop``: a run that is no longer wanted is cancelled.

    Raises:
        FencedError: If this attempt no longer holds the run.
    """
    job, run, lease = hold(session, run_id, attempt)
    if unwanted(session, job):
        end_run(session, job, run, lease, RunState.CANCELLED)
    else:
        requeue_run(session, job, run, lease, outcome="released")
    continue_job(session, job)


# ------------------------------------------------------------------------------------------------
# Fences


def fence(run_id: str, attempt: int) -> NoReturn:
    raise FencedError(
        f"attempt {attempt} no longer holds run {run_id}: it ended, was cancelled, or went to "
        "another worker; stop the work and write nothing",
        run_id=run_id,
        attempt=attempt,
    )


def run_of(session: Session, run_id: str) -> RunRow:
    run = runs.get(session, run_id)
    assert run is not None, "a lease refers to its run by foreign key"
    return run


def lock_run(session: Session, run_id: str, attempt: int) -> tuple[JobRow, RunRow]:
    job_id = runs.job_of(session, run_id)
    job = None if job_id is None else jobs.lock(session, job_id)
    if job is None:
        fence(run_id, attempt)
    return job, run_of(session, run_id)


def require_held(session: Session, run: RunRow, attempt: int) -> RunLeaseRow:
    lease = runs.lock_lease(session, run.id)
    if lease is None or lease.lease_until is None or lease.attempt != attempt:
        fence(run.id, attempt)
    return lease


def hold(session: Session, run_id: str, attempt: int) -> tuple[JobRow, RunRow, RunLeaseRow]:
    job, run = lock_run(session, run_id, attempt)
    return job, run, require_held(session, run, attempt)
