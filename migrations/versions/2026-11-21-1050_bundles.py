"""Bundles are kept beside the reports; reports have editions, and HTML and DOCX of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "bundles",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_bundles_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_bundles"),
        sa.UniqueConstraint("run_id", "edition", name="uq_bundles_run_id_edition"),
    )
    op.create_table(
        "bundle_parts",
        sa.Column("bundle_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], name="fk_bundle_parts_bundle_id"),
        sa.PrimaryKeyConstraint("bundle_id", "ordinal", name="pk_bundle_parts"),
    )
    # Reports from before have neither HTML nor DOCX: empty says so, and a new edition has them.
    op.add_column("reports", sa.Column("edition", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("reports", sa.Column("html", sa.LargeBinary(), nullable=False, server_default=sa.text("''::bytea")))
    op.add_column("reports", sa.Column("docx", sa.LargeBinary(), nullable=False, server_default=sa.text("''::bytea")))
    for column in ("edition", "html", "docx"):
        op.alter_column("reports", column, server_default=None)
    op.drop_constraint("uq_reports_run_id_language", "reports")
    op.create_unique_constraint("uq_reports_run_id_language_edition", "reports", ["run_id", "language", "edition"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DELETE FROM reports WHERE edition > 1")
    op.drop_constraint("uq_reports_run_id_language_edition", "reports")
    op.create_unique_constraint("uq_reports_run_id_language", "reports", ["run_id", "language"])
    for column in ("docx", "html", "edition"):
        op.drop_column("reports", column)
    op.drop_table("bundle_parts")
    op.drop_table("bundles")
