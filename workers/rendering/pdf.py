"""The PDF, made in a child process: a crash, a leak or a hostile text there cannot touch the worker."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
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
    "glyph": "The fonts lack a sign that the report prints.",
    "library": "WeasyPrint's system libraries are missing.",
    "refused": "The report asked for a file or an address outside its own assets.",
}


class RenderFailed(AuditError):
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The report could not be made"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may take."""

    seconds: float = 120
    cpu_seconds: int = 90
    memory_bytes: int = 2 * 1024**3
    """Address space, which is more than what stays resident."""


def render_pdf(view: EvidenceView, *, attachment: bytes, limits: Limits = Limits(), html: str | None = None) -> bytes:
    """The view as PDF/A-3a and PDF/UA-1 with the evidence attached; equal input gives equal bytes.

    Raises RenderFailed when a limit is reached or the child refuses.
    """
    order = {
        "html": html or render_html(view),
        "attachment": base64.b64encode(attachment).decode(),
        "document_id": view.document_id,
        "issued": view.issued,
        "language": view.language,
        "evidence_digest": view.evidence_digest,
        "cpu_seconds": limits.cpu_seconds,
        "memory_bytes": limits.memory_bytes,
    }
    return run_child(json.dumps(order).encode(), seconds=limits.seconds)


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
    """The child's last words as an error of ours."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    reason, _, detail = last.partition(": ")
    if code < 0:
        return RenderFailed(
            f"The renderer was stopped by signal {-code}, as it reached its limit of processor time.",
            remedy="Raise the time limit of reports, or trace fewer sites.",
        )
    remedy = (
        "Install the libraries named in the README." if reason == "library" else "Send the message to the maintainers."
    )
    return RenderFailed(EXIT_REASONS.get(reason, "The renderer failed."), remedy=remedy, details=[detail or last])
