"""Runs, leases, attempts, observations and loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from cuvee.states import JobState, RunState
from service.db.mapping import is_id
from service.db.models import (
    ArtifactRow,
    EvalPointRow,
    JobRow,
    ObservationRow,
    OutboxRow,
    ProposalRow,
    RunAttemptRow,
    RunLeaseRow,
    RunRow,
)
from service.queue import EXECUTE

__all__ = [
    "add",
    "add_artifact",
    "add_point",
    "attempt",
    "claimable_jobs",
    "curve",
    "expired",
    "failures",
    "find",
    "free_leases",
    "get",
    "idle_leases",
    "is_expired",
    "in_flight",
    "job_of",
    "leases",
    "lock_free_lease",
    "lock_lease",
    "observation",
    "page",
    "renew",
    "share_lease",
    "worth",
]


_Document: TypeAlias = dict[str, Any] | None
"""A column that holds a record, or nothing."""


def add(session: Session, rows: Sequence[RunRow]) -> None:
    """Insert runs and make each claimable; their ``run_seq`` follows the order given."""
    for row in rows:
        session.add(row)
        session.flush()
    session.add_all(
        RunLeaseRow(run_id=row.id, run_seq=row.run_seq, job_id=row.job_id, pool=row.pool)
        for row in rows
    )
    session.flush()


def worth(session: Session, job_id: str) -> int:
    """Runs of a job that count as work: all but the cancelled."""
    return session.scalars(
        select(func.count())
        .select_from(RunRow)
        .where(RunRow.job_id == job_id, RunRow.state != RunState.CANCELLED)
    ).one()


def get(session: Session, run_id: str) -> RunRow | None:
    """The run's row, fresh; the caller holds the job's lock if it means to change it."""
    return session.scalar(
        select(RunRow).where(RunRow.id == run_id), execution_options={"populate_existing": True}
    )


def job_of(session: Session, run_id: str) -> str | None:
    """The id of a run's job."""
    if not is_id(run_id):
        return None
    return session.scalar(select(RunRow.job_id).where(RunRow.id == run_id))


def find(
    session: Session, tenant_id: str, run_id: str
) -> tuple[RunRow, JobRow, ObservationRow | None, RunLeaseRow | None, _Document] | None:
    """A run with its job, measurement, lease and the proposal's explanation."""
    if not is_id(run_id):
        return None
    row = session.execute(
        select(RunRow, JobRow, ObservationRow, RunLeaseRow, ProposalRow.explanation)
        .join(ProposalRow, ProposalRow.id == RunRow.proposal_id)
        .join(JobRow, JobRow.id == RunRow.job_id)
        .outerjoin(ObservationRow, ObservationRow.run_seq == RunRow.run_seq)
        .outerjoin(RunLeaseRow, RunLeaseRow.run_id == RunRow.id)
        .where(RunRow.tenant_id == tenant_id, RunRow.id == run_id)
    ).one_or_none()
    return None if row is None else row


def page(
    session: Session, job_id: str, state: RunState | None, after: int | None, limit: int
) -> list[tuple[RunRow, ObservationRow | None, RunLeaseRow | None, _Document]]:
    """Oldest first, from just above ``run_seq`` ``after``; with the proposals' explanations."""
    query = (
        select(RunRow, ObservationRow, RunLeaseRow, ProposalRow.explanation)
        .join(ProposalRow, ProposalRow.id == RunRow.proposal_id)
        .outerjoin(ObservationRow, ObservationRow.run_seq == RunRow.run_seq)
        .outerjoin(RunLeaseRow, RunLeaseRow.run_id == RunRow.id)
        .where(RunRow.job_id == job_id)
    )
    if state is not None:
        query = query.where(RunRow.state == state)
    if after is not None:
        query = query.where(RunRow.run_seq > after)
    return list(session.execute(query.order_by(RunRow.run_seq).limit(limit)))


def in_flight(session: Session, job_id: str, purpose: str | None = None) -> int:
    """Runs of a job that are not over, of one purpose if given."""
    query = select(func.count()).select_from(RunLeaseRow).where(RunLeaseRow.job_id == job_id)
    if purpose is not None:
        query = query.join(RunRow, RunRow.id == RunLeaseRow.run_id).where(RunRow.purpose == purpose)
    return session.scalars(query).one()


