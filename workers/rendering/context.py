"""What every section of the document is written from."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from audit_service.domain.approvals import Record
from audit_service.domain.frameworks import (
    DISPARITY,
    LOCALISATION,
    MANIFEST,
    METRIC,
    MITIGATION,
    SENSITIVITY,
    Application,
    DowngradeId,
    Facts,
    evaluate_downgrades,
)
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Corruption, Direction, Unit
from audit_service.domain.readings import BUILT_IN
from audit_service.domain.results import Sentence, VerdictValue
from audit_service.domain.sites import ALL, Site
from workers.rendering import numbers
from workers.rendering.blocks import Cell, Column, FactList, Heading, Paragraph, Row, Table, Tone
from workers.rendering.book import Book
from workers.rendering.catalogue import Catalogue
from workers.rendering.evidence import Evidence

_NUMBERED = re.compile(r"part (\d+) of the prompts|form (.+) alone")
WORST_FIRST = (
    VerdictValue.FAIL,
    VerdictValue.CONCERN,
    VerdictValue.INCONCLUSIVE,
    VerdictValue.NOT_MEASURED,
    VerdictValue.PASS,
)


LEADING = ".leading_site_share"
"""Result keys that say how often the leading site of a form leads under other directions, metrics and prompts."""


_RESULTS = frozenset({Record.VERDICT, Record.REPORT})
"""Records whose acceptance signs off what was found, not only what was planned."""


class Contrast(NamedTuple):
    """One comparison: a form, an attribute and a group against the reference group."""

    form: str
    attribute: str
    reference: str
    group: str

    @property
    def key(self) -> str:
        return f"{self.form}.{self.attribute}.{self.group}"


@dataclass(frozen=True)
class Context:
    """The evidence, the words and the numbers of one document."""

    evidence: Evidence
    t: Catalogue
    book: Book

    @classmethod
    def of(cls, evidence: Evidence, t: Catalogue) -> "Context":
        return cls(evidence, t, Book(evidence.rows, t))

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Every declared comparison, forms with the worse verdict first, larger gaps first within a form."""
        behavior = self.evidence.plan.behavior
        verdicts = {verdict.scope: WORST_FIRST.index(verdict.value) for verdict in self.evidence.judgement.forms}
        listed = [
            Contrast(form.name, attribute.name, attribute.reference, group)
            for form in behavior.forms
            for attribute in behavior.attributes
            for group in sorted(attribute.groups)
            if group != attribute.reference
        ]
        return tuple(
            sorted(
                listed,
                key=lambda c: (verdicts.get(c.form, 0), -abs(self.book.value(f"{c.key}.gap_nats") or 0.0)),
            )
        )

    @property
    def forms(self) -> tuple[str, ...]:
        """Names of the forms, worse verdicts first."""
        declared = [form.name for form in self.evidence.plan.behavior.forms]
        worst = list(dict.fromkeys(contrast.form for contrast in self.contrasts))
        return tuple(sorted(declared, key=lambda name: worst.index(name) if name in worst else len(worst)))

    @property
    def directions(self) -> tuple[Direction, ...]:
        return self.evidence.plan.tracing.directions

    @property
    def level(self) -> str:
        """The confidence level as printed."""
        return f"{100 * (1 - self.evidence.plan.judging.alpha):g}{numbers.NO_BREAK}%"

    def statements(self, subject: str) -> tuple[str, ...]:
        """What the judge found on a subject ("disparity" or "effects"), single sites last."""
        found = [one for one in self.evidence.judgement.statements if one.id.startswith(f"{subject}.")]
        return tuple(self.say(sentence) for sentence in sorted(found, key=lambda one: one.id.endswith("_like")))

    def say(self, sentence: Sentence) -> str:
        """A sentence of the judge; a site's key in it becomes the site's name."""
        values = dict(sentence.values)
        for name in {"site", "others"} & set(values):
            values[name] = self.t.join(self.site_words(key) for key in str(values[name]).split(", "))
        if "where" in values:
            values["where"] = "; ".join(self.specification(name) for name in str(values["where"]).split("; "))
        if "variant" in values:
            values["variant"] = self.variant(str(values["variant"]))
        return self.t.say(Sentence(id=sentence.id, values=values))

    def specification(self, name: str) -> str:
        """A specification's name in the language; its parts come from a fixed vocabulary."""
        words = {"all prompts": "spec.all"} | {f"by {unit}": f"spec.unit.{unit}" for unit in Unit}
        words |= {metric.name: f"metric.{metric.name}" for metric in BUILT_IN}
        words |= {str(way): f"direction.{way}" for way in Direction}
        words |= {str(corruption): f"corruption.{corruption}" for corruption in Corruption}
        said = []
        for part in name.split(", "):
            numbered = _NUMBERED.fullmatch(part)
            if part in words:
                said.append(self.t(words[part]))
            elif numbered:
                said.append(
                    self.t("spec.part", number=numbered[1]) if numbered[1] else self.t("spec.form", form=numbered[2])
                )
            else:
                said.append(part)
        return self.t.join(said)

    def variant(self, name: str) -> str:
        """A corruption and a window of layers, as the keys of results have them."""
        parts = []
        for part in name.split("."):
            width = part.removeprefix("window")
            parts.append(self.t("spec.window", width=width) if width != part else self.t(f"corruption.{part}"))
        return self.t.join(parts)

    def site_words(self, key: str) -> str:
        """The name of a site that the plan has, by its key."""
        site = next((site for site in self.evidence.plan.sites if site.key == key), None)
        return key if site is None else self.site_name(site)

    def site_name(self, site: Site) -> str:
        """A site in words: kind, layer, head, segment."""
        t = self.t
        last = site.layer + site.width - 1
        layer = str(site.layer) if site.width == 1 else f"{site.layer}-{last}"
        parts = [t("site.layer", kind=t(f"site.{site.kind}"), layer=layer)]
        parts += [] if site.head is None else [t("chart.head", head=str(site.head))]
        parts += [] if site.segment == ALL else [t("site.segment", segment=site.segment)]
        return t.join(parts)

    def metric(self, name: str) -> str:
        """A metric's name in the language; registered ones keep the title that they were given."""
        known = next((metric for metric in self.evidence.plan.metrics if metric.name == name), None)
        return self.t(f"metric.{name}") if self.t.has(f"metric.{name}") else known.title if known else name

    def unit(self, name: str) -> str:
        """A unit in the language; those of registered metrics stay as they were given."""
        return self.t(f"unit.{name}") if self.t.has(f"unit.{name}") else name

    def verdict(self, value: VerdictValue) -> str:
        return self.t(f"word.verdict.{value}")

    def facts(self) -> Facts:
        """What the downgrades ask, answered from the evidence alone."""
        evidence = self.evidence
        authors = {evidence.run.requested_by, evidence.plan.behavior.owner}
        accepting = [approval for approval in evidence.approvals if approval.accepts and evidence.names(approval)]
        others = [approval for approval in accepting if approval.person not in authors]
        leading = [r.value for r in evidence.judgement.results if r.key.endswith(LEADING)]
        return Facts(
            artefacts=frozenset(self._artefacts()),
            signed_off_by_another=any(approval.record in _RESULTS for approval in others),
            disparity_complete=all(self._complete(contrast) for contrast in self.contrasts),
            criteria_fixed_before=not evidence.plan.exploratory and evidence.run.planned_at <= evidence.run.started_at,
            inconclusive=any(v.value is VerdictValue.INCONCLUSIVE for v in evidence.judgement.forms),
            localisation_stable=all(share == 1.0 for share in leading) if leading else None,
            digests_hold=evidence.digests_hold,
            deployment_argument=bool(evidence.plan.behavior.deployment_note),
            current=evidence.currency.holds(at=evidence.issued_at, model_digest=evidence.plan.model.digest),
            mitigation_complete=self._mitigations_complete(),
            approver_independent=None if not accepting else len(others) == len(accepting),
        )

    def downgrades(self) -> dict[DowngradeId, Application]:
        return evaluate_downgrades(self.facts())

    def _artefacts(self) -> Iterator[str]:
        yield from ("behaviour_registration", METRIC, "dataset_datasheet", "limitations_statement", MANIFEST)
        if any(contrast.key + ".gap_nats" in self.book for contrast in self.contrasts):
            yield DISPARITY
        if any(".named_sites" in key for key in self.book.results):
            yield LOCALISATION
        if any(key.endswith(LEADING) for key in self.book.results):
            yield SENSITIVITY
        if self.evidence.approvals:
            yield "approval_trail"
        if self.evidence.mitigations:
            yield MITIGATION
        if self.evidence.comparison:
            yield "revalidation_record"

    def _mitigations_complete(self) -> bool | None:
        """Whether every mitigation was measured whole (DG9); None if there is none."""
        digest = self.evidence.pair_set.digest
        measured = [mitigation.complete(pair_set_digest=digest) for mitigation in self.evidence.mitigations]
        return all(measured) if measured else None

    def _complete(self, contrast: Contrast) -> bool:
        """Interval, sample size and null control of one comparison (DG2)."""
        gap = self.book.results.get(f"{contrast.key}.gap_nats")
        placebo = any(pair.kind is PairKind.PLACEBO for pair in self.evidence.pair_set.pairs)
        return gap is not None and gap.low is not None and gap.n is not None and placebo


