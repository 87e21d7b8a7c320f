"""A signed report keeps what it was, and says so when it is no longer."""

from dataclasses import replace
from pathlib import Path

import page
import pytest

from audit_service.errors import InvalidInput, Unavailable
from tests.workers.rendering.audits import make_evidence
from tests.workers.rendering.keys import PASSPHRASE, signing_key, time_stamping_authority, token_key
from workers.rendering.keys import SigningKey
from workers.rendering.report import Report, make_report
from workers.rendering.signing import sign, signatures
from workers.rendering.verifying import verify


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return signing_key()


@pytest.fixture(scope="module")
def signed(key: SigningKey) -> Report:
    evidence = make_evidence(layers=1, heads=1).model_copy(update={"signing": key.described()})
    return make_report(evidence, key=key)


def faults(pdf: bytes) -> list[str]:
    return [check.what for check in verify(pdf) if not check.held]


def test_a_signed_report_holds_and_names_its_certificate(signed: Report, key: SigningKey) -> None:
    (signature,) = signatures(signed.pdf)
    assert signature.intact
    assert signature.certificate == key.described().certificate
    assert not signature.timestamped
    assert faults(signed.pdf) == []


@pytest.mark.parametrize("profile", ["3a", "ua1"])
def test_a_signed_report_is_still_pdf_a_and_pdf_ua(signed: Report, profile: str) -> None:
    found = page.validate_pdf_bytes(signed.pdf, profile=profile)
    assert [f"{failure.rule_id}: {failure.message}" for failure in found.failures] == []


def test_it_says_in_words_who_signed_and_what_that_is_worth(signed: Report) -> None:
    assert "Example Bank" in signed.html
    assert "vouches for itself" in signed.html
    assert "Not time-stamped" in signed.html


def unsigned(signed: Report) -> bytes:
    return signed.pdf[: signed.pdf.find(b"%%EOF\n") + 6]


def test_a_time_stamp_of_a_real_authority_is_kept_in_the_signature(signed: Report, key: SigningKey) -> None:
    with time_stamping_authority() as url:
        (signature,) = signatures(sign(unsigned(signed), replace(key, timestamp_url=url)))
    assert signature.intact
    assert signature.timestamped


def test_an_authority_that_does_not_answer_is_named_and_asked_again_later(signed: Report, key: SigningKey) -> None:
    with pytest.raises(Unavailable, match="time-stamping"):
        sign(unsigned(signed), replace(key, timestamp_url="http://127.0.0.1:9/tsa"))


def test_a_key_signs_inside_its_token(signed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = token_key(tmp_path, monkeypatch)
    assert key.described().name == "CN=Example Bank\\, Token"
    (signature,) = signatures(sign(unsigned(signed), key))
    assert signature.intact
    assert signature.certificate == key.described().certificate
    for wrong in (replace(key, pin="0000"), replace(key, label="other"), replace(key, token="none")):
        with pytest.raises(InvalidInput, match="cannot be used"):
            wrong.described()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.995])
def test_a_changed_byte_in_a_signed_report_is_found(signed: Report, share: float) -> None:
    place = int(share * len(signed.pdf))
    changed = signed.pdf[:place] + bytes([signed.pdf[place] ^ 1]) + signed.pdf[place + 1 :]
    assert faults(changed)


def test_a_signature_that_was_taken_off_is_missed(signed: Report) -> None:
    bare = signed.pdf[: signed.pdf.find(b"%%EOF\n") + 6]
    assert faults(bare) == ["The PDF: it carries the signature that it names"]


def test_another_signature_in_its_place_is_found(signed: Report) -> None:
    bare = signed.pdf[: signed.pdf.find(b"%%EOF\n") + 6]
    assert faults(sign(bare, signing_key("Somebody else"))) == ["The PDF: it carries the signature that it names"]


def test_bytes_behind_the_signature_are_found(signed: Report) -> None:
    assert faults(signed.pdf + b"\n%more\n")


def test_a_key_that_cannot_be_opened_is_refused(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "key.p12"
    path.write_bytes(key.data)
    assert SigningKey.read(path, passphrase=PASSPHRASE, timestamp_url=None).described() == key.described()
    with pytest.raises(InvalidInput, match=r"key\.p12"):
        SigningKey.read(path, passphrase="wrong", timestamp_url=None)
    with pytest.raises(InvalidInput, match="missing"):
        SigningKey.read(tmp_path / "missing.p12", passphrase=None, timestamp_url=None)


def test_evidence_that_names_another_signature_is_refused(key: SigningKey) -> None:
    with pytest.raises(InvalidInput, match="another signature"):
        make_report(make_evidence(layers=1, heads=1), key=key)
