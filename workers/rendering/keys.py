"""The organisation's signing key: a PKCS#12 file, or a key that never leaves its PKCS#11 token."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from pyhanko.sign.general import SigningError
from pyhanko.sign.signers import Signer, SimpleSigner

from audit_service.errors import InvalidInput
from workers.rendering.evidence import Signing


@dataclass(frozen=True)
class SigningKey:
    """PKCS#12 data, and where time stamps come from (RFC 3161)."""

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

    @contextmanager
    def opened(self) -> Iterator[Signer]:
        yield SimpleSigner.load_pkcs12_data(self.data, other_certs=[], passphrase=self.passphrase)

    def described(self) -> Signing:
        return described(self.certificate, timestamped=self.timestamp_url is not None)


@dataclass(frozen=True)
class TokenKey:
    """A key on a token such as a smart card or a hardware security module, beside its certificate."""

    module: Path
    """The PKCS#11 library of the token's maker."""
    token: str
    """Label of the token."""
    label: str
    """Label of key and certificate on it."""
    pin: str | None = None
    timestamp_url: str | None = None

    @contextmanager
    def opened(self) -> Iterator[Signer]:
        """A session with the token; the signing happens inside it.

        Raises InvalidInput if there is no such library, token, key or certificate, or the PIN is refused.
        """
        # The library is needed by those who have a token alone.
        from pyhanko.config.pkcs11 import TokenCriteria  # noqa: PLC0415
        from pyhanko.sign.pkcs11 import PKCS11Signer, open_pkcs11_session  # noqa: PLC0415

        wanted = TokenCriteria(label=self.token)
        try:
            with open_pkcs11_session(str(self.module), token_criteria=wanted, user_pin=self.pin) as session:
                yield PKCS11Signer(session, cert_label=self.label, key_label=self.label)
        except (RuntimeError, SigningError) as error:  # the token library's errors are the former
            raise InvalidInput(
                f"The key {self.label} on the token {self.token} cannot be used: {error!r}.",
                remedy="Check AUDIT_SIGNING_PKCS11, AUDIT_SIGNING_TOKEN, AUDIT_SIGNING_LABEL and the PIN in "
                "AUDIT_SIGNING_PASSPHRASE.",
            ) from error

    @cached_property
    def certificate(self) -> x509.Certificate:
        with self.opened() as signer:
            found: asn1_x509.Certificate = signer.signing_cert
            return x509.load_der_x509_certificate(found.dump())

    def described(self) -> Signing:
        return described(self.certificate, timestamped=self.timestamp_url is not None)


AnyKey = SigningKey | TokenKey


def described(certificate: x509.Certificate, *, timestamped: bool) -> Signing:
    """What the report says about the signature that will be put on it."""
    return Signing(
        name=certificate.subject.rfc4514_string(),
        certificate=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        self_issued=certificate.issuer == certificate.subject,
        timestamped=timestamped,
    )
