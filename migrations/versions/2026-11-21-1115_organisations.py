"""Organisations, people and tokens; every row belongs to an organisation, and Postgres keeps them apart.

What is there already belongs to the first organisation. The login that migrates owns the tables and is not held by
the policies; requests take the role audit_tenant, which is.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FIRST = "01936f5e-0000-7000-8000-00000000f125"
"""The organisation that is there from the start."""
OWNED = (
    "behaviors", "behavior_versions", "models", "model_versions", "pair_sets", "pairs", "previews", "plans", "runs",
    "shards", "traces", "results", "verdicts", "reports", "events",
    "bundles", "bundle_parts",
)  # fmt: skip
UNIQUE = {
    "behaviors": [("name",)],
    "models": [("name",)],
    "pair_sets": [("digest",)],
    "plans": [("digest",), ("terms_digest",)],
}
"""What was unique at large and is now unique within an organisation."""
FUNCTIONS = {"organisation": "uuid", "user": "uuid", "email": "text"}
"""Whom the transaction is for, by what ``SET LOCAL audit.…`` says; null where it says nothing."""

ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'audit_tenant') THEN
        CREATE ROLE audit_tenant NOLOGIN NOBYPASSRLS;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server is migrated too
END $$
"""
MINE = "organisation_id = (SELECT audit_organisation())"
POLICIES = {
    "metrics": {"SELECT": f"organisation_id IS NULL OR {MINE}", "INSERT": MINE},
    "idempotency_keys": {"ALL": MINE},
    "tokens": {"ALL": MINE},
    "organisations": {
        "SELECT": "id = (SELECT audit_organisation()) OR id IN "
        "(SELECT organisation_id FROM memberships WHERE user_id = (SELECT audit_user()))",
        "UPDATE": "id = (SELECT audit_organisation())",
    },
    "memberships": {
        "SELECT": f"{MINE} OR user_id = (SELECT audit_user())",
        "INSERT": MINE,
        "UPDATE": MINE,
    },
    "users": {
        "SELECT": "id = (SELECT audit_user()) OR email = (SELECT audit_email()) OR EXISTS "
        f"(SELECT FROM memberships WHERE user_id = users.id AND {MINE})",
        "INSERT": "email = (SELECT audit_email())",
        "UPDATE": "id = (SELECT audit_user())",
    },
}
"""Besides those of OWNED, which are ALL: MINE."""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _functions()
    _tables()
    op.execute(f"INSERT INTO organisations (id, name) VALUES ('{FIRST}', 'first organisation')")
    _owners()
    _walls()


def _functions() -> None:
    for name, kind in FUNCTIONS.items():
        value = f"NULLIF(current_setting('audit.{name}', true), '')"
        op.execute(f"CREATE FUNCTION audit_{name}() RETURNS {kind} LANGUAGE sql STABLE AS $$ SELECT {value}::{kind} $$")


def _tables() -> None:
    op.create_table(
        "organisations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organisations"),
        sa.UniqueConstraint("name", name="uq_organisations_name"),
    )
    op.create_table(
        "users",
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("oidc_issuer", sa.Text(), nullable=True),
        sa.Column("oidc_subject", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.UniqueConstraint("oidc_issuer", "oidc_subject", name="uq_users_oidc_issuer_oidc_subject"),
    )
    op.create_table(
        "memberships",
        sa.Column("organisation_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_memberships_organisation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id"),
        sa.PrimaryKeyConstraint("organisation_id", "user_id", name="pk_memberships"),
    )
    op.create_table(
        "tokens",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("role", sa.String(32), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("session", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "organisation_id",
            sa.Uuid(as_uuid=False),
            server_default=sa.text("audit_organisation()"),
            nullable=False,
        ),
        sa.CheckConstraint("(user_id IS NULL) <> (role IS NULL)", name="one_source_of_rights"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name="fk_tokens_organisation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_table(
        "sign_ins",
        sa.Column("state_digest", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("state_digest", name="pk_sign_ins"),
    )


def _owners() -> None:
    """Give every row to the first organisation, and what comes to the one that its transaction is for."""
    for table in (*OWNED, "idempotency_keys"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN organisation_id uuid NOT NULL DEFAULT '{FIRST}'")
    op.execute("ALTER TABLE metrics ADD COLUMN organisation_id uuid")
    op.execute(f"UPDATE metrics SET organisation_id = '{FIRST}' WHERE id::text NOT LIKE '01936f5e-0000-7000-8000-%'")
    for table in (*OWNED, "metrics"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN organisation_id SET DEFAULT audit_organisation()")
    op.execute("ALTER TABLE idempotency_keys ALTER COLUMN organisation_id DROP DEFAULT")
    for table in (*OWNED, "metrics", "idempotency_keys"):
        op.create_foreign_key(f"fk_{table}_organisation_id", table, "organisations", ["organisation_id"], ["id"])
    for table, keys in UNIQUE.items():
        for key in keys:
            op.drop_constraint(f"uq_{table}_{'_'.join(key)}", table)
            op.create_unique_constraint(f"uq_{table}_organisation_id_{'_'.join(key)}", table, ["organisation_id", *key])
    op.drop_constraint("uq_metrics_name_version", "metrics")
    op.create_unique_constraint(
        "uq_metrics_organisation_id_name_version",
        "metrics",
        ["organisation_id", "name", "version"],
        postgresql_nulls_not_distinct=True,
    )
    op.drop_constraint("pk_idempotency_keys", "idempotency_keys")
    op.create_primary_key("pk_idempotency_keys", "idempotency_keys", ["organisation_id", "key", "route"])


def _walls() -> None:
    op.execute(ROLE)
    op.execute("GRANT audit_tenant TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA public TO audit_tenant")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO audit_tenant")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO audit_tenant")
    op.execute("REVOKE ALL ON alembic_version FROM audit_tenant")
    for table, policies in ({table: {"ALL": MINE} for table in OWNED} | POLICIES).items():
        _policies(table, policies)


def _policies(table: str, policies: dict[str, str]) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for command, rule in policies.items():
        clause = f"WITH CHECK ({rule})" if command == "INSERT" else f"USING ({rule})"
        op.execute(f"CREATE POLICY {table}_{command.lower()} ON {table} FOR {command} TO audit_tenant {clause}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, policies in ({table: {"ALL": MINE} for table in OWNED} | POLICIES).items():
        for command in policies:
            op.execute(f"DROP POLICY {table}_{command.lower()} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP OWNED BY audit_tenant")
    op.execute("ALTER TABLE idempotency_keys DROP CONSTRAINT pk_idempotency_keys, ADD PRIMARY KEY (key, route)")
    for table, keys in {**UNIQUE, "metrics": [("name", "version")]}.items():
        for key in keys:
            op.drop_constraint(f"uq_{table}_organisation_id_{'_'.join(key)}", table)
            op.create_unique_constraint(f"uq_{table}_{'_'.join(key)}", table, list(key))
    for table in (*OWNED, "metrics", "idempotency_keys"):
        op.drop_column(table, "organisation_id")
    for table in ("sign_ins", "tokens", "memberships", "users", "organisations"):
        op.drop_table(table)
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION audit_{name}()")
