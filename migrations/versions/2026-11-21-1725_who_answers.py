"""Who answers for tokens, plans and runs; nobody who had a part in a record decides on it; schedules are retired.

What is there already gets its people from who signed in: a plan and a run from the event log, a token from its maker.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

PEOPLE = {"tokens": "maker_id", "plans": "person_id", "runs": "person_id"}
LOGGED = """
UPDATE {table} SET person_id = users.id
FROM events JOIN users ON events.actor = 'user:' || users.email
WHERE {entry} AND events.organisation_id = {table}.organisation_id
"""
"""The person whom an entry of the log names."""
ENTRIES = {
    "runs": "events.run_id = runs.id AND events.kind = 'state' AND events.data->>'from' IS NULL",
    "plans": "events.kind = 'created' AND events.data->>'call' = 'make_plan' AND events.data->>'id' = plans.id::text",
}
PREPARED = """
UPDATE approvals SET prepared_by = ARRAY(
    SELECT DISTINCT person FROM (
        SELECT approvals.preparer_id UNION SELECT person_id FROM plans WHERE plans.id = approvals.plan_id
        UNION SELECT person_id FROM runs WHERE runs.id = approvals.run_id
    ) AS people (person) WHERE person IS NOT NULL AND person IS DISTINCT FROM approvals.reviewer_id
)
"""
"""Decisions that were taken stay: whoever took one of them is not named as a preparer after the fact."""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, column in PEOPLE.items():
        op.add_column(table, sa.Column(column, sa.Uuid(as_uuid=False), nullable=True))
        op.create_foreign_key(f"fk_{table}_{column}", table, "users", [column], ["id"])
    op.execute("UPDATE tokens SET maker_id = users.id FROM users WHERE created_by = 'user:' || users.email")
    for table, entry in ENTRIES.items():
        op.execute(LOGGED.format(table=table, entry=entry))
    op.add_column(
        "approvals",
        sa.Column("prepared_by", postgresql.ARRAY(sa.Uuid(as_uuid=False)), nullable=False, server_default="{}"),
    )
    op.execute(PREPARED)
    op.alter_column("approvals", "prepared_by", server_default=None)
    op.drop_constraint("four_eyes", "approvals")
    op.create_check_constraint("four_eyes", "approvals", "reviewer_id <> ALL (prepared_by)")
    op.add_column("schedules", sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint("uq_schedules_organisation_id_name", "schedules")
    op.create_index(
        "uq_schedules_organisation_id_name",
        "schedules",
        ["organisation_id", "name"],
        unique=True,
        postgresql_where=sa.text("retired_at IS NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("uq_schedules_organisation_id_name", "schedules")
    # A name that is in use again stays with the schedule that uses it.
    op.execute("UPDATE schedules SET name = name || ' (' || id || ')', paused = true WHERE retired_at IS NOT NULL")
    op.create_unique_constraint("uq_schedules_organisation_id_name", "schedules", ["organisation_id", "name"])
    op.drop_column("schedules", "retired_at")
    op.drop_constraint("four_eyes", "approvals")
    op.create_check_constraint("four_eyes", "approvals", "preparer_id <> reviewer_id")
    op.drop_column("approvals", "prepared_by")
    for table, column in PEOPLE.items():
        op.drop_column(table, column)
