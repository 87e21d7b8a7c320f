"""The parts of a finished document. Every text is final: rounded, formatted, in the document's language."""

from typing import Annotated, Literal

from pydantic import Field

from audit_service.domain.manifest import Frozen

Tone = Literal["plain", "pass", "concern", "fail", "inconclusive", "not_measured"]


class Cell(Frozen):
    """What stands in one place of a table. A number carries the id of the register row it comes from."""

    text: str
    ref: str | None = None
    style: Literal["text", "number", "code", "status"] = "text"
    tone: Tone = "plain"


class Column(Frozen):
    label: str
    style: Literal["text", "number", "code", "status"] = "text"
    width: str | None = None
    """CSS width; none lets the renderer decide."""


class Row(Frozen):
    cells: tuple[Cell, ...]
    tone: Tone = "plain"


class Paragraph(Frozen):
    kind: Literal["paragraph"] = "paragraph"
    text: str
    role: Literal["body", "intro", "note"] = "body"
    """An intro stays on the page of what follows it."""
    refs: tuple[str, ...] = ()


class Heading(Frozen):
    kind: Literal["heading"] = "heading"
    text: str
    id: str


class Bullets(Frozen):
    kind: Literal["bullets"] = "bullets"
    items: tuple[str, ...]


class Callout(Frozen):
    kind: Literal["callout"] = "callout"
    title: str
    text: str
    tone: Tone = "plain"


class FactList(Frozen):
    """Names and values, such as a model's identity."""

    kind: Literal["facts"] = "facts"
    caption: str
    rows: tuple[tuple[str, Cell], ...]
    together: bool = False
    """Short enough to stay on one page."""


class Table(Frozen):
    kind: Literal["table"] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str | None = None
    dense: bool = False
    together: bool = False
    """Short enough to stay on one page."""


class PromptText(Frozen):
    """A prompt as the model sees it before its chat template; the cue is marked."""

    kind: Literal["prompt"] = "prompt"
    title: str
    pieces: tuple[tuple[str, bool], ...]
    """(text, is the cue)"""


class Commands(Frozen):
    kind: Literal["commands"] = "commands"
    title: str
    lines: tuple[str, ...]


class Interval(Frozen):
    """One estimate of a forest chart; its numbers are the register's, unrounded."""

    label: str
    value: float
    low: float | None
    high: float | None
    tone: Tone = "plain"
    hollow: bool = False
    """Drawn as a hollow marker: a control, not a finding."""


class ForestChart(Frozen):
    kind: Literal["forest"] = "forest"
    caption: str
    alt: str
    axis: str
    intervals: tuple[Interval, ...]
    lines: tuple[float, ...] = ()
    """What to compare with: the threshold that was fixed before the run, or the noise floor of placebo pairs."""
    line_label: str = ""
    zero: float = 0.0


class HeatMap(Frozen):
    """Effects of one site kind: rows are segments or heads, columns are layers."""

    title: str
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    """[row][layer]; None was not measured."""
    named: tuple[tuple[int, int], ...] = ()
    """(row, layer) of the sites that survive the correction over all sites."""


class HeatMaps(Frozen):
    """Panels that share one colour scale, two columns wide."""

    kind: Literal["heatmaps"] = "heatmaps"
    caption: str
    alt: str
    panels: tuple[HeatMap, ...]
    layer_axis: str
    scale_label: str
    limit: float
    """The scale runs from -limit to +limit."""
    floor: float | None = None
    """Largest effect of any place in placebo pairs, marked on the scale."""


Block = Annotated[
    Paragraph | Heading | Bullets | Callout | FactList | Table | PromptText | Commands | ForestChart | HeatMaps,
    Field(discriminator="kind"),
]


class Section(Frozen):
    id: str
    number: str
    title: str
    blocks: tuple[Block, ...]


class VerdictLine(Frozen):
    """One scope on the first page."""

    scope: str
    verdict: str
    tone: Tone
    gap: Cell
    interval: str
    interval_by_cues: str
    """With pairs of cues as the unit, which the verdict asks to confirm what clusters show."""
    threshold: str
    sentence: str


class Cover(Frozen):
    kicker: str
    title: str
    subtitle: str
    verdict_label: str
    verdict: str
    tone: Tone
    facts: tuple[tuple[str, Cell], ...]
    notices: tuple[str, ...]


class Conclusion(Frozen):
    """The page that a board member reads in a minute."""

    title: str
    question: str
    answer: str
    tone: Tone
    verdict: str
    plain: tuple[str, ...]
    """Each comparison without terms of art."""
    reasons: tuple[str, ...]
    """A sentence for each flag."""
    lines: tuple[VerdictLine, ...]
    columns: tuple[str, ...]
    chart: ForestChart | None
    meaning_title: str
    meaning: tuple[str, ...]
    limits_title: str
    limits: tuple[str, ...]


class EvidenceView(Frozen):
    """A finished document: HTML, PDF and JSON say the same because they are made of this."""

    language: str
    """BCP 47 tag."""
    title: str
    subject: str
    document_id: str
    issued: str
    """ISO 8601, UTC."""
    issued_day: str
    evidence_digest: str
    """SHA-256 of the canonical JSON of the evidence that this view was made of."""
    labels: dict[str, str]
    """The template's own words: running heads, contents."""
    cover: Cover
    conclusion: Conclusion
    sections: tuple[Section, ...]
    printed: dict[str, Cell]
    """Register id → the number as printed; every printed number refers to one of these."""
