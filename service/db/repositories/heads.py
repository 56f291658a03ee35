"""How far the logs of jobs are: the one question that the feed of events asks all the time."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from cuvee.states import JobState
from service.db.models import JobRow

__all__ = ["event_heads"]


def event_heads(session: Session, job_ids: Collection[str]) -> dict[str, tuple[int, bool]]:
    """By job: the sequence number of its last event (0 without one), and whether it has ended."""
    rows = session.execute(
        select(JobRow.id, JobRow.next_event_seq, JobRow.state).where(JobRow.id.in_(job_ids))
    )
    return {row.id: (row.next_event_seq - 1, JobState(row.state).terminal) for row in rows}
