"""The report laid against NIST AI RMF 1.0 and ISO/IEC 42001:2023, row by row, nothing left out."""

from collections.abc import Sequence

from audit_service.domain.frameworks import (
    STRONGEST_FIRST,
    Application,
    CrosswalkRow,
    Strength,
    count_strengths,
    crosswalk,
)
from workers.rendering import numbers
from workers.rendering.blocks import Block, Cell, Column, Paragraph, Section, Table
from workers.rendering.context import Context, count, heading, table, text_cell
from workers.rendering.frameworks import ISO, NIST, Framework, iso, mapping_file, nist


def nist_section(context: Context) -> Section:
    rows = crosswalk(mapping_file().mappings[NIST], context.facts(), context.downgrades())
    t = context.t
    blocks: list[Block] = [
        Paragraph(text=t("nist.text")),
        _counts(context, rows, "nist"),
        heading(t("crosswalk.downgrades"), "nist-downgrades"),
        Paragraph(text=t("crosswalk.downgrades.text"), role="intro"),
        _downgrades(context),
        *_tables(context, rows, nist(), NIST),
    ]
    return Section(id="nist", number="12", title=t("nist.title"), blocks=tuple(blocks))


def iso_section(context: Context) -> Section:
    rows = crosswalk(mapping_file().mappings[ISO], context.facts(), context.downgrades())
    t = context.t
    clauses = tuple(row for row in rows if not row.id.startswith("A."))
    controls = tuple(row for row in rows if row.id.startswith("A."))
    blocks: list[Block] = [
        Paragraph(text=t("iso.text")),
        _counts(context, clauses, "iso.clauses"),
        _counts(context, controls, "iso.controls"),
        *_tables(context, rows, iso(), ISO),
        heading(t("iso.soa.title"), "iso-soa"),
        Paragraph(text=t("iso.soa"), role="intro"),
        _suggested(context, controls),
    ]
    return Section(id="iso", number="13", title=t("iso.title"), blocks=tuple(blocks))


def _suggested(context: Context, controls: Sequence[CrosswalkRow]) -> Table:
    """Rows that an organisation may take into its statement of applicability; what only it knows is left to it."""
    t, evidence = context.t, context.evidence
    behavior, mine = evidence.plan.behavior, text_cell(t("iso.soa.decide"))
    risk = text_cell(t("iso.soa.risk", behavior=behavior.name, rating=behavior.risk.rating))
    columns = (
        Column(label=t("iso.soa.control"), width="10%"),
        Column(label=t("iso.soa.applicable"), width="24%"),
        Column(label=t("iso.soa.justification"), width="27%"),
        Column(label=t("iso.soa.evidence")),
    )
    rows = [
        (text_cell(row.id), mine, risk, text_cell(_item(context, row)))
        for row in controls
        if row.strength is not Strength.NOT_COVERED
    ]
    return table(t("iso.soa.caption"), columns, rows, dense=True)


def _item(context: Context, row: CrosswalkRow) -> str:
    """The evidence of a row as another document can name it: id, edition, day, parts."""
    t, evidence = context.t, context.evidence
    return t(
        "iso.soa.item",
        document=evidence.document_id,
        edition=str(evidence.edition),
        day=numbers.day(evidence.issued_at),
        kinds=t.join(t(f"artefact.{kind}") for kind in row.present),
        strength=t(f"strength.{row.strength}"),
    )


def _counts(context: Context, rows: Sequence[CrosswalkRow], name: str) -> Table:
    """The four counts side by side, as the mapping allows at most and as this report supports."""
    t = context.t
    before, after = count_strengths(row.ceiling for row in rows), count_strengths(row.strength for row in rows)
    columns = [Column(label=t(f"{name}.items"), width="32%")]
    columns += [Column(label=t(f"strength.{strength}"), style="number") for strength in STRONGEST_FIRST]
    cells = [
        [text_cell(t("crosswalk.this")), *(count(after[strength]) for strength in STRONGEST_FIRST)],
        [text_cell(t("crosswalk.ceiling")), *(count(before[strength]) for strength in STRONGEST_FIRST)],
    ]
    return table(t(f"{name}.counts"), columns, cells, note=t("crosswalk.counts.note"))


_GRAVEST_FIRST = (Application.APPLIES, Application.NOT_EVALUATED, Application.HOLDS)


def _downgrades(context: Context) -> Table:
    t, tones = context.t, {Application.APPLIES: "concern", Application.HOLDS: "pass"}
    columns = (
        Column(label=t("crosswalk.rule"), style="code", width="9%"),
        Column(label=t("crosswalk.condition")),
        Column(label=t("crosswalk.effect"), width="34%"),
        Column(label=t("crosswalk.state"), style="status", width="17%"),
    )
    rows = [
        (
            Cell(text=name, style="code"),
            text_cell(t(f"downgrade.{name}.if")),
            text_cell(t(f"downgrade.{name}.then")),
            Cell.model_validate(
                {"text": t(f"downgrade.{state}"), "style": "status", "tone": tones.get(state, "not_measured")}
            ),
        )
        for name, state in sorted(context.downgrades().items(), key=lambda item: _GRAVEST_FIRST.index(item[1]))
    ]
    return table(t("crosswalk.downgrades.table"), columns, rows, dense=True)