def leases(session: Session, job_id: str, *, held: bool | None = None) -> list[RunLeaseRow]:
    """Leases of a job, locked, oldest run first; all, or only those (not) held by a worker."""
    query = select(RunLeaseRow).where(RunLeaseRow.job_id == job_id)
    if held is not None:
        query = query.where(
            RunLeaseRow.lease_until.is_not(None) if held else RunLeaseRow.lease_until.is_(None)
        )
    return list(
        session.scalars(
            query.order_by(RunLeaseRow.run_seq).with_for_update(),
            execution_options={"populate_existing": True},
        )
    )


def free_leases(session: Session, job_id: str, limit: int) -> list[RunLeaseRow]:
    """Runs of a job that wait for a worker, oldest first; not locked."""
    return list(
        session.scalars(
            select(RunLeaseRow)
            .where(RunLeaseRow.job_id == job_id, RunLeaseRow.lease_until.is_(None))
            .order_by(RunLeaseRow.run_seq)
            .limit(limit)
        )
    )


def claimable_jobs(session: Session, pool: str, limit: int) -> list[str]:
    """Ids of running jobs with a run free in ``pool`` and room for it, oldest free run first."""
    per_job = (
        select(
            RunLeaseRow.job_id,
            func.min(RunLeaseRow.run_seq)
            .filter(RunLeaseRow.lease_until.is_(None), RunLeaseRow.pool == pool)
            .label("oldest"),
            func.count().filter(RunLeaseRow.lease_until.is_not(None)).label("held"),
        )
        .group_by(RunLeaseRow.job_id)
        .subquery()
    )
    return list(
        session.scalars(
            select(JobRow.id)
            .join(per_job, per_job.c.job_id == JobRow.id)
            .where(
                JobRow.state == JobState.RUNNING,
                per_job.c.oldest.is_not(None),
                per_job.c.held < JobRow.concurrency,
            )
            .order_by(per_job.c.oldest)
            .limit(limit)
        )
    )


def lock_free_lease(session: Session, job: JobRow, pool: str) -> RunLeaseRow | None:
    """The oldest free run of a locked job, locked, if the job has room for one more."""
    held = session.scalars(
        select(func.count())
        .select_from(RunLeaseRow)
        .where(RunLeaseRow.job_id == job.id, RunLeaseRow.lease_until.is_not(None))
    ).one()
    if held >= job.concurrency:
        return None
    return session.scalar(
        select(RunLeaseRow)
        .where(
            RunLeaseRow.job_id == job.id,
            RunLeaseRow.pool == pool,
            RunLeaseRow.lease_until.is_(None),
        )
        .order_by(RunLeaseRow.run_seq)
        .limit(1)
        .with_for_update(skip_locked=True),
        execution_options={"populate_existing": True},
    )


def lock_lease(session: Session, run_id: str) -> RunLeaseRow | None:
    return session.scalar(
        select(RunLeaseRow).where(RunLeaseRow.run_id == run_id).with_for_update(),
        execution_options={"populate_existing": True},
    )


def share_lease(session: Session, run_id: str, attempt: int) -> RunLeaseRow | None:
    """The lease if this attempt holds it; nobody can take it until the transaction ends."""
    if not is_id(run_id):
        return None
    return session.scalar(
        select(RunLeaseRow)
        .where(
            RunLeaseRow.run_id == run_id,
            RunLeaseRow.attempt == attempt,
            RunLeaseRow.lease_until.is_not(None),
        )
        .with_for_update(read=True),
        execution_options={"populate_existing": True},
    )


def renew(session: Session, run_id: str, attempt: int, progress: float | None) -> str | None:
    """Extend a held lease and record progress; the job's id, or None if it is not held."""
    if not is_id(run_id):
        return None
    values: dict[str, Any] = {
        "lease_until": func.now() + RunLeaseRow.lease_seconds * text("interval '1 second'")
    }
    if progress is not None:
        advanced = or_(RunLeaseRow.progress.is_(None), RunLeaseRow.progress < progress)
        values["progress_at"] = case((advanced, func.now()), else_=RunLeaseRow.progress_at)
        values["progress"] = progress
    return session.scalar(
        update(RunLeaseRow)
        .where(
            RunLeaseRow.run_id == run_id,
            RunLeaseRow.attempt == attempt,
            RunLeaseRow.lease_until.is_not(None),
        )
        .values(values)
        .returning(RunLeaseRow.job_id),
        execution_options={"synchronize_session": False},
    )


