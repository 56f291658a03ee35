"""Outbox and idempotency keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.db.models import IdempotencyRow, OutboxRow

__all__ = ["claim_key", "lock_unpublished", "mark_published", "purge"]


def mark_published(session: Session, row_ids: Sequence[int]) -> None:
    session.execute(
        update(OutboxRow).where(OutboxRow.id.in_(row_ids)).values(published_at=func.now()),
        execution_options={"synchronize_session": False},
    )


def lock_unpublished(session: Session, limit: int, older_than: float) -> list[OutboxRow]:
    """Unpublished rows, oldest first, locked; rows locked by another relay are passed over.

    Rows younger than ``older_than`` seconds are left out: the edge that wrote them publishes them.
    """
    return list(
        session.scalars(
            select(OutboxRow)
            .where(
                OutboxRow.published_at.is_(None),
                OutboxRow.created_at <= func.now() - timedelta(seconds=older_than),
            )
            .order_by(OutboxRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )


def claim_key(
    session: Session,
    tenant_id: str,
    operation: str,
    key: str,
    request_hash: str,
    resource_id: str,
) -> IdempotencyRow | None:
    """Claim a key for a new resource; None if it is ours, else the row of whoever was first.

    A concurrent claim of the same key waits here until the other transaction has ended.
    """
    made = session.scalar(
        insert(IdempotencyRow)
        .values(
            tenant_id=tenant_id,
            operation=operation,
            key=key,
            request_hash=request_hash,
            resource_id=resource_id,
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyRow.key)
    )
    if made is not None:
        return None
    return session.get_one(IdempotencyRow, (tenant_id, operation, key))


def purge(session: Session, outbox_hours: float, key_hours: float) -> int:
    """Delete published messages and idempotency keys past their retention; rows deleted."""
    messages = session.scalars(
        delete(OutboxRow)
        .where(OutboxRow.published_at < func.now() - timedelta(hours=outbox_hours))
        .returning(OutboxRow.id),
        execution_options={"synchronize_session": False},
    ).all()
    keys = session.scalars(
        delete(IdempotencyRow)
        .where(IdempotencyRow.created_at < func.now() - timedelta(hours=key_hours))
        .returning(IdempotencyRow.key),
        execution_options={"synchronize_session": False},
    ).all()
    return len(messages) + len(keys)
