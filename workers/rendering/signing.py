"""PAdES signatures over a finished report. The visible words stand in the document; the signature itself is invisible,
because a stamp on the page would break PDF/A and PDF/UA.
"""

import hashlib
import io
from itertools import count
from typing import NamedTuple

from asn1crypto import cms
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.timestamps import TimeStamper
from pyhanko.sign.timestamps.aiohttp_client import HTTPTimeStamper
from pyhanko.sign.timestamps.common_utils import TimestampRequestError
from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko_certvalidator import ValidationContext

from audit_service.errors import Unavailable
from workers.rendering.keys import AnyKey

FIELD = "AuditEvidence"
ROOM = 16_384
"""Bytes kept free for the signature and its time stamp."""


class _Writer(IncrementalPdfFileWriter):
    """Leaves the metadata alone: rewritten, they would lose what PDF/A and PDF/UA ask."""

    def _update_meta(self) -> None:
        return


def sign(pdf: bytes, key: AnyKey, *, timestamper: TimeStamper | None = None) -> bytes:
    """The report with a PAdES B-B signature, or B-T with a time stamp.

    Raises:
        InvalidInput: the key cannot be used.
        Unavailable: the time-stamping authority does not answer.
    """
    if timestamper is None and key.timestamp_url:
        timestamper = HTTPTimeStamper(key.timestamp_url)
    with key.opened() as signer:
        for room in count(ROOM, 2):
            signed = _signed(pdf, signer, timestamper, room=room)
            if _CUT_SHORT not in signed[len(pdf) :]:
                return signed
    raise AssertionError("count never ends")


_CUT_SHORT = b"\r\nendstream"
"""A stream that ends in a carriage return reads as one byte shorter, which PDF/A forbids. The stream that locates the
new objects depends on where they lie, so that other room for the signature gives another one.
"""


def _signed(pdf: bytes, signer: signers.Signer, timestamper: TimeStamper | None, *, room: int) -> bytes:
    field = fields.SigFieldSpec(
        FIELD,
        readable_field_name="Signature of the audit evidence",
        invis_sig_settings=fields.InvisSigSettings(box_out_of_bounds=True),
    )
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD, md_algorithm="sha256", subfilter=fields.SigSeedSubFilter.PADES
    )
    signing = signers.PdfSigner(metadata, signer, timestamper=timestamper, new_field_spec=field)
    try:
        signed: io.BytesIO = signing.sign_pdf(_Writer(io.BytesIO(pdf)), bytes_reserved=room)
    except TimestampRequestError as error:
        raise Unavailable(
            f"The time-stamping authority did not give a time stamp: {error}",
            remedy="Start it or correct AUDIT_TIMESTAMP_URL; the report is tried again by itself.",
        ) from error
    return signed.getvalue()


class Signature(NamedTuple):
    """What is known of a signature without trusting anybody."""

    intact: bool
    """The signature fits the whole file as it is."""
    certificate: str
    """SHA-256 of the certificate: compare it with the one that the organisation made known."""
    name: str
    timestamped: bool


def signatures(pdf: bytes) -> list[Signature]:
    """Each signature in a file; whether its certificate is trusted is for the reader to decide."""
    try:
        found = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
        return [_examined(one) for one in found]
    except (PdfError, SignatureValidationError, ValueError):
        return [Signature(intact=False, certificate="", name="unreadable", timestamped=False)]


def _examined(embedded: EmbeddedPdfSignature) -> Signature:
    certificate = embedded.signer_cert
    trusting = ValidationContext(trust_roots=[certificate], allow_fetching=False)
    status = validate_pdf_signature(embedded, trusting, trusting)
    whole = status.coverage is SignatureCoverageLevel.ENTIRE_FILE
    return Signature(
        intact=bool(status.intact and status.valid and whole and _padded_with_zeros(embedded.pkcs7_content)),
        certificate=hashlib.sha256(certificate.dump()).hexdigest(),
        name=str(certificate.subject.human_friendly),
        timestamped=status.timestamp_validity is not None and status.timestamp_validity.intact,
    )


def _padded_with_zeros(contents: bytes) -> bool:
    """The room kept for the signature is the one stretch that it does not cover: nothing may hide there."""
    length = len(cms.ContentInfo.load(contents, strict=False).dump())
    return not any(contents[length:])
