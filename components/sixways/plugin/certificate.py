"""`sixways:server:SelfSignedCertificate`: a certificate that signs itself, kept in the state."""

from __future__ import annotations

import datetime
import ipaddress
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem
from sixways_bundle.errors import MissingExtra

if TYPE_CHECKING:
    from cryptography import x509

_INPUTS = ("names", "days", "generation")
_OUTPUTS = ("certificate", "privateKey", "notAfter")
_LONGEST_DAYS = 36500
_CLOCKS = datetime.timedelta(days=1)
"""How far the clock of a host may be behind."""
_SOON = datetime.timedelta(days=30)
_NAME = re.compile(r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
                   r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # fmt: skip


class SelfSignedCertificateResource(Resource):
    """An ECDSA certificate on P-256. Other inputs are another certificate; so is one whose end is
    near."""

    token = "sixways:server:SelfSignedCertificate"  # noqa: S105 - a type token, no secret
    secrets = frozenset({"privateKey"})

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Names are DNS names or addresses; the days are bounded."""
        checked = {"days": 3650, "generation": 1, **inputs}
        problems = unexpected(inputs, _INPUTS)
        names = checked.get("names")
        if names is not UNKNOWN and not (isinstance(names, list) and names):
            problems.append(Problem("names", str(names or ""), "a list of DNS names and addresses",
                                    "name at least one"))  # fmt: skip
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if name is not UNKNOWN and not (isinstance(name, str) and _named(name)):
                problems.append(Problem(f"names[{index}]", str(name), "a DNS name or an IP address",
                                        "e.g. api.example.com or 10.0.0.5"))  # fmt: skip
        for field, most in (("days", _LONGEST_DAYS), ("generation", 2**31)):
            value = checked[field]
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not UNKNOWN and not (whole and 1 <= value <= most):
                problems.append(Problem(field, str(value), f"a whole number from 1 to {most}"))
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """A certificate never changes in place: what uses it has to see another one."""
        changed = [name for name in _INPUTS if state.get(name) != inputs.get(name)]
        if "days" in inputs and not changed and _ends_soon(state):
            changed.append("notAfter")
        return Changes(replace=changed)

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Makes key and certificate; its id is the beginning of the certificate's hash."""
        if preview or is_unknown(inputs):
            return "", {**inputs, **dict.fromkeys(_OUTPUTS, UNKNOWN)}
        made = self_signed(inputs["names"], inputs["days"])
        outputs = {
            "certificate": made.certificate,
            "privateKey": made.private_key,
            "notAfter": made.not_after,
        }
        return made.fingerprint[:16], {**inputs, **outputs}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state is all there is of it."""
        return state if "certificate" in state else None

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Never asked for: every change is a replacement."""
        raise BundleError("a certificate is never changed in place")

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Nothing but the state knows of it."""


class SelfSigned(NamedTuple):
    """A certificate and its key."""

    certificate: str
    """PEM."""
    private_key: str
    """PEM, PKCS #8."""
    not_after: str
    """RFC 3339."""
    fingerprint: str
    """Its SHA-256 in hex."""


def self_signed(names: list[str], days: int) -> SelfSigned:
    """A new key and its certificate.

    Args:
        names: DNS names and IP addresses; the first is its common name.
        days: until it ends.

    Raises:
        MissingExtra: the library for certificates is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise MissingExtra("a certificate", "ssh") from None
    key = ec.generate_private_key(ec.SECP256R1())
    # A clock that is behind must not refuse it.
    now = datetime.datetime.now(datetime.UTC)
    start, end = now - _CLOCKS, now + datetime.timedelta(days=days)
    # 64 characters is the longest common name (RFC 5280, ub-common-name).
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(public, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SelfSigned(
        certificate=made.public_bytes(pem).decode(),
        private_key=private.decode(),
        not_after=end.isoformat(timespec="seconds"),
        fingerprint=made.fingerprint(hashes.SHA256()).hex(),
    )


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _address(name: str) -> Any:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _named(name: str) -> bool:
    digits = re.fullmatch(r"[\d.]+", name)
    return _address(name) is not None or (
        not digits and len(name) <= 253 and _NAME.fullmatch(name) is not None
    )


def _ends_soon(state: Values) -> bool:
    """Whether it ends within a month, or within a third of its own time where that is less."""
    end = datetime.datetime.fromisoformat(state["notAfter"])
    least = min(_SOON, datetime.timedelta(days=state["days"] / 3))
    return end - datetime.datetime.now(datetime.UTC) < least
