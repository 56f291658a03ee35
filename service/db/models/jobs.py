"""Jobs, their log, their decisions and their reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cuvee.states import JobState
from service.db.models.base import Base, Doubles, Id, one_of
from service.db.models.corpora import CorpusRow

__all__ = ["JobRow", "EventRow", "AdvanceClaimRow", "ProposalRow", "ReportRow"]


class JobRow(Base):
    """A search. ``next_event_seq`` is the counter that every change of the job goes through."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("job_seq"),
        ForeignKeyConstraint(["tenant_id", "corpus_id"], ["corpus.tenant_id", "corpus.id"]),
        one_of("state", JobState),
        one_of("phase", ("searching", "verifying", "reporting")),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))",
            name="finished",
        ),
        Index(
            "uq_job_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("state NOT IN ('failed', 'cancelled')"),
        ),
        Index("ix_job_name", "tenant_id", "name", "id", postgresql_where=text("name IS NOT NULL")),
        Index("ix_job_corpus_id", "corpus_id"),
        Index(
            "ix_job_open",
            "id",
            postgresql_where=text("state NOT IN ('succeeded', 'failed', 'cancelled')"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_seq: Mapped[int] = mapped_column(Identity(always=True))
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenant.id"))
    corpus_id: Mapped[str] = mapped_column(Id)
    name: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    spec_version: Mapped[int] = mapped_column(SmallInteger, default=1)
    seed: Mapped[int]
    concurrency: Mapped[int]
    state: Mapped[str] = mapped_column(default=JobState.ACCEPTED)
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())
    phase: Mapped[str] = mapped_column(default="searching")
    version: Mapped[int] = mapped_column(default=1)
    next_event_seq: Mapped[int] = mapped_column(default=1)
    next_proposal: Mapped[int] = mapped_column(default=1)
    # Fixed when the corpus is ready; the arrays below a job are in these orders.
    domains: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    eval_sets: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    weights: Mapped[list[float] | None] = mapped_column(Doubles)
    runs_planned: Mapped[int | None]
    # Ids of the jobs that the search starts warm from, as their names were understood.
    warm_start: Mapped[list[str] | None] = mapped_column(ARRAY(Id))
    # The objective doctor's findings; as long as a job has evaluation sets, so read when asked for.
    diagnosis: Mapped[dict[str, Any] | None] = mapped_column(deferred=True, deferred_raiseload=True)
    deadline_at: Mapped[datetime | None]
    stop_reason: Mapped[str | None]
    # Digest of the history from which the engine last proposed nothing; asking again is pointless.
    settled_digest: Mapped[str | None]
    advance_losses: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    corpus: Mapped[CorpusRow] = relationship(lazy="raise", viewonly=True)


class EventRow(Base):
    """A job's log. ``seq`` comes from the job's counter under its lock: 1, 2, 3 ... no gap."""

    __tablename__ = "event"

    job_seq: Mapped[int] = mapped_column(ForeignKey("job.job_seq"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AdvanceClaimRow(Base):
    """Who is computing a job's next decision, until when, and from exactly which history."""

    __tablename__ = "advance_claim"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("job.id"), primary_key=True)
    token: Mapped[str] = mapped_column(Id)
    worker: Mapped[str]
    claimed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    high_water: Mapped[int]
    digest: Mapped[str]
    pending: Mapped[list[str]] = mapped_column(ARRAY(Id))
    seed: Mapped[int]


class ProposalRow(Base):
    """What the engine proposed, and everything needed to compute it again."""

    __tablename__ = "proposal"
    __table_args__ = (
        UniqueConstraint("job_id", "sequence"),
        ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"]),
        one_of("purpose", ("search", "verify")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id)
    job_id: Mapped[str] = mapped_column(Id)
    sequence: Mapped[int]
    strategy: Mapped[str]
    engine_version: Mapped[str]
    observation_digest: Mapped[str]
    high_water: Mapped[int]
    pending: Mapped[list[str]] = mapped_column(ARRAY(Id))
    seed: Mapped[int]
    purpose: Mapped[str]
    reason: Mapped[str]
    predicted: Mapped[dict[str, Any]]
    acquisition: Mapped[float | None]
    explanation: Mapped[dict[str, Any] | None]
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReportRow(Base):
    """The recommendation under verification and, at the end, the report."""

    __tablename__ = "report"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"]),)

    job_id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id)
    recommendation: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
