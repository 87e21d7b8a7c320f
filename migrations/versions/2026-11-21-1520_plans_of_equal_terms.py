"""Terms may stand in two plans: one that was made before another was run, and an exploratory one made afterwards."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint("uq_plans_organisation_id_terms_digest", "plans")
    op.create_index("ix_plans_terms_digest", "plans", ["terms_digest"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_plans_terms_digest", "plans")
    # Fails where a plan and its exploratory twin are there: neither may be dropped unasked.
    op.create_unique_constraint("uq_plans_organisation_id_terms_digest", "plans", ["organisation_id", "terms_digest"])
