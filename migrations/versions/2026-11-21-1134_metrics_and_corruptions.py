"""Metrics are formulas; plans say what they can detect; shards name their corruption and the sites they join."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

METRICS = sa.table(
    "metrics",
    sa.column("id", sa.Uuid(as_uuid=False)),
    sa.column("name", sa.Text()),
    sa.column("version", sa.Integer()),
    sa.column("content", postgresql.JSON()),
    sa.column("digest", sa.Text()),
)
FORMULAS = {"log_odds": "d", "probability": "100 * p", "log_probability": "log_p_favorable"}
"""Reading of a metric → the formula that it is from now on."""
NEW = [
    {
        "id": "01936f5e-0000-7000-8000-000000000004",
        "name": "kl",
        "version": 1,
        "content": {
            "name": "kl",
            "formula": "kl",
            "title": "Kullback-Leibler divergence of the answers",
            "unit": "nats",
            "note": "Has a size and no direction: read it beside that of the placebo pairs.",
            "tolerance": None,
        },
        "digest": "aa8407b9fcc9e0de40fe3d95f10a60c93badb1b67409d5e411c69f7f70223374",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000005",
        "name": "js",
        "version": 1,
        "content": {
            "name": "js",
            "formula": "js",
            "title": "Jensen-Shannon divergence of the answers",
            "unit": "nats",
            "note": "Symmetric and at most log 2; it has no direction either.",
            "tolerance": None,
        },
        "digest": "f6088535ff37cfb3c35f3c365aeb7a3ff93f988a31e3dfe9cf68455f9e16fe40",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000006",
        "name": "flip",
        "version": 1,
        "content": {
            "name": "flip",
            "formula": "100 * approved",
            "title": "Share approved",
            "unit": "percentage points",
            "note": "Sees only what crosses the cut; most effects do not.",
            "tolerance": None,
        },
        "digest": "4929037a303522815e119cc7af8b3cef107b5e4ae458d4b0bf993820f4757e4c",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000007",
        "name": "rank",
        "version": 1,
        "content": {
            "name": "rank",
            "formula": "rank",
            "title": "Rank of the likeliest favorable label among all tokens",
            "unit": "ranks",
            "note": "1 is the likeliest token of all; insensitive to all that changes no order.",
            "tolerance": None,
        },
        "digest": "feabcec85e696c3b0f53d99fc6a5e16df8b28130f9867aa9050ae7bdb781d7a0",
    },
    {
        "id": "01936f5e-0000-7000-8000-000000000008",
        "name": "expected-amount",
        "version": 1,
        "content": {
            "name": "expected-amount",
            "formula": "expected_amount",
            "title": "Mean amount of the numeric answers",
            "unit": "amount",
            "note": "For behaviors that declare answers with amounts, such as interest rates.",
            "tolerance": None,
        },
        "digest": "f27783000839562ba24de82961a5ca1c48e91454a33ab42205253357563e8542",
    },
]


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("plans", sa.Column("power", postgresql.JSON(), nullable=False, server_default="[]"))
    op.alter_column("plans", "power", server_default=None)
    op.add_column("shards", sa.Column("corruption", sa.String(32), nullable=True))
    op.execute("UPDATE shards SET corruption = 'pair' WHERE kind = 'effects'")
    op.add_column("shards", sa.Column("sites", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.alter_column("shards", "sites", server_default=None)
    for row in op.get_bind().execute(sa.select(METRICS.c.id, METRICS.c.content)).all():
        _change(row.id, _with_formula(row.content))
    op.bulk_insert(METRICS, NEW)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(sa.delete(METRICS).where(METRICS.c.id.in_([metric["id"] for metric in NEW])))
    readings = {formula: reading for reading, formula in FORMULAS.items()}
    for row in op.get_bind().execute(sa.select(METRICS.c.id, METRICS.c.content)).all():
        old = {name: row.content[name] for name in ("name", "title", "unit", "note")}
        _change(row.id, old | {"reading": readings.get(row.content["formula"], "log_odds")})
    op.drop_column("shards", "sites")
    op.drop_column("shards", "corruption")
    op.drop_column("plans", "power")


def _with_formula(content: dict[str, object]) -> dict[str, object]:
    kept = {name: value for name, value in content.items() if name != "reading"}
    return kept | {"formula": FORMULAS[str(content["reading"])], "tolerance": None}


def _change(metric: str, content: dict[str, object]) -> None:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    op.execute(sa.update(METRICS).where(METRICS.c.id == metric).values(content=content, digest=digest))