def tone_of(value: VerdictValue) -> Tone:
    return value.value


def text_cell(text: str) -> Cell:
    return Cell(text=text)


def code(text: str) -> Cell:
    return Cell(text=text, style="code")


def count(value: int) -> Cell:
    return Cell(text=f"{value:,}", style="number")


def criterion(value: float, unit: str = "") -> Cell:
    return Cell(text=f"{numbers.criterion(value)} {unit}".strip())


SHORT = 900
"""Characters up to which a table stays together: about a third of a page."""
LINE = 25
"""Characters that a row takes besides its own."""
_WIDE = 0x2E80
"""Code points from here on, Chinese among them, take the room of two."""


def _room(texts: Iterable[str]) -> int:
    """Characters as wide as Latin ones."""
    return sum(2 if ord(sign) >= _WIDE else 1 for text in texts for sign in text)


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    note: str | None = None,
    dense: bool = False,
) -> Table:
    """A table of cells; columns decide nothing about the cells."""
    return Table(
        caption=caption,
        columns=tuple(columns),
        rows=tuple(Row(cells=tuple(cells)) for cells in rows),
        note=note,
        dense=dense,
        together=_room(cell.text for cells in rows for cell in cells) + LINE * len(rows) < SHORT,
    )


def fact_list(caption: str, rows: Sequence[tuple[str, Cell]]) -> FactList:
    """Names and values; a short list stays together."""
    texts = (text for name, value in rows for text in (name, value.text))
    return FactList(caption=caption, rows=tuple(rows), together=_room(texts) + LINE * len(rows) < SHORT)


_WIDTHS = {
    "interval": "17%",
    "katz": "17%",
    "tost_interval": "20%",
    "clusters": "5%",
    "p": "9%",
    "layer": "8%",
    "head": "8%",
}
"""Columns whose content is wider or narrower than an equal share of the page."""


def number_columns(context: Context, names: Sequence[str]) -> list[Column]:
    """Columns of numbers by their catalogue names; those without a width of their own share what is left."""
    return [
        Column(label=context.t(f"column.{name}", level=context.level), style="number", width=_WIDTHS.get(name))
        for name in names
    ]


def heading(text: str, anchor: str) -> Heading:
    return Heading(text=text, id=anchor)


def note(text: str) -> Paragraph:
    return Paragraph(text=text, role="note")
