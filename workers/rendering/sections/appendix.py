"""Appendices: how to re-perform, every number's row, and the words."""

from collections.abc import Mapping

from audit_service.domain.manifest import digest
from audit_service.domain.results import Outcome, Result
from workers.rendering import numbers
from workers.rendering.blocks import Block, Cell, Column, Commands, Paragraph, Section
from workers.rendering.context import Context, code, count, fact_list, heading, table, text_cell

SHARDS_SHOWN = 60
"""Above this many the appendix prints their common digest; the attached data list them all."""


def reproduction(context: Context) -> Section:
    t, evidence = context.t, context.evidence
    plan, run = evidence.plan, evidence.run
    holds = t("reproduction.holds" if evidence.digests_hold else "reproduction.broken")
    listed = [[shard.key, shard.digest] for shard in sorted(evidence.shards, key=lambda shard: shard.key)]
    digests = fact_list(
        t("reproduction.digests"),
        (
            (t("reproduction.plan"), code(plan.digest)),
            (t("reproduction.model"), code(plan.model.digest)),
            (t("reproduction.pairs"), code(plan.pair_set.digest)),
            (t("reproduction.cells"), code(digest(listed))),
            (t("reproduction.evidence"), code(digest(evidence))),
            (t("reproduction.run"), code(run.id)),
            (t("reproduction.check"), text_cell(holds)),
        ),
    )
    blocks: list[Block] = [Paragraph(text=t("reproduction.text")), digests, _environment(context)]
    blocks.append(Commands(title=t("reproduction.commands"), lines=_commands(context)))
    blocks.append(Paragraph(text=t("reproduction.tolerance"), role="note"))
    blocks += [heading(t("reproduction.shards"), "reproduction-shards"), _shards(context)]
    return Section(id="reproduction", number="A", title=t("reproduction.title"), blocks=tuple(blocks))


def _commands(context: Context) -> tuple[str, ...]:
    t, evidence = context.t, context.evidence
    return (
        t("reproduction.command.files"),
        f"sha256sum {' '.join(sorted(evidence.plan.model.files))}",
        t("reproduction.command.bundle"),
        f"audit-service bundle {evidence.run.id} --out evidence.zip",
        "audit-service verify evidence.zip",
        t("reproduction.command.sample"),
        "audit-service reperform evidence.zip --model FOLDER --sample 10",
        t("reproduction.command.again"),
        "audit-service run audit.yaml",
    )


def _environment(context: Context) -> Block:
    t = context.t
    names = ("device", "dtype", "torch", "transformers", "threads", "attention")
    environments = {tuple(str(getattr(m, name)) for name in names) for m in context.evidence.measured}
    columns = [Column(label=t(f"environment.{name}"), style="code") for name in names]
    rows = [[code(value) for value in environment] for environment in sorted(environments)]
    return table(t("environment.caption"), columns, rows)


def _shards(context: Context) -> Block:
    t, shards = context.t, context.evidence.shards
    if len(shards) > SHARDS_SHOWN:
        return Paragraph(text=t("reproduction.shards.many", number=f"{len(shards):,}"))
    columns = (
        Column(label=t("shard.kind"), width="13%"),
        Column(label=t("column.form"), width="9%"),
        Column(label=t("shard.pairs"), style="number", width="8%"),
        Column(label=t("shard.digest"), style="code"),
    )
    rows = [
        (
            text_cell(t(f"shard.{shard.direction or shard.kind}")),
            text_cell(shard.form),
            count(shard.pairs),
            code(shard.digest),
        )
        for shard in shards
    ]
    return table(t("shard.caption"), columns, rows, dense=True)


def register(context: Context) -> Section:
    """Every number that the document prints, by its reference; nothing else is printed."""
    t, book = context.t, context.book
    shown = [book.results[key] for key in book.results if key in book.printed]
    methods = {method: f"M{index}" for index, method in enumerate(dict.fromkeys(r.method for r in shown), start=1)}
    legend = table(
        t("register.methods"),
        (Column(label=t("register.method"), style="code", width="10%"), Column(label=t("register.estimator"))),
        [(code(name), text_cell(t.method(method))) for method, name in methods.items()],
        dense=True,
    )
    columns = (
        Column(label=t("register.ref"), style="code", width="7%"),
        Column(label=t("register.key"), style="code", width="44%"),
        Column(label=t("register.value"), style="number", width="13%"),
        Column(label=t("register.interval"), style="number", width="16%"),
        Column(label="p", style="number", width="8%"),
        Column(label="n", style="number", width="5%"),
        Column(label=t("register.method"), style="number", width="7%"),
    )
    rows = [_register_row(context, result, methods) for result in shown]
    text = t("register.text", printed=f"{len(shown):,}", all=f"{len(book.results):,}")
    blocks = (Paragraph(text=text), legend, table(t("register.caption"), columns, rows, dense=True))
    return Section(id="register", number="B", title=t("register.title"), blocks=blocks)


def _register_row(context: Context, result: Result, methods: Mapping[str, str]) -> tuple[Cell, ...]:
    book = context.book
    style = "number" if result.outcome is Outcome.MEASURED else "status"
    unit = context.unit(result.unit)
    value = book.text(result)
    return (
        code(book.refs[result.key]),
        code(result.key),
        Cell.model_validate({"text": f"{value} {unit}".strip() if style == "number" else value, "style": style}),
        Cell(text=numbers.interval(result), style="number"),
        book.p(result.key),
        book.units(result.key),
        Cell(text=methods[result.method], style="number"),
    )


GLOSSARY = (
    "clean",
    "cluster",
    "coverage",
    "cue",
    "denoising",
    "equivalence",
    "flip",
    "gap",
    "head",
    "interval",
    "layer",
    "log_odds",
    "maxt",
    "nats",
    "noising",
    "pair",
    "patching",
    "placebo",
    "plan",
    "residual",
    "segment",
    "shard",
    "threshold",
)


def glossary(context: Context) -> Section:
    t = context.t
    rows = tuple((t(f"glossary.{word}"), text_cell(t(f"glossary.{word}.text"))) for word in GLOSSARY)
    rows = tuple(sorted(rows, key=lambda row: row[0].lower())) if t.language == "en" else rows
    return Section(
        id="glossary",
        number="C",
        title=t("glossary.title"),
        blocks=(fact_list(t("glossary.caption"), rows),),
    )
