"""Signs a bundle and checks the signature, with the OpenSSF `model_signing` library in key mode.

The signature covers every file of the bundle but the build report and lies beside the manifest as
`bundle.sig`. Key mode needs no network: an ECDSA private key signs, its public key verifies.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.verify import BUILD_REPORT, SIGNATURE, verify


def sign(bundle: Path, private_key: Path, *, password: str | None = None) -> Path:
    """Verifies the bundle, then signs it.

    Args:
        bundle: the bundle's folder.
        private_key: ECDSA private key (P-256, P-384 or P-521) in PEM.
        password: opens an encrypted key.

    Returns:
        The signature's path.

    Raises:
        BundleError: the bundle does not verify, or the key cannot be read.
        MissingExtra: `model_signing` is not installed.
    """
    verify(bundle)
    _require_key("key", private_key)
    signing, _, hashing = _library()
    signature = bundle / SIGNATURE
    try:
        config = signing.Config().use_elliptic_key_signer(
            private_key=private_key, password=password
        )
        config.set_hashing_config(_hashing(hashing, bundle)).sign(bundle, signature)
    except (ValueError, TypeError, AttributeError, LookupError, OSError) as error:
        raise BundleError(
            f"{bundle} was not signed: {error}",
            [Problem("key", str(private_key), "an ECDSA private key in PEM, P-256 to P-521",
                     "make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem")],
        ) from None  # fmt: skip
    return signature


def verify_signature(bundle: Path, public_key: Path) -> None:
    """Checks that the holder of a key signed exactly these bytes.

    Args:
        bundle: the bundle's folder.
        public_key: the signer's public key in PEM.

    Raises:
        BundleError: no signature, another key, or other bytes than were signed.
        MissingExtra: `model_signing` is not installed.
    """
    _require_key("public_key", public_key)
    signature = bundle / SIGNATURE
    if not signature.is_file():
        raise BundleError(
            f"{bundle} is not signed",
            [Problem("signature", "", f"{SIGNATURE} beside the manifest",
                     "sign it: sixways bundle sign BUNDLE --key PRIVATE.pem")],
        )  # fmt: skip
    _, verifying, hashing = _library()
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(
            _hashing(hashing, bundle)
        ).verify(bundle, signature)
    except (ValueError, TypeError, AttributeError, LookupError, OSError) as error:
        raise BundleError(
            f"the signature of {bundle} does not hold: {error}",
            [Problem("public_key", str(public_key), "the public key of whoever signed it",
                     "check the key; if it is right, the bundle was changed: do not use it")],
        ) from None  # fmt: skip


def _hashing(hashing: ModuleType, bundle: Path) -> Any:
    ignored = [bundle / SIGNATURE, bundle / BUILD_REPORT]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _require_key(field: str, path: Path) -> None:
    if not path.is_file():
        raise BundleError(
            "the key cannot be read",
            [Problem(field, str(path), "a PEM file", "check the path")],
        )


def _library() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise MissingExtra("signing a bundle", "sign") from None
    return signing, verifying, hashing
