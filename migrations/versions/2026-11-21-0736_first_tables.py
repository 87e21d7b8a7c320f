"""first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BUILT_IN_METRICS = [
    {
        "id": "01936f5e-0000-7000-8000-000000000001",
        "name": "log-odds",
        "version": 1,
        "content": {
            "name": "log-odds",
            "reading": "log_odds",
            "title": "Log-odds of the favorable decision",
            "unit": "nats",
            "note": "",
        },
        "digest": "a4a1b2e343724dd5ed212305c1b5caea8b9d8555ffb1491d5889f410d72b513d",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000002",
        "name": "probability",
        "version": 1,
        "content": {
            "name": "probability",
            "reading": "probability",
            "title": "Favorable share among the declared labels",
            "unit": "percentage points",
            "note": "Hides negative components where it is near 0 or 1; read the log-odds beside it.",
        },
        "digest": "435dba3d0d3e0352275c5403a8f70912f2e08fc72e3b8ac93743677e2888a2db",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000003",
        "name": "log-probability",
        "version": 1,
        "content": {
            "name": "log-probability",
            "reading": "log_probability",
            "title": "Log-probability of the favorable labels",
            "unit": "nats",
            "note": "Moves with coverage too, not only with the decision.",
        },
        "digest": "b269a88a10dc2ac99b841c46bf2a1efe6944bc436f5d986238b1a8e41ec9c6de",
    },
]


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "behaviors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_behaviors"),
        sa.UniqueConstraint("name", name="uq_behaviors_name"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key", "route", name="pk_idempotency_keys"),
    )
    op.create_table(
        "metrics",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
        sa.UniqueConstraint("name", "version", name="uq_metrics_name_version"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "behavior_versions",
        sa.Column("behavior_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["behavior_id"], ["behaviors.id"], name="fk_behavior_versions_behavior_id"),
        sa.PrimaryKeyConstraint("id", name="pk_behavior_versions"),
        sa.UniqueConstraint("behavior_id", "digest", name="uq_behavior_versions_behavior_id_digest"),
        sa.UniqueConstraint("behavior_id", "number", name="uq_behavior_versions_behavior_id_number"),
    )
    op.create_table(
        "model_versions",
        sa.Column("model_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("hub_name", sa.Text(), nullable=True),
        sa.Column("hub_revision", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("identity", postgresql.JSON(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_model_versions_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_model_versions"),
        sa.UniqueConstraint("model_id", "version", name="uq_model_versions_model_id_version"),
    )
    op.create_index("ix_model_versions_digest", "model_versions", ["digest"], unique=False)
    op.create_table(
        "pair_sets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("behavior_version_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["behavior_version_id"], ["behavior_versions.id"], name="fk_pair_sets_behavior_version_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pair_sets"),
        sa.UniqueConstraint("digest", name="uq_pair_sets_digest"),
    )
    op.create_index("ix_pair_sets_name", "pair_sets", ["name"], unique=False)
    op.create_table(
        "pairs",
        sa.Column("pair_set_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["pair_set_id"], ["pair_sets.id"], name="fk_pairs_pair_set_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pair_set_id", "ordinal", name="pk_pairs"),
        sa.UniqueConstraint("pair_set_id", "pair_id", name="uq_pairs_pair_set_id_pair_id"),
    )
    op.create_table(
        "plans",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("terms_digest", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=False),
        sa.Column("cost", postgresql.JSON(), nullable=False),
        sa.Column("exploratory", sa.Boolean(), nullable=False),
        sa.Column("predecessor", sa.Text(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("behavior_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("pair_set_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["behavior_version_id"], ["behavior_versions.id"], name="fk_plans_behavior_version_id"),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_plans_model_version_id"),
        sa.ForeignKeyConstraint(["pair_set_id"], ["pair_sets.id"], name="fk_plans_pair_set_id"),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.UniqueConstraint("digest", name="uq_plans_digest"),
        sa.UniqueConstraint("terms_digest", name="uq_plans_terms_digest"),
    )
    op.create_table(
        "previews",
        sa.Column("pair_set_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("behavior_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("content", postgresql.JSON(), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["behavior_version_id"], ["behavior_versions.id"], name="fk_previews_behavior_version_id"
        ),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_previews_model_version_id"),
        sa.ForeignKeyConstraint(["pair_set_id"], ["pair_sets.id"], name="fk_previews_pair_set_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_previews"),
        sa.UniqueConstraint(
            "pair_set_id",
            "model_version_id",
            "behavior_version_id",
            name="uq_previews_pair_set_id_model_version_id_behavior_version_id",
        ),
    )
    op.create_table(
        "runs",
        sa.Column("plan_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_runs_plan_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_plan_id", "runs", ["plan_id"], unique=False)
    op.create_index("ix_runs_state", "runs", ["state"], unique=False)
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_events_run_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
    )
    op.create_index("ix_events_run_id_seq", "events", ["run_id", "seq"], unique=False)
    op.create_table(
        "reports",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("pdf", sa.LargeBinary(), nullable=False),
        sa.Column("view", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_reports_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.UniqueConstraint("run_id", "language", name="uq_reports_run_id_language"),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("low", sa.Float(precision=53), nullable=True),
        sa.Column("high", sa.Float(precision=53), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.Column("p_value", sa.Float(precision=53), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("reason", postgresql.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_results_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_results"),
        sa.UniqueConstraint("run_id", "key", name="uq_results_run_id_key"),
    )
    op.create_table(
        "shards",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("direction", sa.String(32), nullable=True),
        sa.Column("pair_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("running_effect", sa.Float(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_shards_run_id"),
        sa.PrimaryKeyConstraint("run_id", "key", name="pk_shards"),
    )
    op.create_table(
        "verdicts",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("value", sa.String(32), nullable=False),
        sa.Column("judgement", postgresql.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_verdicts_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_verdicts"),
        sa.UniqueConstraint("run_id", name="uq_verdicts_run_id"),
    )
    op.create_table(
        "traces",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("shard_key", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("measured", postgresql.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "shard_key"], ["shards.run_id", "shards.key"], name="fk_traces_run_id_shard_key"
        ),
        sa.PrimaryKeyConstraint("run_id", "shard_key", name="pk_traces"),
    )

    op.bulk_insert(
        sa.table(
            "metrics",
            sa.column("id", sa.Uuid(as_uuid=False)),
            sa.column("name", sa.Text()),
            sa.column("version", sa.Integer()),
            sa.column("content", postgresql.JSON()),
            sa.column("digest", sa.Text()),
        ),
        BUILT_IN_METRICS,
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("traces")
    op.drop_table("verdicts")
    op.drop_table("shards")
    op.drop_table("results")
    op.drop_table("reports")
    op.drop_index("ix_events_run_id_seq", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_runs_state", table_name="runs")
    op.drop_index("ix_runs_plan_id", table_name="runs")
    op.drop_table("runs")
    op.drop_table("previews")
    op.drop_table("plans")
    op.drop_table("pairs")
    op.drop_index("ix_pair_sets_name", table_name="pair_sets")
    op.drop_table("pair_sets")
    op.drop_index("ix_model_versions_digest", table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_table("behavior_versions")
    op.drop_table("models")
    op.drop_table("metrics")
    op.drop_table("idempotency_keys")
    op.drop_table("behaviors")
