"""The event log becomes one hash chain for each organisation, and the database refuses to change it."""

import hashlib
import json
from datetime import UTC

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$
"""
MINE = "organisation_id IS NOT DISTINCT FROM (SELECT audit_organisation())"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.alter_column("events", "organisation_id", nullable=True)
    op.alter_column("events", "run_id", nullable=True)
    op.alter_column("events", "at", server_default=None)
    op.alter_column("events", "data", type_=postgresql.JSON(), postgresql_using="data::json")
    op.add_column("events", sa.Column("address", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("token_id", sa.Uuid(as_uuid=False), nullable=True))
    op.add_column("events", sa.Column("number", sa.BigInteger(), nullable=True))
    op.add_column("events", sa.Column("previous", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("digest", sa.Text(), nullable=True))
    _chain(op.get_bind())
    for column in ("number", "previous", "digest"):
        op.alter_column("events", column, nullable=False)
    op.create_unique_constraint(
        "uq_events_organisation_id_number", "events", ["organisation_id", "number"], postgresql_nulls_not_distinct=True
    )
    op.execute("DROP POLICY events_all ON events")
    op.execute(f"CREATE POLICY events_select ON events FOR SELECT TO audit_tenant USING ({MINE})")
    op.execute(f"CREATE POLICY events_insert ON events FOR INSERT TO audit_tenant WITH CHECK ({MINE})")
    op.execute("REVOKE UPDATE, DELETE ON events FROM audit_tenant")
    op.execute(APPEND_ONLY)
    op.execute(
        "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )
    op.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER events_append_only")


def _chain(connection: sa.Connection) -> None:
    """Link what is there in its order. What happened before this day was not protected by its links."""
    query = sa.text("SELECT seq, organisation_id, run_id, kind, actor, data, at FROM events ORDER BY seq")
    last: dict[str, tuple[int, str]] = {}
    for row in connection.execute(query).mappings().all():
        organisation = str(row["organisation_id"])
        number, previous = last.get(organisation, (0, ""))
        entry = {
            "number": number + 1,
            "organisation": organisation,
            "run": str(row["run_id"]),
            "kind": row["kind"],
            "actor": row["actor"],
            "address": None,
            "token": None,
            "data": row["data"],
            "at": row["at"].astimezone(UTC).isoformat(),
            "previous": previous,
        }
        plain = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        digest = hashlib.sha256(plain.encode()).hexdigest()
        last[organisation] = (number + 1, digest)
        connection.execute(
            sa.text("UPDATE events SET number = :number, previous = :previous, digest = :digest WHERE seq = :seq"),
            {"number": number + 1, "previous": previous, "digest": digest, "seq": row["seq"]},
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER events_append_only ON events")
    op.execute("DROP FUNCTION audit_append_only()")
    op.execute("DROP POLICY events_select ON events")
    op.execute("DROP POLICY events_insert ON events")
    op.execute("DELETE FROM events WHERE run_id IS NULL")
    op.execute(
        "CREATE POLICY events_all ON events FOR ALL TO audit_tenant"
        " USING (organisation_id = (SELECT audit_organisation()))"
    )
    op.execute("GRANT UPDATE, DELETE ON events TO audit_tenant")
    op.drop_constraint("uq_events_organisation_id_number", "events")
    for column in ("digest", "previous", "number", "token_id", "address"):
        op.drop_column("events", column)
    op.alter_column("events", "data", type_=postgresql.JSONB(), postgresql_using="data::jsonb")
    op.alter_column("events", "at", server_default=sa.text("clock_timestamp()"))
    op.alter_column("events", "run_id", nullable=False)
    op.alter_column("events", "organisation_id", nullable=False)
