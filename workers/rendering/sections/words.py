"""The words of a behavior: what they rest on, what was looked up of it, and what a finding with them does not show."""

from collections import Counter
from collections.abc import Iterator

from audit_service.domain.datasheets import Datasheet, Standing, Words
from workers.rendering.blocks import Block, Bullets, Column
from workers.rendering.context import Context, fact_list, heading, note, table, text_cell


def words(context: Context) -> Iterator[Block]:
    """The datasheet that the behavior came with, and nothing where it came with none."""
    t, sheet = context.t, context.evidence.plan.behavior.datasheet
    if sheet is None:
        return
    yield heading(t("words.title"), "datasheet-words")
    facts = (
        (t("words.signal"), t(f"words.signal.{sheet.signal}")),
        (t("words.purpose"), sheet.purpose),
        (t("words.neutral"), sheet.neutral),
        (t("words.standings"), _standings(context, sheet)),
    )
    yield fact_list(t("words.caption"), tuple((label, text_cell(text)) for label, text in facts))
    yield _sources(context, sheet)
    yield note(t("words.limits"))
    yield Bullets(items=sheet.limits)


def _standings(context: Context, sheet: Datasheet) -> str:
    """How many of the sources were looked up, so that nobody has to count."""
    have = Counter(words.standing for words in sheet.words)
    return context.t.join(f"{context.t(f'words.standing.{one}')}: {have[one]}" for one in Standing)


def _sources(context: Context, sheet: Datasheet) -> Block:
    t = context.t
    rows = [
        (
            text_cell(words.what),
            text_cell(words.rests_on),
            text_cell(t(f"words.standing.{words.standing}")),
            text_cell(_seen(context, words)),
        )
        for words in sheet.words
    ]
    widths = {"what": "20%", "rests_on": "28%", "standing": "12%", "seen": None}
    columns = [Column(label=t(f"words.column.{name}"), width=width) for name, width in widths.items()]
    return table(t("words.sources"), columns, rows, note=t("words.sources.note"))


def _seen(context: Context, words: Words) -> str:
    """Figures are sorted by cue: a mapping's order is lost on its way through the database and the bundle."""
    figures = context.t.join(f"{cue} {figure:,g}" for cue, figure in sorted(words.figures.items()))
    told = [words.seen, f"{words.unit}: {figures}" if figures else None]
    nothing = "–" if words.standing is Standing.OWN else context.t("words.not_seen")
    return " ".join(part for part in told if part) or nothing
