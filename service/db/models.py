"""Tables.

``run`` and ``job`` are addressed by UUIDv7 (ids sort by time); the big tables under them refer to
``run_seq`` and ``job_seq``, eight bytes each. Losses are arrays in the job's fixed order of
evaluation sets: one row per evaluation. ``run_lease`` is narrow and apart from ``run`` because it
is rewritten at every renewal. Documents that are never searched inside (specs, reports) are
``json``, which keeps the order of keys, and not ``jsonb``.

Nothing loads lazily: a query says what it needs.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import uuid_utils
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from cuvee.states import CorpusState, JobState, RunState

__all__ = [
    "DEFAULT_TENANT",
    "AdvanceClaimRow",
    "ArtifactRow",
    "Base",
    "CorpusRow",
    "EvalPointRow",
    "EventRow",
    "IdempotencyRow",
    "JobRow",
    "ObservationRow",
    "OutboxRow",
    "ProposalRow",
    "ReportRow",
    "RunAttemptRow",
    "RunLeaseRow",
    "RunRow",
    "TenantRow",
    "new_id",
]

DEFAULT_TENANT = "00000000-0000-7000-8000-000000000001"
"""The tenant of a server without keys; the first migration inserts it."""

Id = Uuid(as_uuid=False)
Moment = DateTime(timezone=True)
Doubles = ARRAY(Double)
Longs = ARRAY(BigInteger)


def new_id() -> str:
    """A UUIDv7: unique, and sorted by the time it was made."""
    return str(uuid_utils.uuid7())


def _one_of(column: str, values: type[StrEnum] | tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: Moment,
        dict[str, Any]: JSON(none_as_null=True),
    }


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
        _one_of("state", CorpusState, "state"),
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


class JobRow(Base):
    """A search. ``next_event_seq`` is the counter that every change of the job goes through."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("job_seq"),
        ForeignKeyConstraint(["tenant_id", "corpus_id"], ["corpus.tenant_id", "corpus.id"]),
        _one_of("state", JobState, "state"),
        _one_of("phase", ("searching", "verifying", "reporting"), "phase"),
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


class ProposalRow(Base):
    """What the engine proposed, and everything needed to compute it again."""

    __tablename__ = "proposal"
    __table_args__ = (
        UniqueConstraint("job_id", "sequence"),
        ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"]),
        _one_of("purpose", ("search", "verify"), "purpose"),
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
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


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
        _one_of("state", RunState, "state"),
        _one_of("purpose", ("search", "verify"), "purpose"),
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
        _one_of("outcome", ("succeeded", "failed", "lost", "released", "cancelled"), "outcome"),
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
        _one_of("state", ("committed", "deleted"), "state"),
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


class EventRow(Base):
    """A job's log. ``seq`` comes from the job's counter under its lock: 1, 2, 3 ... no gap."""

    __tablename__ = "event"

    job_seq: Mapped[int] = mapped_column(ForeignKey("job.job_seq"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class OutboxRow(Base):
    """A doorbell that rings once its transaction has committed."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),
        Index("ix_outbox_entity_id", "entity_id", "created_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    task: Mapped[str]
    entity_id: Mapped[str]
    queue: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]


class IdempotencyRow(Base):
    """Which resource a client's key has made."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("ix_idempotency_key_created_at", "created_at"),)

    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenant.id"), primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    resource_id: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