def attempt(session: Session, run: RunRow, number: int) -> RunAttemptRow | None:
    return session.get(RunAttemptRow, (run.run_seq, number))


def observation(session: Session, run: RunRow) -> ObservationRow | None:
    return session.get(ObservationRow, run.run_seq)


def add_point(session: Session, values: dict[str, Any]) -> None:
    """Insert a point of a curve; the same point twice is one point."""
    session.execute(insert(EvalPointRow).values(values).on_conflict_do_nothing())


def curve(session: Session, run: RunRow) -> list[EvalPointRow]:
    """The loss curve of a run's current attempt, and before its first point of earlier ones.

    A resumed attempt goes on where an earlier one saved its state; a step measured by both is
    taken from the later.
    """
    rows = session.scalars(
        select(EvalPointRow)
        .where(EvalPointRow.run_seq == run.run_seq)
        .order_by(EvalPointRow.step, EvalPointRow.attempt)
    )
    return list({row.step: row for row in rows}.values())


def add_artifact(session: Session, values: dict[str, Any]) -> None:
    """Record a finished file; the same file twice is one row."""
    session.execute(
        insert(ArtifactRow)
        .values(values)
        .on_conflict_do_nothing(index_elements=["run_id", "attempt", "uri"])
    )


def failures(session: Session, job_id: str) -> list[tuple[str, str | None, str, int]]:
    """Counts of finished runs: ``(purpose, label, state, count)``."""
    rows = session.execute(
        select(RunRow.purpose, RunRow.label, RunRow.state, func.count())
        .where(RunRow.job_id == job_id)
        .group_by(RunRow.purpose, RunRow.label, RunRow.state)
    )
    return list(rows)


def _is_lost(stall_seconds: float) -> ColumnElement[bool]:
    stalled = RunLeaseRow.progress_at < func.now() - timedelta(seconds=stall_seconds)
    return and_(
        RunLeaseRow.lease_until.is_not(None), or_(RunLeaseRow.lease_until < func.now(), stalled)
    )


def expired(session: Session, stall_seconds: float, limit: int) -> list[tuple[str, str]]:
    """Pairs (job id, run id) whose worker is silent, or renews without getting anywhere."""
    rows = session.execute(
        select(RunLeaseRow.job_id, RunLeaseRow.run_id)
        .where(_is_lost(stall_seconds))
        .order_by(RunLeaseRow.job_id, RunLeaseRow.run_seq)
        .limit(limit)
    )
    return list(rows)


def is_expired(session: Session, run_id: str, stall_seconds: float) -> bool:
    """The same question about one run, for the caller that holds its lock."""
    query = select(RunLeaseRow.run_id).where(RunLeaseRow.run_id == run_id, _is_lost(stall_seconds))
    return session.scalar(query) is not None


def idle_leases(session: Session, older_than: float) -> Sequence[RunLeaseRow]:
    """Free runs of running jobs with room that were not rung for in ``older_than`` seconds."""
    held = (
        select(RunLeaseRow.job_id, func.count().label("held"))
        .where(RunLeaseRow.lease_until.is_not(None))
        .group_by(RunLeaseRow.job_id)
        .subquery()
    )
    return session.scalars(
        select(RunLeaseRow)
        .join(JobRow, JobRow.id == RunLeaseRow.job_id)
        .outerjoin(held, held.c.job_id == RunLeaseRow.job_id)
        .where(
            JobRow.state == JobState.RUNNING,
            RunLeaseRow.lease_until.is_(None),
            func.coalesce(held.c.held, 0) < JobRow.concurrency,
            ~exists().where(
                OutboxRow.entity_id == cast(RunLeaseRow.run_id, Text),
                OutboxRow.task == EXECUTE,
                OutboxRow.created_at > func.now() - timedelta(seconds=older_than),
            ),
        )
        .order_by(RunLeaseRow.run_seq)
    ).all()
