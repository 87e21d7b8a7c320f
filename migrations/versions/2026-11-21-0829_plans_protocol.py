"""Plans name the rules of the protocol that they do not keep."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("plans", sa.Column("protocol", postgresql.JSON(), nullable=False, server_default="[]"))
    op.alter_column("plans", "protocol", server_default=None)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("plans", "protocol")
