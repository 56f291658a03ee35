"""Jobs, their events, the claim on their next decision, and their reports.

Everything that changes a job locks its row first. The order of locks is corpus, job, run, lease.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, cast, delete, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from cuvee.states import CorpusState, JobState
from service.db.mapping import is_id, is_text
from service.db.models import (
    AdvanceClaimRow,
    CorpusRow,
    EventRow,
    JobRow,
    OutboxRow,
    ReportRow,
    RunLeaseRow,
)
from service.queue import ADVANCE

__all__ = [
    "append_event",
    "claim",
    "diagnosis",
    "drop_claim",
    "due_for_advance",
    "events",
    "expired_claims",
    "find",
    "lock",
    "now",
    "older_than",
    "page",
    "report",
    "save_report",
    "unsettled",
]


def now(session: Session) -> datetime:
    """The database's clock: the only one whose readings are compared."""
    return session.scalars(select(func.now())).one()


def find(session: Session, tenant_id: str, reference: str) -> JobRow | None:
    """By id, or else by name; of a name that was taken again, the newest."""
    mine = select(JobRow).where(JobRow.tenant_id == tenant_id)
    if is_id(reference):
        found = session.scalar(mine.where(JobRow.id == reference))
        if found is not None:
            return found
    if not is_text(reference):
        return None
    return session.scalar(mine.where(JobRow.name == reference).order_by(JobRow.id.desc()).limit(1))


def lock(session: Session, job_id: str) -> JobRow | None:
    """The job's row, fresh and locked until the transaction ends."""
    if not is_id(job_id):
        return None
    return session.scalar(
        select(JobRow).where(JobRow.id == job_id).with_for_update(),
        execution_options={"populate_existing": True},
    )


def page(
    session: Session, tenant_id: str, state: JobState | None, before: str | None, limit: int
) -> list[JobRow]:
    """Newest first, from just below the id ``before``."""
    query = select(JobRow).where(JobRow.tenant_id == tenant_id)
    if state is not None:
        query = query.where(JobRow.state == state)
    if before is not None:
        query = query.where(JobRow.id < before)
    return list(session.scalars(query.order_by(JobRow.id.desc()).limit(limit)))


def diagnosis(session: Session, job_id: str) -> dict[str, Any] | None:
    """The objective doctor's findings; None until there are any."""
    found: dict[str, Any] | None = session.scalars(
        select(JobRow.diagnosis).where(JobRow.id == job_id)
    ).one()
    return found


def append_event(session: Session, job: JobRow, type_: str, payload: dict[str, Any]) -> int:
    """Append to the log of a job that the caller has locked; returns the sequence number."""
    seq = job.next_event_seq
    job.next_event_seq = seq + 1
    job.version += 1
    job.updated_at = func.now()
    session.add(EventRow(job_seq=job.job_seq, seq=seq, type=type_, payload=payload))
    return seq


def events(session: Session, job_id: str, after: int, limit: int) -> list[EventRow]:
    """Events above ``after``, in order; none of a job that does not exist."""
    if not is_id(job_id):
        return []
    return list(
        session.scalars(
            select(EventRow)
            .join(JobRow, JobRow.job_seq == EventRow.job_seq)
            .where(JobRow.id == job_id, EventRow.seq > after)
            .order_by(EventRow.seq)
            .limit(limit)
        )
    )


def claim(session: Session, job_id: str) -> AdvanceClaimRow | None:
    return session.scalar(
        select(AdvanceClaimRow).where(AdvanceClaimRow.job_id == job_id),
        execution_options={"populate_existing": True},
    )


def drop_claim(session: Session, job_id: str) -> None:
    session.execute(
        delete(AdvanceClaimRow).where(AdvanceClaimRow.job_id == job_id),
        execution_options={"synchronize_session": "fetch"},
    )


def expired_claims(session: Session) -> list[str]:
    """Ids of jobs whose decision was claimed by somebody who has not come back in time."""
    return list(
        session.scalars(
            select(AdvanceClaimRow.job_id)
            .where(AdvanceClaimRow.expires_at < func.now())
            .order_by(AdvanceClaimRow.job_id)
        )
    )


def due_for_advance(session: Session, older_than: float) -> list[str]:
    """Ids of jobs that could take a decision and were not rung for in ``older_than`` seconds."""
    in_flight = (
        select(func.count())
        .select_from(RunLeaseRow)
        .where(RunLeaseRow.job_id == JobRow.id)
        .scalar_subquery()
    )
    return list(
        session.scalars(
            select(JobRow.id)
            .join(
                CorpusRow,
                tuple_(CorpusRow.tenant_id, CorpusRow.id)
                == tuple_(JobRow.tenant_id, JobRow.corpus_id),
            )
            .where(
                JobRow.state.in_([JobState.ACCEPTED, JobState.RUNNING]),
                CorpusRow.state.in_([CorpusState.READY, CorpusState.FAILED]),
                in_flight < JobRow.concurrency,
                or_(JobRow.phase == "searching", in_flight == 0),
                ~exists().where(AdvanceClaimRow.job_id == JobRow.id),
                ~exists().where(
                    OutboxRow.entity_id == cast(JobRow.id, Text),
                    OutboxRow.task == ADVANCE,
                    OutboxRow.created_at > func.now() - timedelta(seconds=older_than),
                ),
            )
            .order_by(JobRow.id)
        )
    )


def unsettled(session: Session, cancel_seconds: float) -> list[str]:
    """Ids of jobs that should leave their state now.

    Those pausing or cancelling with no run held by a worker, those cancelling for longer than
    ``cancel_seconds``, and those past their deadline with runs in flight.
    """
    held = exists().where(RunLeaseRow.job_id == JobRow.id, RunLeaseRow.lease_until.is_not(None))
    in_flight = exists().where(RunLeaseRow.job_id == JobRow.id)
    patience = func.now() - timedelta(seconds=cancel_seconds)
    return list(
        session.scalars(
            select(JobRow.id)
            .where(
                JobRow.state.in_([JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING]),
                or_(
                    JobRow.state.in_([JobState.PAUSING, JobState.CANCELLING]) & ~held,
                    (JobRow.state == JobState.CANCELLING) & (JobRow.state_since < patience),
                    (JobRow.state == JobState.RUNNING)
                    & (JobRow.deadline_at < func.now())
                    & in_flight,
                ),
            )
            .order_by(JobRow.id)
        )
    )


def older_than(session: Session, moment: datetime, seconds: float) -> bool:
    return moment < now(session) - timedelta(seconds=seconds)


def report(session: Session, job_id: str) -> ReportRow | None:
    return session.get(ReportRow, job_id, populate_existing=True)


def save_report(
    session: Session,
    job: JobRow,
    *,
    recommendation: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
) -> None:
    """Store the recommendation or the report of a job that the caller has locked."""
    row = report(session, job.id)
    if row is None:
        row = ReportRow(job_id=job.id, tenant_id=job.tenant_id)
        session.add(row)
    if recommendation is not None:
        row.recommendation = recommendation
    if body is not None:
        row.report = body
    row.updated_at = func.now()
