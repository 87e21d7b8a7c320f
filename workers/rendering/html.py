"""The finished view as HTML: for screens as it is, and for the PDF."""

import base64
from functools import lru_cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from workers.rendering.blocks import EvidenceView, ForestChart, HeatMaps
from workers.rendering.catalogue import TEMPLATES
from workers.rendering.charts import chart_svg


def chart_source(chart: ForestChart | HeatMaps) -> str:
    """The chart as a data URL: an image has an alternative text, and nothing is fetched."""
    return "data:image/svg+xml;base64," + base64.b64encode(chart_svg(chart).encode()).decode()


def breakable(label: str) -> Markup:
    """A label that may break before its unit in brackets; Chinese would break anywhere else."""
    return Markup("<wbr>（").join(label.split("（"))


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"chart_source": chart_source, "breakable": breakable}
    return environment


def render_html(view: EvidenceView) -> str:
    """One self-contained file, fonts aside; every text of the view is escaped."""
    style = (TEMPLATES / "print.css").read_text(encoding="utf-8")
    return _environment().get_template("evidence.html").render(view=view, style=Markup(style))  # noqa: S704 - our file
