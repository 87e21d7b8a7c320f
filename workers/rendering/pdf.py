"""The PDF, made in a child process: a crash, a leak or a hostile text there cannot touch the worker."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from audit_service.errors import AuditError
from workers.rendering.blocks import EvidenceView
from workers.rendering.html import render_html

PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "FONTCONFIG_FILE",
    "FONTCONFIG_PATH",
    "XDG_CACHE_HOME",
    "DYLD_FALLBACK_LIBRARY_PATH",
)
"""The only variables of the worker that the child sees: no address and no secret of a service."""
EXIT_REASONS = {
    "memory": "The report needs more memory than it may take.",
    "library": "WeasyPrint's system libraries are missing.",
    "refused": "The report asked for a file or an address outside its own assets.",
}


class RenderFailed(AuditError):
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The report could not be made"


class MissingGlyphs(RenderFailed):
    """Signs that the fonts at hand lack."""

    def __init__(self, codes: Sequence[int]) -> None:
        listed = ", ".join(f"U+{code:04X}" for code in codes)
        super().__init__(f"The fonts lack {listed}.", remedy="Install a font that has these signs.")
        self.codes = codes


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may take."""

    seconds: float = 300
    """On the clock; a busy machine needs several times its processor time."""
    cpu_seconds: int = 120
    memory_bytes: int = 2 * 1024**3
    """Address space, which is more than what stays resident."""


def render_pdf(view: EvidenceView, *, attachment: bytes, limits: Limits = Limits(), html: str | None = None) -> bytes:
    """The view as PDF/A-3a and PDF/UA-1 with the evidence attached; equal input gives equal bytes.

    Signs that no font has, such as pictographs in a name, are printed as their code points. Raises RenderFailed when
    a limit is reached or the child refuses.
    """
    try:
        return run_child(_order(view, html or render_html(view), attachment, limits), seconds=limits.seconds)
    except MissingGlyphs as missing:
        spelled = spell_out(view, missing.codes)
    return run_child(_order(spelled, render_html(spelled), attachment, limits), seconds=limits.seconds)


def _order(view: EvidenceView, html: str, attachment: bytes, limits: Limits) -> bytes:
    order = {
        "html": html,
        "attachment": base64.b64encode(attachment).decode(),
        "issued": view.issued,
        "evidence_digest": view.evidence_digest,
        "cpu_seconds": limits.cpu_seconds,
        "memory_bytes": limits.memory_bytes,
    }
    return json.dumps(order).encode()


def spell_out(view: EvidenceView, codes: Iterable[int]) -> EvidenceView:
    """The view with each of the signs replaced by its code point: [U+1F600]."""
    words = {code: f"[U+{code:04X}]" for code in codes}
    return EvidenceView.model_validate_json(view.model_dump_json().translate(words))


RENDERER = ("-m", "workers.rendering.pdf_child")


def run_child(order: bytes, *, seconds: float, program: Sequence[str] = RENDERER) -> bytes:
    """Runs the renderer on one order: JSON on stdin, PDF on stdout, reasons on stderr."""
    command = [sys.executable, "-P", *program]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=order, capture_output=True, timeout=seconds, env=_environment(), check=False
        )
    except subprocess.TimeoutExpired as late:
        raise RenderFailed(
            f"The report was not finished after {seconds:g} s.",
            remedy="Raise the time limit of reports, or trace fewer sites.",
        ) from late
    if done.returncode != 0:
        raise _failure(done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def _failure(code: int, said: str) -> RenderFailed:
    """The child's last words as an error of ours.

    A child without memory may complain on, after it gave its reason or before it could.
    """
    lines = [line for line in said.strip().splitlines() if line.strip()]
    given = [line for line in lines if line.partition(": ")[0] in {*EXIT_REASONS, "glyph"}]
    last = (given or lines or [""])[-1]
    reason, _, detail = last.partition(": ")
    if not given and "MemoryError" in said:
        reason = "memory"
    if reason == "glyph":
        return MissingGlyphs([int(word, 16) for word in detail.split()])
    if code < 0:
        return RenderFailed(
            f"The renderer was stopped by signal {-code}, as it reached its limit of processor time.",
            remedy="Raise the time limit of reports, or trace fewer sites.",
        )
    remedy = (
        "Install the libraries named in the README." if reason == "library" else "Send the message to the maintainers."
    )
    return RenderFailed(EXIT_REASONS.get(reason, "The renderer failed."), remedy=remedy, details=[detail or last])
