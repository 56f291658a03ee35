"""Runs, their leases, and what they measure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from cuvee.states import RunState
from service.db.models.base import Base, Doubles, Id, Longs, one_of

__all__ = [
    "RunRow",
    "RunLeaseRow",
    "RunAttemptRow",
    "ObservationRow",
    "EvalPointRow",
    "ArtifactRow",
]


class RunRow(Base):
    """One evaluation of one mixture at one rung with one seed."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("run_seq"),
        UniqueConstraint("proposal_id"),
        UniqueConstraint("job_id", "run_seq"),
        ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"]),
        ForeignKeyConstraint(["proposal_id"], ["proposal.id"]),
        one_of("state", RunState),
        one_of("purpose", ("search", "verify")),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))",
            name="finished",
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_seq: Mapped[int] = mapped_column(Identity(always=True))
    tenant_id: Mapped[str] = mapped_column(Id)
    job_id: Mapped[str] = mapped_column(Id)
    proposal_id: Mapped[str] = mapped_column(Id)
    rung: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[str]
    pool: Mapped[str]
    purpose: Mapped[str]
    label: Mapped[str | None]
    reason: Mapped[str]
    state: Mapped[str] = mapped_column(default=RunState.QUEUED)
    shares: Mapped[list[float]] = mapped_column(Doubles)
    seed: Mapped[int]
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunLeaseRow(Base):
    """One row per run that is not over: free while ``lease_until`` is null, held otherwise.

    ``lease_until`` and ``progress`` are in no index, so a renewal rewrites the row in its page.
    """

    __tablename__ = "run_lease"
    __table_args__ = (
        CheckConstraint("(lease_until IS NULL) = (worker IS NULL)", name="held"),
        Index("ix_run_lease_job_id", "job_id"),
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0.0,
                "autovacuum_vacuum_threshold": 200,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("run.id"), primary_key=True)
    run_seq: Mapped[int]
    job_id: Mapped[str] = mapped_column(Id)
    pool: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_seconds: Mapped[float | None]
    lease_until: Mapped[datetime | None]
    progress: Mapped[float | None]
    progress_at: Mapped[datetime | None]


class RunAttemptRow(Base):
    """Who tried a run, when, and how the attempt ended. Never deleted."""

    __tablename__ = "run_attempt"
    __table_args__ = (
        one_of("outcome", ("succeeded", "failed", "lost", "released", "cancelled")),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
    )

    run_seq: Mapped[int] = mapped_column(ForeignKey("run.run_seq"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    claimed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]


class ObservationRow(Base):
    """What a run measured. The key on ``run_seq`` alone is what "counted once" means."""

    __tablename__ = "observation"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"]),
        ForeignKeyConstraint(
            ["run_seq", "attempt"], ["run_attempt.run_seq", "run_attempt.attempt"]
        ),
        CheckConstraint(
            "cardinality(nats) = cardinality(nats_se) AND cardinality(nats) = cardinality(tokens)"
            " AND cardinality(nats) = cardinality(bytes)",
            name="lengths",
        ),
        Index("ix_observation_best", "job_id", "rung", "objective"),
    )

    run_seq: Mapped[int] = mapped_column(
        ForeignKey("run.run_seq"), primary_key=True, autoincrement=False
    )
    tenant_id: Mapped[str] = mapped_column(Id)
    job_id: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int]
    rung: Mapped[int] = mapped_column(SmallInteger)
    nats: Mapped[list[float]] = mapped_column(Doubles)
    nats_se: Mapped[list[float]] = mapped_column(Doubles)
    tokens: Mapped[list[int]] = mapped_column(Longs)
    bytes: Mapped[list[int]] = mapped_column(Longs)
    # Derived from the arrays and the job's weights, for sorting; the arrays are the measurement.
    objective: Mapped[float]
    train_tokens: Mapped[int]
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EvalPointRow(Base):
    """One evaluation during a run: a point of its loss curve, all evaluation sets in one row."""

    __tablename__ = "eval_point"

    run_seq: Mapped[int] = mapped_column(ForeignKey("run.run_seq"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    train_tokens: Mapped[int]
    train_loss: Mapped[float | None]
    nats: Mapped[list[float]] = mapped_column(Doubles)
    nats_se: Mapped[list[float]] = mapped_column(Doubles)
    tokens: Mapped[list[int]] = mapped_column(Longs)
    bytes: Mapped[list[int]] = mapped_column(Longs)


class ArtifactRow(Base):
    """A file that belongs to a run; only a committed row makes it official."""

    __tablename__ = "artifact"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "run_id"], ["run.tenant_id", "run.id"]),
        UniqueConstraint("run_id", "attempt", "uri"),
        one_of("state", ("committed", "deleted")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id)
    run_id: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int]
    kind: Mapped[str]
    uri: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    state: Mapped[str] = mapped_column(default="committed")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
