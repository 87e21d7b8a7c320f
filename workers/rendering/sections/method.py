"""How it was measured, in plain words."""

from workers.rendering.blocks import Block, Bullets, Paragraph, Section
from workers.rendering.context import Context, heading

PARTS = ("decision", "pairs", "disparity", "tracing", "correction")


def method(context: Context) -> Section:
    t = context.t
    blocks: list[Block] = []
    for part in PARTS:
        blocks.append(heading(t(f"method.{part}"), f"method-{part}"))
        blocks.append(Paragraph(text=t(f"method.{part}.text", level=context.level)))
    blocks.append(heading(t("method.controls"), "method-controls"))
    blocks.append(Bullets(items=tuple(t(f"method.control.{name}") for name in CONTROLS)))
    blocks.append(heading(t("method.sources"), "method-sources"))
    blocks.append(Paragraph(text=t("method.sources.text"), role="note"))
    return Section(id="method", number="6", title=t("method.title"), blocks=tuple(blocks))


CONTROLS = ("self", "full", "batch", "plain", "placebo", "random")
