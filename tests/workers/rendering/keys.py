"""Throw-away keys and time stamps, made on the spot."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pkcs11
import pytest
from asn1crypto import keys as asn1_keys
from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps import DummyTimeStamper

from workers.rendering.keys import SigningKey, TokenKey

PASSPHRASE = "correct horse"


def certified(name: str, *, stamping: bool = False) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """A key and a certificate that vouches for itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(_usage(), critical=True)
    )
    if stamping:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def signing_key(name: str = "Example Bank, Model Validation") -> SigningKey:
    key, certificate = certified(name)
    locked = BestAvailableEncryption(PASSPHRASE.encode())
    data = pkcs12.serialize_key_and_certificates(b"audit", key, certificate, None, locked)
    return SigningKey(data, PASSPHRASE.encode())


def time_stamper() -> DummyTimeStamper:
    """A time-stamping authority in the process: the real protocol without a network."""
    key, certificate = certified("Example Time Stamping Authority", stamping=True)
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return DummyTimeStamper(
        tsa_cert=asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER)),
        tsa_key=asn1_keys.PrivateKeyInfo.load(plain),
    )


@contextmanager
def time_stamping_authority() -> Iterator[str]:
    """The address of an RFC 3161 authority on this machine, answering over HTTP with real tokens of a test key."""
    stamper = time_stamper()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            asked = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
            answer = stamper.request_tsa_response(asked).dump()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/tsa"
        server.shutdown()
        thread.join()


MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so")
PIN, TOKEN, LABEL = "1234", "audit-test", "signer"


def token_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> TokenKey:
    """A key on a software token: it is made outside, put there, and signs there."""
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
    key, certificate = certified("Example Bank, Token")
    pem = folder / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _softhsm("--init-token", "--free", "--so-pin", PIN)
    _softhsm("--import", str(pem), "--id", "a1")
    module = next(Path(module) for module in MODULES if Path(module).exists())
    with pkcs11.lib(str(module)).get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
        parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
        session.create_object(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
                pkcs11.Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
                pkcs11.Attribute.TOKEN: True,
                pkcs11.Attribute.LABEL: LABEL,
                pkcs11.Attribute.ID: b"\xa1",
                pkcs11.Attribute.SUBJECT: parsed.subject.dump(),
                pkcs11.Attribute.ISSUER: parsed.issuer.dump(),
                pkcs11.Attribute.SERIAL_NUMBER: parsed["tbs_certificate"]["serial_number"].dump(),
                pkcs11.Attribute.VALUE: parsed.dump(),
            }
        )
    return TokenKey(module, TOKEN, LABEL, PIN)


def _softhsm(*arguments: str) -> None:
    label = LABEL if "--import" in arguments else TOKEN
    token = ["--token", TOKEN] if "--import" in arguments else []
    command = ["softhsm2-util", *arguments, *token, "--label", label, "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
