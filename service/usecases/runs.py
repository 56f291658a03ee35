"""A run's life under a lease: claim, start, renew, measure, fail, release.

A worker holds a run through an attempt number. Every write carries it, and a write of an attempt
that no longer holds the lease is refused (``FencedError``), so a worker that was thought dead and
comes back can change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, NoReturn

from sqlalchemy import func
from sqlalchemy.orm import Session

from cuvee.errors import FencedError, NotFoundError, SpecError
from cuvee.mixture import Mixture
from cuvee.records import CorpusManifest, EvalLoss, LossPoint, Page, Problem, Purpose, Run
from cuvee.spec import Constraints, Record, Rung
from cuvee.states import JobState, RunState
from service.db.mapping import (
    job_spec,
    mixture_of,
    objective_of,
    point_record,
    run_record,
    to_arrays,
)
from service.db.models import (
    CorpusRow,
    JobRow,
    ObservationRow,
    RunAttemptRow,
    RunLeaseRow,
    RunRow,
    new_id,
)
from service.db.repositories import jobs, runs
from service.usecases.jobs import require_job
from service.usecases.lifecycle import (
    continue_job,
    end_run,
    fail_job,
    move_run,
    requeue_run,
    unwanted,
)
from service.usecases.paging import check_limit, decode_cursor, page_of

__all__ = [
    "Directive",
    "RunLease",
    "append_point",
    "claim_run",
    "fail_run",
    "get_run",
    "list_runs",
    "lose_run",
    "observe",
    "record_artifact",
    "release_run",
    "renew_run",
    "start_run",
]

Directive = Literal["continue", "stop"]

_JOBS_TRIED = 16
_FAILURES_BEYOND_SENSE = 3


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
    run = _run_of(session, lease.run_id)
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
    job, run, _ = _held(session, run_id, attempt)
    if run.state == RunState.LEASED:
        _start(session, job, run)


def _start(session: Session, job: JobRow, run: RunRow) -> None:
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
        _fence(run_id, attempt)
    job = session.get_one(JobRow, job_id, populate_existing=True)
    return "stop" if unwanted(session, job) else "continue"


# ------------------------------------------------------------------------------------------------
# What a run says


def append_point(session: Session, run_id: str, attempt: int, point: LossPoint) -> None:
    """Add a point to the loss curve; the same point twice is one point.

    Raises:
        FencedError: If this attempt no longer holds the run.
        SpecError: If the losses are not finite or not of exactly the job's evaluation sets.
    """
    lease = runs.share_lease(session, run_id, attempt)
    if lease is None:
        _fence(run_id, attempt)
    eval_sets = session.get_one(JobRow, lease.job_id).eval_sets or []
    check_losses(point.losses, eval_sets)
    runs.add_point(
        session,
        {
            "run_seq": lease.run_seq,
            "attempt": attempt,
            "step": point.step,
            "train_tokens": point.tokens,
            "train_loss": point.train_loss,
            **to_arrays(point.losses, eval_sets),
        },
    )


def observe(
    session: Session,
    run_id: str,
    attempt: int,
    losses: Mapping[str, EvalLoss],
    train_tokens: int,
    seconds: float,
) -> bool:
    """The one door for measurements: fenced, finite, complete, and counted exactly once.

    Returns:
        True if this call counted the run; False if the same attempt had delivered it before.

    Raises:
        FencedError: If this attempt no longer holds the run.
        SpecError: If the losses are not finite or not of exactly the job's evaluation sets.
    """
    job, run = _locked(session, run_id, attempt)
    eval_sets, weights = job.eval_sets or [], job.weights or []
    check_losses(losses, eval_sets)
    if not math.isfinite(seconds) or seconds < 0 or train_tokens < 0:
        raise SpecError(
            f"seconds ({seconds}) and train_tokens ({train_tokens}) must be finite and at least 0",
            field="seconds",
        )
    if run.state == RunState.SUCCEEDED and run.attempt == attempt:
        return False
    lease = _require_held(session, run, attempt)
    if run.state == RunState.LEASED:
        _start(session, job, run)
    arrays = to_arrays(losses, eval_sets)
    objective = objective_of(arrays, weights)
    session.add(
        ObservationRow(
            run_seq=run.run_seq,
            tenant_id=run.tenant_id,
            job_id=job.id,
            attempt=attempt,
            rung=run.rung,
            objective=objective,
            train_tokens=train_tokens,
            seconds=seconds,
            **arrays,
        )
    )
    end_run(
        session,
        job,
        run,
        lease,
        RunState.SUCCEEDED,
        payload={"objective": objective, "seconds": seconds},
    )
    continue_job(session, job)
    return True


def check_losses(losses: Mapping[str, EvalLoss], eval_sets: Sequence[str]) -> None:
    """Raises SpecError unless the losses are finite and of exactly these evaluation sets."""
    missing = [name for name in eval_sets if name not in losses]
    unknown = sorted(set(losses) - set(eval_sets))
    if missing or unknown:
        raise SpecError(
            f"losses must cover the job's evaluation sets {list(eval_sets)}: "
            f"missing {missing}, unknown {unknown}",
            field="losses",
        )
    bad = [
        name
        for name, loss in losses.items()
        if not (math.isfinite(loss.nats) and math.isfinite(loss.nats_se))
    ]
    if bad:
        raise SpecError(
            f"the losses of {bad} are not finite: report the run as failed instead", field="losses"
        )


def record_artifact(
    session: Session, run_id: str, attempt: int, *, kind: str, uri: str, size: int, sha256: str
) -> None:
    """Make a finished file of this attempt official; the same file twice is recorded once.

    Args:
        session: The unit of work.
        run_id: The run it belongs to.
        attempt: The attempt that wrote it.
        kind: ``checkpoint``, ``log`` ...
        uri: Path relative to the data directory.
        size: Bytes.
        sha256: Of the content, in hexadecimal.

    Raises:
        FencedError: If this attempt no longer holds the run.
    """
    if runs.share_lease(session, run_id, attempt) is None:
        _fence(run_id, attempt)
    run = _run_of(session, run_id)
    runs.add_artifact(
        session,
        {
            "id": new_id(),
            "tenant_id": run.tenant_id,
            "run_id": run.id,
            "attempt": attempt,
            "kind": kind,
            "uri": uri,
            "bytes": size,
            "sha256": sha256,
        },
    )


# ------------------------------------------------------------------------------------------------
# Ends without a result


def fail_run(
    session: Session,
    run_id: str,
    attempt: int,
    kind: Literal["user", "infrastructure"],
    problem: Problem,
    *,
    max_attempts: int = 3,
) -> None:
    """End an attempt that failed.

    A ``user`` error is deterministic (a loss that is NaN, a mixture that cannot be drawn): the run
    fails at once. Machine trouble (``infrastructure``) sends it back to the queue until
    ``max_attempts`` attempts were lost.

    Raises:
        FencedError: If this attempt no longer holds the run.
    """
    job, run, lease = _held(session, run_id, attempt)
    if unwanted(session, job):
        end_run(session, job, run, lease, RunState.CANCELLED)
        continue_job(session, job)
    elif kind == "user":
        _fail(session, job, run, lease, problem)
    else:
        lose_run(session, job, run, lease, problem, max_attempts)


def lose_run(
    session: Session,
    job: JobRow,
    run: RunRow,
    lease: RunLeaseRow,
    problem: Problem,
    max_attempts: int,
) -> None:
    """Count an attempt of a held run as lost to machine trouble: requeue the run, or fail it.

    The caller holds the locks of the job and the lease.
    """
    losses = run.losses + 1
    if unwanted(session, job):
        end_run(session, job, run, lease, RunState.CANCELLED, losses=losses)
    elif losses >= max_attempts:
        said = Problem(
            code="attempts_exhausted",
            message=f"lost {losses} of {max_attempts} attempts, the last because: "
            f"{problem.message}",
            details={"attempts": losses, "last": problem.model_dump(mode="json")},
        )
        run.losses = losses
        _fail(session, job, run, lease, said)
        return
    else:
        requeue_run(session, job, run, lease, outcome="lost", problem=problem, losses=losses)
    continue_job(session, job)


def release_run(session: Session, run_id: str, attempt: int) -> None:
    """Give a run back unfinished, without counting it: the worker is going away.

    Also how a worker answers the directive ``stop``: a run that is no longer wanted is cancelled.

    Raises:
        FencedError: If this attempt no longer holds the run.
    """
    job, run, lease = _held(session, run_id, attempt)
    if unwanted(session, job):
        end_run(session, job, run, lease, RunState.CANCELLED)
    else:
        requeue_run(session, job, run, lease, outcome="released")
    continue_job(session, job)


def _fail(session: Session, job: JobRow, run: RunRow, lease: RunLeaseRow, problem: Problem) -> None:
    end_run(session, job, run, lease, RunState.FAILED, problem=problem)
    beyond = _beyond_sense(session, job, run, problem)
    if beyond is None:
        continue_job(session, job)
    else:
        fail_job(session, job, beyond)


def _beyond_sense(session: Session, job: JobRow, run: RunRow, problem: Problem) -> Problem | None:
    """Why a job should not go on after this failure, if it should not."""
    if job.state not in (JobState.RUNNING, JobState.PAUSING):
        return None
    counts = runs.failures(session, job.id)
    failed = sum(n for _, _, state, n in counts if state == RunState.FAILED)
    ended = failed + sum(n for _, _, state, n in counts if state == RunState.SUCCEEDED)
    if run.purpose == "verify":
        same = {
            state: n
            for purpose, label, state, n in counts
            if purpose == "verify" and label == run.label
        }
        if set(same) == {RunState.FAILED}:
            return Problem(
                code="verification_failed",
                message=f"every verification run of the {run.label} mixture failed "
                f"({same[RunState.FAILED]}), the last with: {problem.message}",
                details={"label": run.label, "last": problem.model_dump(mode="json")},
            )
    if failed >= _FAILURES_BEYOND_SENSE and 2 * failed > ended:
        return Problem(
            code="too_many_failures",
            message=f"{failed} of {ended} finished runs failed, the last with: {problem.message}",
            details={"failed": failed, "ended": ended, "last": problem.model_dump(mode="json")},
        )
    return None


# ------------------------------------------------------------------------------------------------
# Reading


def get_run(session: Session, tenant_id: str, run_id: str) -> Run:
    """A run with its loss curve.

    Raises:
        NotFoundError: If the tenant has no such run.
    """
    found = runs.find(session, tenant_id, run_id)
    if found is None:
        raise NotFoundError(f"there is no run {run_id!r}", run=run_id)
    run, job, measured, lease = found
    eval_sets = job.eval_sets or []
    curve = tuple(point_record(row, eval_sets) for row in runs.curve(session, run))
    return run_record(run, job, measured, lease, curve)


def list_runs(
    session: Session,
    tenant_id: str,
    job_ref: str,
    *,
    state: RunState | str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Run]:
    """Runs of a job, oldest first.

    Raises:
        NotFoundError: If the tenant has no such job.
        SpecError: If the limit or the cursor is wrong.
    """
    check_limit(limit)
    job = require_job(session, tenant_id, job_ref)
    wanted = None if state is None else RunState(state)
    scope = f"runs:{job.id}:{wanted or ''}"
    after = decode_cursor(cursor, scope)
    rows = runs.page(session, job.id, wanted, None if after is None else int(after), limit + 1)
    kept, following = page_of(rows, limit, scope, lambda row: row[0].run_seq)
    return Page[Run](
        items=tuple(run_record(run, job, measured, lease) for run, measured, lease in kept),
        next_cursor=following,
    )


# ------------------------------------------------------------------------------------------------
# Fences


def _fence(run_id: str, attempt: int) -> NoReturn:
    raise FencedError(
        f"attempt {attempt} no longer holds run {run_id}: it ended, was cancelled, or went to "
        "another worker; stop the work and write nothing",
        run_id=run_id,
        attempt=attempt,
    )


def _run_of(session: Session, run_id: str) -> RunRow:
    run = runs.get(session, run_id)
    assert run is not None, "a lease refers to its run by foreign key"
    return run


def _locked(session: Session, run_id: str, attempt: int) -> tuple[JobRow, RunRow]:
    job_id = runs.job_of(session, run_id)
    job = None if job_id is None else jobs.lock(session, job_id)
    if job is None:
        _fence(run_id, attempt)
    return job, _run_of(session, run_id)


def _require_held(session: Session, run: RunRow, attempt: int) -> RunLeaseRow:
    lease = runs.lock_lease(session, run.id)
    if lease is None or lease.lease_until is None or lease.attempt != attempt:
        _fence(run.id, attempt)
    return lease


def _held(session: Session, run_id: str, attempt: int) -> tuple[JobRow, RunRow, RunLeaseRow]:
    job, run = _locked(session, run_id, attempt)
    return job, run, _require_held(session, run, attempt)
