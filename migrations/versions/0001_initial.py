"""The first schema.

Why: corpora, jobs, runs and their leases, observations, events, and the outbox.

Revision: 0001, after nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The tenant of a server without keys, as in service.db.models; spelled out, because a migration
# must keep meaning what it meant.
DEFAULT_TENANT = "00000000-0000-7000-8000-000000000001"


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_entity_id", "outbox", ["entity_id", "created_at"], unique=False)
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["id"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "corpus",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("manifest", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("losses", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(state = 'preparing') = (lease_until IS NOT NULL)", name=op.f("ck_corpus_lease")
        ),
        sa.CheckConstraint(
            "(state = 'ready') = (manifest IS NOT NULL)", name=op.f("ck_corpus_manifest")
        ),
        sa.CheckConstraint(
            "state IN ('registered', 'preparing', 'ready', 'failed')", name=op.f("ck_corpus_state")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_corpus_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corpus")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_corpus_tenant_id_id")),
    )
    op.create_index(
        "ix_corpus_name",
        "corpus",
        ["tenant_id", "name", "id"],
        unique=False,
        postgresql_where=sa.text("name IS NOT NULL"),
    )
    op.create_index(
        "ix_corpus_open",
        "corpus",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state IN ('registered', 'preparing')"),
    )
    op.create_index(
        "uq_corpus_name",
        "corpus",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("state <> 'failed'"),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("fk_idempotency_key_tenant_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "operation", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(
        "ix_idempotency_key_created_at", "idempotency_key", ["created_at"], unique=False
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("job_seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("corpus_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("spec_version", sa.SmallInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("concurrency", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "state_since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("next_event_seq", sa.BigInteger(), nullable=False),
        sa.Column("next_proposal", sa.BigInteger(), nullable=False),
        sa.Column("domains", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("eval_sets", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("weights", sa.ARRAY(sa.Double()), nullable=True),
        sa.Column("runs_planned", sa.BigInteger(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("settled_digest", sa.Text(), nullable=True),
        sa.Column("advance_losses", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))",
            name=op.f("ck_job_finished"),
        ),
        sa.CheckConstraint(
            "phase IN ('searching', 'verifying', 'reporting')", name=op.f("ck_job_phase")
        ),
        sa.CheckConstraint(
            "state IN ('accepted', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled')",  # noqa: E501
            name=op.f("ck_job_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "corpus_id"],
            ["corpus.tenant_id", "corpus.id"],
            name=op.f("fk_job_tenant_id_corpus_id"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_job_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("job_seq", name=op.f("uq_job_job_seq")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_job_tenant_id_id")),
    )
    op.create_index("ix_job_corpus_id", "job", ["corpus_id"], unique=False)
    op.create_index(
        "ix_job_name",
        "job",
        ["tenant_id", "name", "id"],
        unique=False,
        postgresql_where=sa.text("name IS NOT NULL"),
    )
    op.create_index(
        "ix_job_open",
        "job",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('succeeded', 'failed', 'cancelled')"),
    )
    op.create_index(
        "uq_job_name",
        "job",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('failed', 'cancelled')"),
    )
    op.create_table(
        "advance_claim",
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("token", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("high_water", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("pending", sa.ARRAY(sa.Uuid(as_uuid=False)), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_advance_claim_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_advance_claim")),
    )
    op.create_table(
        "event",
        sa.Column("job_seq", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_event_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", "seq", name=op.f("pk_event")),
    )
    op.create_table(
        "proposal",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("engine_version", sa.Text(), nullable=False),
        sa.Column("observation_digest", sa.Text(), nullable=False),
        sa.Column("high_water", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.ARRAY(sa.Uuid(as_uuid=False)), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("predicted", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("acquisition", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("purpose IN ('search', 'verify')", name=op.f("ck_proposal_purpose")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["job.tenant_id", "job.id"],
            name=op.f("fk_proposal_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
        sa.UniqueConstraint("job_id", "sequence", name=op.f("uq_proposal_job_id_sequence")),
    )
    op.create_table(
        "report",
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("recommendation", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["job.tenant_id", "job.id"],
            name=op.f("fk_report_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_report")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("run_seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("proposal_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("rung", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("shares", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("losses", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))",
            name=op.f("ck_run_finished"),
        ),
        sa.CheckConstraint("purpose IN ('search', 'verify')", name=op.f("ck_run_purpose")),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_run_state"),
        ),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposal.id"], name=op.f("fk_run_proposal_id")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["job.tenant_id", "job.id"],
            name=op.f("fk_run_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("job_id", "run_seq", name=op.f("uq_run_job_id_run_seq")),
        sa.UniqueConstraint("proposal_id", name=op.f("uq_run_proposal_id")),
        sa.UniqueConstraint("run_seq", name=op.f("uq_run_run_seq")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_run_tenant_id_id")),
    )
    op.create_table(
        "artifact",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("state IN ('committed', 'deleted')", name=op.f("ck_artifact_state")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "run_id"],
            ["run.tenant_id", "run.id"],
            name=op.f("fk_artifact_tenant_id_run_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint(
            "run_id", "attempt", "uri", name=op.f("uq_artifact_run_id_attempt_uri")
        ),
    )
    op.create_table(
        "eval_point",
        sa.Column("run_seq", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("train_tokens", sa.BigInteger(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("nats", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("nats_se", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("tokens", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("bytes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.ForeignKeyConstraint(["run_seq"], ["run.run_seq"], name=op.f("fk_eval_point_run_seq")),
        sa.PrimaryKeyConstraint("run_seq", "attempt", "step", name=op.f("pk_eval_point")),
    )
    op.create_table(
        "run_attempt",
        sa.Column("run_seq", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'lost', 'released', 'cancelled')",
            name=op.f("ck_run_attempt_outcome"),
        ),
        sa.CheckConstraint(
            "(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_run_attempt_ended")
        ),
        sa.ForeignKeyConstraint(["run_seq"], ["run.run_seq"], name=op.f("fk_run_attempt_run_seq")),
        sa.PrimaryKeyConstraint("run_seq", "attempt", name=op.f("pk_run_attempt")),
    )
    op.create_table(
        "run_lease",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("run_seq", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_seconds", sa.Double(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.Double(), nullable=True),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(lease_until IS NULL) = (worker IS NULL)", name=op.f("ck_run_lease_held")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_lease_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_lease")),
        postgresql_with={
            "fillfactor": 50,
            "autovacuum_vacuum_scale_factor": 0.0,
            "autovacuum_vacuum_threshold": 200,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_index("ix_run_lease_job_id", "run_lease", ["job_id"], unique=False)
    op.create_table(
        "observation",
        sa.Column("run_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("rung", sa.SmallInteger(), nullable=False),
        sa.Column("nats", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("nats_se", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("tokens", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("bytes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("objective", sa.Double(), nullable=False),
        sa.Column("train_tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "cardinality(nats) = cardinality(nats_se) AND cardinality(nats) = cardinality(tokens) AND cardinality(nats) = cardinality(bytes)",  # noqa: E501
            name=op.f("ck_observation_lengths"),
        ),
        sa.ForeignKeyConstraint(
            ["run_seq", "attempt"],
            ["run_attempt.run_seq", "run_attempt.attempt"],
            name=op.f("fk_observation_run_seq_attempt"),
        ),
        sa.ForeignKeyConstraint(["run_seq"], ["run.run_seq"], name=op.f("fk_observation_run_seq")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["job.tenant_id", "job.id"],
            name=op.f("fk_observation_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("run_seq", name=op.f("pk_observation")),
    )
    op.create_index(
        "ix_observation_best", "observation", ["job_id", "rung", "objective"], unique=False
    )
    op.execute(f"INSERT INTO tenant (id, name) VALUES ('{DEFAULT_TENANT}', 'default')")


def downgrade() -> None:
    op.drop_index("ix_observation_best", table_name="observation")
    op.drop_table("observation")
    op.drop_index("ix_run_lease_job_id", table_name="run_lease")
    op.drop_table("run_lease")
    op.drop_table("run_attempt")
    op.drop_table("eval_point")
    op.drop_table("artifact")
    op.drop_table("run")
    op.drop_table("report")
    op.drop_table("proposal")
    op.drop_table("event")
    op.drop_table("advance_claim")
    op.drop_index(
        "uq_job_name",
        table_name="job",
        postgresql_where=sa.text("state NOT IN ('failed', 'cancelled')"),
    )
    op.drop_index(
        "ix_job_open",
        table_name="job",
        postgresql_where=sa.text("state NOT IN ('succeeded', 'failed', 'cancelled')"),
    )
    op.drop_index("ix_job_name", table_name="job", postgresql_where=sa.text("name IS NOT NULL"))
    op.drop_index("ix_job_corpus_id", table_name="job")
    op.drop_table("job")
    op.drop_index("ix_idempotency_key_created_at", table_name="idempotency_key")
    op.drop_table("idempotency_key")
    op.drop_index(
        "uq_corpus_name", table_name="corpus", postgresql_where=sa.text("state <> 'failed'")
    )
    op.drop_index(
        "ix_corpus_open",
        table_name="corpus",
        postgresql_where=sa.text("state IN ('registered', 'preparing')"),
    )
    op.drop_index(
        "ix_corpus_name", table_name="corpus", postgresql_where=sa.text("name IS NOT NULL")
    )
    op.drop_table("corpus")
    op.drop_table("tenant")
    op.drop_index(
        "ix_outbox_unpublished",
        table_name="outbox",
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.drop_index("ix_outbox_entity_id", table_name="outbox")
    op.drop_table("outbox")
