"""Schedules and what they make due, repeated runs, notifications, imports of models."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = (
    "notification_targets", "notifications", "schedules", "model_imports", "occurrences",
    "revalidations",
)  # fmt: skip
MINE = "organisation_id = (SELECT audit_organisation())"
"""What row-level security lets an organisation see and write."""


def _owned() -> tuple[sa.Column[str], ...]:
    """What every table here has."""
    return (
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "organisation_id",
            sa.Uuid(as_uuid=False),
            server_default=sa.text("audit_organisation()"),
            nullable=False,
        ),
    )


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _told()
    _due()
    _repeated()
    for table in TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO audit_tenant")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_all ON {table} FOR ALL TO audit_tenant USING ({MINE})")


def _told() -> None:
    op.create_table(
        "notification_targets",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("topics", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        *_owned(),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisations.id"], name="fk_notification_targets_organisation_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_targets"),
    )
    op.create_table(
        "notifications",
        sa.Column("target_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        *_owned(),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_notifications_organisation_id"),
        sa.ForeignKeyConstraint(["target_id"], ["notification_targets.id"], name="fk_notifications_target_id"),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
    )
    op.create_index(
        "ix_notifications_next_at",
        "notifications",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )


def _due() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("behavior_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("rule", postgresql.JSON(), nullable=True),
        sa.Column("on_new_version", sa.Boolean(), nullable=False),
        sa.Column("grace_hours", sa.Integer(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("watching_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("overdue_told", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        *_owned(),
        sa.CheckConstraint("rule IS NOT NULL OR on_new_version", name="something_makes_it_due"),
        sa.ForeignKeyConstraint(["behavior_id"], ["behaviors.id"], name="fk_schedules_behavior_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_schedules_model_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_schedules_organisation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.UniqueConstraint("organisation_id", "name", name="uq_schedules_organisation_id_name"),
    )
    op.create_table(
        "occurrences",
        sa.Column("schedule_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("nominal_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("collapsed", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        *_owned(),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_occurrences_model_version_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_occurrences_organisation_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_occurrences_run_id"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name="fk_occurrences_schedule_id"),
        sa.PrimaryKeyConstraint("id", name="pk_occurrences"),
        sa.UniqueConstraint("run_id", name="uq_occurrences_run_id"),
        sa.UniqueConstraint("schedule_id", "key", name="uq_occurrences_schedule_id_key"),
    )


def _repeated() -> None:
    op.create_table(
        "revalidations",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("earlier_run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("drift", postgresql.JSON(), nullable=True),
        *_owned(),
        sa.ForeignKeyConstraint(["earlier_run_id"], ["runs.id"], name="fk_revalidations_earlier_run_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_revalidations_organisation_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_revalidations_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_revalidations"),
        sa.UniqueConstraint("run_id", name="uq_revalidations_run_id"),
    )
    op.create_index("ix_revalidations_earlier_run_id", "revalidations", ["earlier_run_id"], unique=False)
    op.create_table(
        "model_imports",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=True),
        *_owned(),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_model_imports_model_version_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_model_imports_organisation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_model_imports"),
        sa.UniqueConstraint("organisation_id", "name", "version", name="uq_model_imports_organisation_id_name_version"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in (
        "revalidations",
        "occurrences",
        "model_imports",
        "schedules",
        "notifications",
        "notification_targets",
    ):
        op.drop_table(table)
