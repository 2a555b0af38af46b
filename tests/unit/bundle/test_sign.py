"""Signatures with real keys, offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sixways_bundle import BundleError
from sixways_bundle.build import Result
from sixways_bundle.sign import sign, verify_signature
from sixways_bundle.verify import verify
from tests.unit.bundle.conftest import Builder
from tests.unit.bundle.fake import GOOD


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


def test_a_signed_bundle_verifies_with_the_signers_public_key(
    bundle: Result, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, "alice")
    sign(bundle.path, private)
    verify_signature(bundle.path, public)
    verify(bundle.path)  # the signature is no foreign file


def test_another_key_does_not_verify(bundle: Result, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path, "alice")
    _, other = key_pair(tmp_path, "mallory")
    sign(bundle.path, private)
    with pytest.raises(BundleError, match="does not hold"):
        verify_signature(bundle.path, other)


def test_a_byte_changed_after_signing_does_not_verify(bundle: Result, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "alice")
    sign(bundle.path, private)
    path = bundle.path / "tokenizer/tokenizer.json"
    path.chmod(0o644)
    path.write_text("[]")
    with pytest.raises(BundleError, match="does not hold"):
        verify_signature(bundle.path, public)


def test_the_build_report_is_not_signed(bundle: Result, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "alice")
    sign(bundle.path, private)
    (bundle.path / "build.json").unlink()
    verify_signature(bundle.path, public)


def test_a_bundle_without_a_signature_says_how_to_sign(bundle: Result, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, "alice")
    with pytest.raises(BundleError, match="sixways bundle sign"):
        verify_signature(bundle.path, public)


def test_a_damaged_bundle_is_not_signed(bundle: Result, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path, "alice")
    path = bundle.path / "tokenizer/tokenizer.json"
    path.chmod(0o644)
    path.write_text("[]")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        sign(bundle.path, private)
    assert not (bundle.path / "bundle.sig").exists()


def test_a_file_that_is_no_key_says_how_to_make_one(bundle: Result, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("hello")
    with pytest.raises(BundleError, match="openssl ecparam"):
        sign(bundle.path, wrong)


def test_a_key_of_another_kind_is_refused(bundle: Result, tmp_path: Path) -> None:
    key = tmp_path / "rsa.pem"
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(BundleError, match="openssl ecparam"):
        sign(bundle.path, key)


@pytest.mark.parametrize("text", ["{}", "", "[]"])
def test_a_signature_that_is_none_does_not_hold(bundle: Result, tmp_path: Path, text: str) -> None:
    _, public = key_pair(tmp_path, "alice")
    (bundle.path / "bundle.sig").write_text(text)
    with pytest.raises(BundleError, match="does not hold"):
        verify_signature(bundle.path, public)
