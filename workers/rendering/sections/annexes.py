"""Optional annexes: other frameworks an auditor may ask about."""

from audit_service.domain.frameworks import crosswalk
from workers.rendering.blocks import Block, Bullets, Column, Paragraph, Section
from workers.rendering.context import Context, heading, table, text_cell
from workers.rendering.frameworks import EU, US, eu_ai_act, mapping_file, taiwan_principles, us_validation
from workers.rendering.sections.crosswalk import all_rows

SECTIONS_BY_PRINCIPLE = ("14", "7", "5", "9", "8, 11", "")
"""Where this report speaks to each core principle; empty where it does not."""


def annexes(context: Context) -> Section:
    t = context.t
    mappings = mapping_file().mappings
    facts, downgrades = context.facts(), context.downgrades()
    blocks: list[Block] = [Paragraph(text=t("annex.text"))]
    for name, framework, key in ((EU, eu_ai_act(), "eu"), (US, us_validation(), "us")):
        rows = crosswalk(mappings[name], facts, downgrades)
        blocks.append(heading(t(f"annex.{key}"), f"annex-{key}"))
        blocks.append(Paragraph(text=t(f"annex.{key}.text"), role="intro"))
        blocks.append(all_rows(context, rows, framework, name))
    blocks += _taiwan(context)
    blocks += [heading(t("annex.ecoa"), "annex-ecoa")]
    blocks.append(Bullets(items=tuple(t(f"annex.ecoa.{name}") for name in ("treatment", "reasons", "ratio", "ll144"))))
    return Section(id="annexes", number="D", title=t("annex.title"), blocks=tuple(blocks))


def _taiwan(context: Context) -> list[Block]:
    t = context.t
    principles = taiwan_principles()
    rows = [
        (
            text_cell(f"{index}  {titles.of(t.language)}"),
            text_cell(t("annex.tw.section", sections=sections) if sections else t("strength.not_covered")),
        )
        for index, (titles, sections) in enumerate(zip(principles, SECTIONS_BY_PRINCIPLE, strict=True), start=1)
    ]
    columns = (Column(label=t("annex.tw.principle"), width="60%"), Column(label=t("annex.tw.where")))
    return [
        heading(t("annex.tw"), "annex-tw"),
        Paragraph(text=t("annex.tw.text"), role="intro"),
        table(t("annex.tw.guideline"), columns, rows),
    ]
