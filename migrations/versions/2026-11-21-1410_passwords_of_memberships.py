"""Name and password become a membership's own: no organisation can give an account a password that opens another's."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("memberships", sa.Column("name", sa.Text(), nullable=True))
    op.add_column("memberships", sa.Column("password_hash", sa.Text(), nullable=True))
    op.execute(
        "UPDATE memberships SET name = users.name, password_hash = users.password_hash"
        " FROM users WHERE users.id = memberships.user_id"
    )
    op.alter_column("memberships", "name", nullable=False)
    op.drop_column("users", "password_hash")
    op.drop_column("users", "name")
    op.execute("REVOKE ALL ON sign_ins FROM audit_tenant")  # they are nobody's yet


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Whoever works for several organisations keeps the name and password of one of them.
    op.add_column("users", sa.Column("name", sa.Text(), nullable=False, server_default=""))
    op.add_column("users", sa.Column("password_hash", sa.Text(), nullable=True))
    op.execute(
        "UPDATE users SET name = memberships.name, password_hash = memberships.password_hash"
        " FROM memberships WHERE users.id = memberships.user_id"
    )
    op.alter_column("users", "name", server_default=None)
    op.drop_column("memberships", "password_hash")
    op.drop_column("memberships", "name")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON sign_ins TO audit_tenant")
