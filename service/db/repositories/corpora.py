"""Corpora."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Text, cast, exists, func, select, update
from sqlalchemy.orm import Session

from cuvee.states import CorpusState, JobState
from service.db.mapping import is_id, is_text
from service.db.models import CorpusRow, JobRow, OutboxRow
from service.queue import PREPARE

__all__ = ["find", "lock", "lock_expired", "page", "renew", "unheard", "waiting_jobs"]


def find(session: Session, tenant_id: str, reference: str) -> CorpusRow | None:
    """By id, or else by name; of a name that failed and was taken again, the newest."""
    mine = select(CorpusRow).where(CorpusRow.tenant_id == tenant_id)
    if is_id(reference):
        found = session.scalar(mine.where(CorpusRow.id == reference))
        if found is not None:
            return found
    if not is_text(reference):
        return None
    return session.scalar(
        mine.where(CorpusRow.name == reference).order_by(CorpusRow.id.desc()).limit(1)
    )


def lock(session: Session, corpus_id: str) -> CorpusRow | None:
    if not is_id(corpus_id):
        return None
    return session.scalar(
        select(CorpusRow).where(CorpusRow.id == corpus_id).with_for_update(),
        execution_options={"populate_existing": True},
    )


def page(session: Session, tenant_id: str, before: str | None, limit: int) -> list[CorpusRow]:
    """Newest first, from just below the id ``before``."""
    query = select(CorpusRow).where(CorpusRow.tenant_id == tenant_id)
    if before is not None:
        query = query.where(CorpusRow.id < before)
    return list(session.scalars(query.order_by(CorpusRow.id.desc()).limit(limit)))


def renew(
    session: Session, corpus_id: str, attempt: int, lease_seconds: float, progress: str | None
) -> bool:
    """Extend the lease of the attempt that holds it; False if it no longer does."""
    if not is_id(corpus_id):
        return False
    renewed = session.scalar(
        update(CorpusRow)
        .where(
            CorpusRow.id == corpus_id,
            CorpusRow.attempt == attempt,
            CorpusRow.state == CorpusState.PREPARING,
        )
        .values(
            lease_until=func.now() + timedelta(seconds=lease_seconds),
            progress=func.coalesce(progress, CorpusRow.progress),
            updated_at=func.now(),
        )
        .returning(CorpusRow.id),
        execution_options={"synchronize_session": False},
    )
    return renewed is not None


def waiting_jobs(session: Session, corpus_id: str) -> list[str]:
    """Ids of jobs of a corpus that are not over and have not begun to search."""
    return list(
        session.scalars(
            select(JobRow.id)
            .where(
                JobRow.corpus_id == corpus_id,
                JobRow.domains.is_(None),
                JobRow.state.in_([JobState.ACCEPTED, JobState.RUNNING, JobState.PAUSING]),
            )
            .order_by(JobRow.id)
        )
    )


def lock_expired(session: Session, limit: int) -> list[CorpusRow]:
    """Preparations whose worker has been silent for too long."""
    return list(
        session.scalars(
            select(CorpusRow)
            .where(CorpusRow.state == CorpusState.PREPARING, CorpusRow.lease_until < func.now())
            .order_by(CorpusRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True),
            execution_options={"populate_existing": True},
        )
    )


def unheard(session: Session, older_than: float) -> list[str]:
    """Ids of registered corpora that were not rung for in ``older_than`` seconds."""
    return list(
        session.scalars(
            select(CorpusRow.id)
            .where(
                CorpusRow.state == CorpusState.REGISTERED,
                ~exists().where(
                    OutboxRow.entity_id == cast(CorpusRow.id, Text),
                    OutboxRow.task == PREPARE,
                    OutboxRow.created_at > func.now() - timedelta(seconds=older_than),
                ),
            )
            .order_by(CorpusRow.id)
        )
    )
