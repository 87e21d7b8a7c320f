"""Child process of the renderer: reads an order from stdin, writes a PDF to stdout. Run by workers.rendering.pdf."""

import base64
import json
import logging
import re
import resource
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from workers.rendering.seal import comment, sealed

TEMPLATES = Path(__file__).resolve().parents[2] / "report_templates"
PDF_UA = b"""<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/" pdfuaid:part="1"/>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>PDF/UA identification schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">
<pdfaProperty:name>part</pdfaProperty:name>
<pdfaProperty:valueType>Integer</pdfaProperty:valueType>
<pdfaProperty:category>internal</pdfaProperty:category>
<pdfaProperty:description>Part of ISO 14289 that the file keeps</pdfaProperty:description>
</rdf:li></rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas>
</rdf:Description>"""
"""PDF/A asks that a schema it does not know describes itself."""


def stop(reason: str, detail: str) -> NoReturn:
    """Ends with a reason that the parent understands."""
    print(f"{reason}: {detail}", file=sys.stderr)  # noqa: T201 - the channel to the parent
    sys.exit(1)


class Faults(logging.Handler):
    """What the library only warns of and a report must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.unprintable: set[int] = set()
        """Code points that no font has: they break PDF/A and would print as boxes."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        missing = re.search(r"\.notdef.*\(U\+([0-9A-F]+)\)$", message, re.DOTALL)
        if missing:
            self.unprintable.add(int(missing[1], 16))
        elif message.startswith("Failed to"):  # an image that was refused, or is broken
            stop("refused", message)


def limit(order: dict[str, Any]) -> None:
    """The kernel holds the limits, whatever the document does."""
    resource.setrlimit(resource.RLIMIT_CPU, (order["cpu_seconds"], order["cpu_seconds"]))
    if sys.platform != "darwin":  # macOS knows the limit and refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"], order["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec"}:
        stop("refused", event)


def render(order: dict[str, Any]) -> bytes:
    """The ordered document; dates and identifier come from the order."""
    from weasyprint import HTML, Attachment  # noqa: PLC0415 - only after the limits hold
    from weasyprint.urls import URLFetcher, URLFetcherResponse  # noqa: PLC0415

    class OwnAssets(URLFetcher):  # type: ignore[misc]  # weasyprint has no types
        """Our stylesheet's fonts and images inside the document; everything else ends the rendering."""

        def fetch(self, url: str, _headers: object = None) -> URLFetcherResponse:
            if url.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,")):
                kind, _, data = url.partition(",")
                return URLFetcherResponse(url, base64.b64decode(data), {"Content-Type": kind[5:].split(";")[0]})
            path = Path(unquote(urlsplit(url).path)).resolve()
            if not url.startswith("file:") or not path.is_relative_to(TEMPLATES / "fonts"):
                stop("refused", url)
            return URLFetcherResponse(url, path.read_bytes())

    sys.addaudithook(_refuse)  # after the imports: they look for shared libraries with a program
    issued = datetime.fromisoformat(order["issued"])
    attachment = Attachment(
        string=base64.b64decode(order["attachment"]),
        name="evidence.json",
        description="Evidence of this report",
        created=issued,
        modified=issued,
        relationship="Data",
    )
    document = HTML(string=order["html"], base_url=TEMPLATES.as_uri() + "/", url_fetcher=OwnAssets()).render(
        attachments=[attachment], pdf_variant="pdf/a-3a"
    )
    pdf: bytes = document.write_pdf(
        attachments=[attachment],
        pdf_variant="pdf/a-3a",
        pdf_identifier=bytes.fromhex(order["evidence_digest"])[:16],
        finisher=finish,
    )
    return pdf


def finish(_: object, pdf: Any) -> None:  # noqa: ANN401 - a pydyf.PDF
    """What the standards ask beyond the library: readable metadata that names PDF/UA, and described links."""
    for item in pdf.objects:
        if hasattr(item, "stream"):
            finish_stream(item)
        elif isinstance(item, dict) and item.get("Subtype") == "/Link" and "Contents" not in item:
            item["Contents"] = "(Link to a section of this document)"


def finish_stream(stream: Any) -> None:  # noqa: ANN401 - a pydyf.Stream
    """Metadata stay readable and carry the seal; no stream ends in a carriage return, which reads as a line end."""
    if stream.extra.get("Type") == "/Metadata":
        stream.compress = False
        end = PDF_UA + b"</rdf:RDF>" + comment()
        stream.stream = [part.replace(b"</rdf:RDF>", end) for part in stream.stream]
    if stream.data.endswith(b"\r\nendstream"):
        if stream.compress:
            stream.compress = False
        else:
            stream.stream.append(b"")  # one byte after the end of compressed data, which decoders pass over


def main() -> None:
    """Reads, renders, writes."""
    order = json.load(sys.stdin.buffer)
    faults = Faults()
    logging.getLogger("weasyprint").addHandler(faults)
    try:
        limit(order)
        pdf = sealed(render(order))
    except MemoryError:
        stop("memory", "out of memory")
    except OSError as error:
        stop("library", str(error))
    if faults.unprintable:
        stop("glyph", " ".join(f"{code:04X}" for code in sorted(faults.unprintable)))
    sys.stdout.buffer.write(pdf)


if __name__ == "__main__":
    main()
