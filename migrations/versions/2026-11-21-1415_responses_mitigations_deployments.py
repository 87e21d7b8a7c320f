"""Management's responses to findings, measures against them, and where model versions are in use."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MINE = "organisation_id = (SELECT audit_organisation())"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "responses",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("response", postgresql.JSON(), nullable=False),
        *_own_columns("responses"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_responses_run_id"),
    )
    op.create_index("ix_responses_run_id", "responses", ["run_id"])
    op.create_table(
        "mitigations",
        sa.Column("revalidation_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("fitted_on", sa.Text(), nullable=False),
        sa.Column("side_effects", postgresql.JSON(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        *_own_columns("mitigations"),
        sa.ForeignKeyConstraint(["revalidation_id"], ["revalidations.id"], name="fk_mitigations_revalidation_id"),
    )
    op.create_index("ix_mitigations_revalidation_id", "mitigations", ["revalidation_id"])
    op.create_table(
        "deployments",
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        *_own_columns("deployments"),
        sa.CheckConstraint("ended_at >= since", name="ends_after_it_began"),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_deployments_model_version_id"),
    )
    op.create_index("ix_deployments_model_version_id", "deployments", ["model_version_id"])
    for table in ("responses", "mitigations", "deployments"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT SELECT, INSERT ON {table} TO audit_tenant")
        op.execute(f"CREATE POLICY {table}_select ON {table} FOR SELECT TO audit_tenant USING ({MINE})")
        op.execute(f"CREATE POLICY {table}_insert ON {table} FOR INSERT TO audit_tenant WITH CHECK ({MINE})")
    # Answers and measures stay as they were written; of a deployment only the end is added.
    op.execute("GRANT UPDATE (ended_at) ON deployments TO audit_tenant")
    op.execute(
        "CREATE POLICY deployments_update ON deployments FOR UPDATE TO audit_tenant"
        f" USING ({MINE} AND ended_at IS NULL) WITH CHECK ({MINE})"
    )


def _own_columns(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "organisation_id", sa.Uuid(as_uuid=False), server_default=sa.text("audit_organisation()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name=f"fk_{table}_organisation_id"),
    ]


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("deployments", "mitigations", "responses"):
        op.drop_table(table)
