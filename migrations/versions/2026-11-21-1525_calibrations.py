"""What work costs on the machines that have run a model; costs of plans as counted work."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MINE = "organisation_id = (SELECT audit_organisation())"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "calibrations",
        sa.Column("model_version_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "organisation_id",
            sa.Uuid(as_uuid=False),
            server_default=sa.text("audit_organisation()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name="fk_calibrations_model_version_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_calibrations_organisation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_calibrations"),
        sa.UniqueConstraint(
            "model_version_id",
            "device",
            "dtype",
            "threads",
            name="uq_calibrations_model_version_id_device_dtype_threads",
        ),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON calibrations TO audit_tenant")
    op.execute("ALTER TABLE calibrations ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY calibrations_all ON calibrations FOR ALL TO audit_tenant USING ({MINE})")
    op.execute(
        "UPDATE plans SET cost = json_build_object('shards', cost->'shards', 'forward_passes', cost->'forward_passes',"
        " 'forward_equivalents', cost->'full_passes', 'tokens', 0)"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("calibrations")
    op.execute(
        "UPDATE plans SET cost = json_build_object('shards', cost->'shards', 'forward_passes', cost->'forward_passes',"
        " 'full_passes', cost->'forward_equivalents', 'seconds', 0, 'assumed_flops', 5e10, 'memory_bytes', 0)"
    )
