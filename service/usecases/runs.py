"""What a run says, how it fails, and how it is read.

The lease under which all of this happens is in ``leases``; workers find its functions here too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from sqlalchemy.orm import Session

from cuvee.errors import NotFoundError, SpecError
from cuvee.records import EvalLoss, LossPoint, Page, Problem, Run, measured_objective
from cuvee.states import RunState
from service.db.mapping import (
    job_spec,
    point_record,
    run_record,
    to_arrays,
)
from service.db.models import (
    JobRow,
    ObservationRow,
    RunLeaseRow,
    RunRow,
    new_id,
)
from service.db.repositories import runs
from service.usecases.failures import beyond_sense
from service.usecases.jobs import require_job
from service.usecases.leases import Directive as Directive
from service.usecases.leases import RunLease as RunLease
from service.usecases.leases import claim_run as claim_run
from service.usecases.leases import fence, hold, lock_run, require_held, run_of, start
from service.usecases.leases import release_run as release_run
from service.usecases.leases import renew_run as renew_run
from service.usecases.leases import start_run as start_run
from service.usecases.lifecycle import (
    continue_job,
    end_run,
    fail_job,
    requeue_run,
    unwanted,
)
from service.usecases.paging import check_limit, decode_cursor, is_sequence, page_of

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
        fence(run_id, attempt)
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
    job, run = lock_run(session, run_id, attempt)
    eval_sets = job.eval_sets or []
    check_losses(losses, eval_sets)
    if not math.isfinite(seconds) or seconds < 0 or train_tokens < 0:
        raise SpecError(
            f"seconds ({seconds}) and train_tokens ({train_tokens}) must be finite and at least 0",
            field="seconds",
        )
    if run.state == RunState.SUCCEEDED and run.attempt == attempt:
        return False
    lease = require_held(session, run, attempt)
    if run.state == RunState.LEASED:
        start(session, job, run)
    arrays = to_arrays(losses, eval_sets)
    weights = dict(zip(eval_sets, job.weights or [], strict=True))
    objective = measured_objective(job_spec(job).objective, weights, losses)
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
        fence(run_id, attempt)
    run = run_of(session, run_id)
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
    job, run, lease = hold(session, run_id, attempt)
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


def _fail(session: Session, job: JobRow, run: RunRow, lease: RunLeaseRow, problem: Problem) -> None:
    end_run(session, job, run, lease, RunState.FAILED, problem=problem)
    beyond = beyond_sense(session, job, run, problem)
    if beyond is None:
        continue_job(session, job)
    else:
        fail_job(session, job, beyond)


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
    run, job, measured, lease, explanation = found
    eval_sets = job.eval_sets or []
    curve = tuple(point_record(row, eval_sets) for row in runs.curve(session, run))
    return run_record(run, job, measured, lease, explanation, curve)


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
    after = decode_cursor(cursor, scope, is_sequence)
    rows = runs.page(session, job.id, wanted, None if after is None else int(after), limit + 1)
    kept, following = page_of(rows, limit, scope, lambda row: row[0].run_seq)
    return Page[Run](
        items=tuple(
            run_record(run, job, measured, lease, explanation)
            for run, measured, lease, explanation in kept
        ),
        next_cursor=following,
    )
