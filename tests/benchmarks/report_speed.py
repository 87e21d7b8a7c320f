"""How long a report of 40 pages with 20 heat maps takes on one core, and how much memory.

Run with: taskset -c 0 python -m tests.benchmarks.report_speed
"""

import io
import resource
import sys
import time
from importlib.metadata import version

from pypdf import PdfReader

from audit_service.domain.manifest import canonical_json
from tests.workers.rendering.audits import make_evidence
from workers.rendering.blocks import EvidenceView, HeatMaps
from workers.rendering.html import render_html
from workers.rendering.pdf import render_pdf
from workers.rendering.views import build_view

HEAT_MAPS = 20
UNIT = 1024 if sys.platform == "linux" else 1
"""Bytes in which the system counts resident memory."""


def with_heat_maps(view: EvidenceView) -> EvidenceView:
    """The view with some of its heat maps drawn again, so that there are as many as the target names."""
    (place,) = (i for i, section in enumerate(view.sections) if section.id == "localisation")
    section = view.sections[place]
    drawn = [block for block in section.blocks if isinstance(block, HeatMaps)]
    missing = HEAT_MAPS - sum(len(block.panels) for block in drawn)
    more = drawn[0].model_copy(update={"panels": drawn[0].panels[:missing]})
    longer = section.model_copy(update={"blocks": (*section.blocks, more)})
    return view.model_copy(update={"sections": (*view.sections[:place], longer, *view.sections[place + 1 :])})


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print pages, heat maps, seconds of each step and the largest resident memory of parent and child."""
    evidence, before = make_evidence(), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    view = build_view(evidence)
    view = with_heat_maps(view)
    built = time.perf_counter()
    html = render_html(view)
    drawn = time.perf_counter()
    pdf = render_pdf(view, attachment=canonical_json(evidence), html=html)
    done = time.perf_counter()
    pages = len(PdfReader(io.BytesIO(pdf)).pages)
    seconds = _seconds(resource.getrusage(resource.RUSAGE_CHILDREN)) - _seconds(before)
    own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(
        f"WeasyPrint {version('weasyprint')}: {pages} pages, {HEAT_MAPS} heat maps, {len(pdf) / 2**20:.2f} MiB\n"
        f"view {built - started:.1f} s, HTML with charts {drawn - built:.1f} s, PDF {done - drawn:.1f} s; "
        f"together {done - started:.1f} s on the clock\n"
        f"child: {seconds:.1f} s of processor time, {child.ru_maxrss * UNIT / 2**20:.0f} MiB; "
        f"worker: {own.ru_maxrss * UNIT / 2**20:.0f} MiB resident\n"
    )


if __name__ == "__main__":
    main()
