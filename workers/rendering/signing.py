"""PAdES signatures over a finished report. The visible words stand in the document; the signature itself is invisible,
because a stamp on the page would break PDF/A and PDF/UA.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.timestamps import TimeStamper
from pyhanko.sign.timestamps.aiohttp_client import HTTPTimeStamper
from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko_certvalidator import ValidationContext

from audit_service.errors import InvalidInput
from workers.rendering.evidence import Signing

FIELD = "AuditEvidence"
ROOM = 16_384
"""Bytes kept free for the signature and its time stamp."""


@dataclass(frozen=True)
class SigningKey:
    """The organisation's key: PKCS#12 data, and where time stamps come from (RFC 3161)."""

    data: bytes
    passphrase: bytes | None = None
    timestamp_url: str | None = None

    @classmethod
    def read(cls, path: Path, *, passphrase: str | None, timestamp_url: str | None) -> "SigningKey":
        """The key in a file.

        Raises InvalidInput if the file cannot be read or opened with the passphrase.
        """
        try:
            key = cls(path.read_bytes(), passphrase.encode() if passphrase else None, timestamp_url)
            _ = key.certificate
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"The signing key {path} cannot be used: {error}.",
                remedy="Set AUDIT_SIGNING_PKCS12 to a PKCS#12 file and AUDIT_SIGNING_PASSPHRASE to its passphrase.",
            ) from error
        return key

    @cached_property
    def certificate(self) -> x509.Certificate:
        _, certificate, _ = pkcs12.load_key_and_certificates(self.data, self.passphrase)
        if certificate is None:
            raise ValueError("it holds no certificate")
        return certificate

    def described(self) -> Signing:
        """What the report says about the signature that will be put on it."""
        certificate = self.certificate
        return Signing(
            name=certificate.subject.rfc4514_string(),
            certificate=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
            self_issued=certificate.issuer == certificate.subject,
            timestamped=self.timestamp_url is not None,
        )


class _Writer(IncrementalPdfFileWriter):
    """Leaves the metadata alone: rewritten, they would lose what PDF/A and PDF/UA ask."""

    def _update_meta(self) -> None:
        return


def sign(pdf: bytes, key: SigningKey, *, timestamper: TimeStamper | None = None) -> bytes:
    """The report with a PAdES B-B signature, or B-T with a time stamp."""
    signer = signers.SimpleSigner.load_pkcs12_data(key.data, other_certs=[], passphrase=key.passphrase)
    if timestamper is None and key.timestamp_url:
        timestamper = HTTPTimeStamper(key.timestamp_url)
    field = fields.SigFieldSpec(
        FIELD,
        readable_field_name="Signature of the audit evidence",
        invis_sig_settings=fields.InvisSigSettings(box_out_of_bounds=True),
    )
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD, md_algorithm="sha256", subfilter=fields.SigSeedSubFilter.PADES
    )
    signing = signers.PdfSigner(metadata, signer, timestamper=timestamper, new_field_spec=field)
    signed: io.BytesIO = signing.sign_pdf(_Writer(io.BytesIO(pdf)), bytes_reserved=ROOM)
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