def _tables(context: Context, rows: Sequence[CrosswalkRow], framework: Framework, name: str) -> list[Block]:
    """Supported rows by group, then every row that is not covered."""
    t = context.t
    blocks: list[Block] = []
    for group, titles in framework.groups.items():
        supported = [r for r in rows if framework.items[r.id].group == group and r.strength is not Strength.NOT_COVERED]
        if supported:
            caption = f"{group}  {titles.of(t.language)}"
            columns = _supported_columns(context)
            cells = [_supported(context, row, framework, name) for row in supported]
            blocks.append(table(caption, columns, cells, dense=True))
    absent = [row for row in rows if row.strength is Strength.NOT_COVERED]
    short = name.split("-", maxsplit=1)[0]
    blocks.append(heading(t("crosswalk.not_covered"), f"{short}-not-covered"))
    blocks.append(Paragraph(text=t("crosswalk.not_covered.text"), role="intro"))
    cells = [_not_covered(context, row, framework, name) for row in absent]
    blocks.append(
        table(t("crosswalk.not_covered.table", number=str(len(absent))), _absent_columns(context), cells, dense=True)
    )
    return blocks


def all_rows(context: Context, rows: Sequence[CrosswalkRow], framework: Framework, name: str) -> Table:
    """Every row of a small framework in one table, covered or not."""
    (titles,) = framework.groups.values()
    cells = [_supported(context, row, framework, name) for row in rows]
    return table(titles.of(context.t.language), _supported_columns(context), cells, dense=True)


def _supported_columns(context: Context) -> Sequence[Column]:
    t = context.t
    return (
        Column(label=t("crosswalk.item"), width="31%"),
        Column(label=t("crosswalk.strength"), style="status", width="15%"),
        Column(label=t("crosswalk.evidence"), width="20%"),
        Column(label=t("crosswalk.why")),
    )


def _absent_columns(context: Context) -> Sequence[Column]:
    t = context.t
    return (
        Column(label=t("crosswalk.item"), width="42%"),
        Column(label=t("crosswalk.strength"), style="status", width="15%"),
        Column(label=t("crosswalk.gap")),
    )


def _title(context: Context, row: CrosswalkRow, framework: Framework) -> Cell:
    return text_cell(f"{row.id}  {framework.items[row.id].titles.of(context.t.language)}")


def _rationale(context: Context, row: CrosswalkRow, name: str) -> str:
    """The mapping's words; other languages have them in their catalogue."""
    key = f"rationale.{name}.{row.id}"
    return context.t(key) if context.t.has(key) else row.rationale


def _strength(context: Context, row: CrosswalkRow) -> Cell:
    """The strength in this report; the ceiling beside it where it was not reached."""
    text = context.t(f"strength.{row.strength}")
    if row.strength is not row.ceiling:
        text = context.t("crosswalk.below", strength=text, ceiling=context.t(f"strength.{row.ceiling}"))
    return Cell(text=text, style="status")


def _reasons(context: Context, row: CrosswalkRow) -> str:
    t = context.t
    said = [t("crosswalk.reason", rules=t.join(row.reasons))] if row.reasons else []
    if row.absent and row.strength is not row.ceiling:
        said.append(t("crosswalk.missing", kinds=t.join(t(f"artefact.{kind}") for kind in row.absent)))
    if "DG5" in row.reasons:
        said.append(t("crosswalk.unstable"))
    if row.exploratory:
        said.append(t("crosswalk.exploratory"))
    return t.sentences(said)


def _supported(context: Context, row: CrosswalkRow, framework: Framework, name: str) -> tuple[Cell, ...]:
    t = context.t
    return (
        _title(context, row, framework),
        _strength(context, row),
        text_cell(t.join(t(f"artefact.{kind}") for kind in row.present)),
        text_cell(t.sentences([_rationale(context, row, name), _gap(context, row)])),
    )


def _gap(context: Context, row: CrosswalkRow) -> str:
    """Why there is no more: a gap that the mapping names, or what took strength away here."""
    return context.t(f"gap.{row.gap}") if row.gap else _reasons(context, row)


def _not_covered(context: Context, row: CrosswalkRow, framework: Framework, name: str) -> tuple[Cell, ...]:
    return (
        _title(context, row, framework),
        _strength(context, row),
        text_cell(context.t.sentences([_rationale(context, row, name), _gap(context, row)])),
    )
