"""Approvals by two people, and links that share a run's evidence."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MINE = "organisation_id = (SELECT audit_organisation())"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "approvals",
        sa.Column("record", sa.String(32), nullable=False),
        sa.Column("record_digest", sa.Text(), nullable=False),
        sa.Column("plan_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("acceptance", postgresql.JSON(), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("preparer_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("preparer", sa.Text(), nullable=False),
        sa.Column("preparer_role", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("reviewer_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("reviewer", sa.Text(), nullable=True),
        sa.Column("reviewer_role", sa.Text(), nullable=True),
        sa.Column("decision_comment", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        *_own_columns("approvals"),
        sa.CheckConstraint("preparer_id <> reviewer_id", name="four_eyes"),
        sa.CheckConstraint("(state = 'submitted') = (reviewer_id IS NULL)", name="decided_by_somebody"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_approvals_plan_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_approvals_run_id"),
        sa.ForeignKeyConstraint(["preparer_id"], ["users.id"], name="fk_approvals_preparer_id"),
        sa.ForeignKeyConstraint(["reviewer_id"], ["users.id"], name="fk_approvals_reviewer_id"),
    )
    op.create_index("ix_approvals_plan_id", "approvals", ["plan_id"])
    op.create_table(
        "shares",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        *_own_columns("shares"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_shares_run_id"),
    )
    op.create_index("ix_shares_run_id", "shares", ["run_id"])
    for table in ("approvals", "shares"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO audit_tenant")
        op.execute(f"CREATE POLICY {table}_select ON {table} FOR SELECT TO audit_tenant USING ({MINE})")
        op.execute(f"CREATE POLICY {table}_insert ON {table} FOR INSERT TO audit_tenant WITH CHECK ({MINE})")
    op.execute(f"CREATE POLICY shares_update ON shares FOR UPDATE TO audit_tenant USING ({MINE})")
    # What is decided stays decided.
    op.execute(
        "CREATE POLICY approvals_update ON approvals FOR UPDATE TO audit_tenant"
        f" USING ({MINE} AND state = 'submitted') WITH CHECK ({MINE})"
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
    op.drop_table("shares")
    op.drop_table("approvals")
