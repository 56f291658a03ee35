"""Tenants and corpora."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from cuvee.states import CorpusState
from service.db.models.base import Base, Id, one_of

__all__ = ["TenantRow", "CorpusRow"]


class TenantRow(Base):
    __tablename__ = "tenant"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CorpusRow(Base):
    """A registered corpus; while it is prepared, also the lease of the worker that does it."""

    __tablename__ = "corpus"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        one_of("state", CorpusState),
        CheckConstraint("(state = 'preparing') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint("(state = 'ready') = (manifest IS NOT NULL)", name="manifest"),
        # A failed corpus gives its name back, so that a corrected one can take it.
        Index(
            "uq_corpus_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("state <> 'failed'"),
        ),
        Index(
            "ix_corpus_name", "tenant_id", "name", "id", postgresql_where=text("name IS NOT NULL")
        ),
        Index(
            "ix_corpus_open",
            "id",
            postgresql_where=text("state IN ('registered', 'preparing')"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenant.id"))
    name: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    state: Mapped[str] = mapped_column(default=CorpusState.REGISTERED)
    manifest: Mapped[dict[str, Any] | None]
    progress: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
