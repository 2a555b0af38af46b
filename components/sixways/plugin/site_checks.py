"""What is wrong with the inputs of a `Site`; every problem is told at once."""

from __future__ import annotations

import datetime
import re
from typing import Any

from sixways.plugin.resource import Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways.server import layout
from sixways_bundle import Problem
from sixways_bundle.errors import MissingExtra

LISTS = ("serverNames", "peers", "metricsFrom", "trustedProxies")
NUMBERS = {
    "httpsPort": 65535, "maxBodyBytes": 2**40, "requestsPerMinute": 10**6, "burst": 10**6,
    "keepaliveSeconds": 3600,
}  # fmt: skip
"""Whole numbers and the greatest that each may be."""
PAIRS = (("certificate", "certificateKey"), ("fleetCertificate", "fleetKey"))
_ACME = ("email", "domains", "directoryUrl", "agreeTos")
ACME_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}", re.IGNORECASE)
"""A name that an ACME authority can reach over HTTP."""


def check_values(inputs: Values) -> list[Problem]:
    """Types and limits of all that is no certificate."""
    problems = []
    for field in LISTS:
        value = inputs[field]
        items = value if isinstance(value, list) else [None]
        if value is not UNKNOWN and not all(i is UNKNOWN or isinstance(i, str) for i in items):
            problems.append(Problem(field, str(value), "a list of texts"))
    for field, most in NUMBERS.items():
        value, least = inputs.get(field, UNKNOWN), 0 if field == "burst" else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not UNKNOWN and not (whole and least <= value <= most):
            accepted = f"a whole number from {least} to {most}"
            problems.append(Problem(field, str(value), accepted))
    seconds = inputs.get("requestSeconds", UNKNOWN)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not UNKNOWN and not (number and 0 < seconds <= 86400):
        problems.append(Problem("requestSeconds", str(seconds), "seconds, above 0 to 86400"))
    if inputs["redirectHttp"] not in (True, False, UNKNOWN):
        problems.append(Problem("redirectHttp", str(inputs["redirectHttp"]), "true or false"))
    used = {80, layout.FLEET_PORT, *layout.PORTS.values(), inputs["port"]}
    if inputs["httpsPort"] in used:
        problems.append(Problem("httpsPort", str(inputs["httpsPort"]), "a port that is not "
                                f"{', '.join(sorted(map(str, used)))}", "e.g. 443"))  # fmt: skip
    version = inputs.get("nginxVersion")
    if version is not UNKNOWN and not isinstance(version, str):
        problems.append(Problem("nginxVersion", str(version or ""), "the host's, e.g. 1.22.1",
                                "take it from the host's facts"))  # fmt: skip
    return problems


def check_certificates(inputs: Values) -> list[Problem]:
    """Where the certificates come from, and whether those given can be used."""
    problems = []
    given = any(name in inputs for name in PAIRS[0])
    if given == ("acme" in inputs):
        problems.append(Problem("certificate", "certificate and acme" if "acme" in inputs else "",
                                "either certificate with certificateKey, or acme"))  # fmt: skip
    if inputs["peers"] and "fleetCertificate" not in inputs:
        problems.append(Problem("fleetCertificate", "", "a certificate for peers",
                                "take a SelfSignedCertificate for sixways-fleet"))  # fmt: skip
    for certificate, key in PAIRS:
        if (certificate in inputs) != (key in inputs):
            missing = key if certificate in inputs else certificate
            problems.append(Problem(missing, "", "one beside the other of the two"))
        elif certificate in inputs and not is_unknown([inputs[certificate], inputs[key]]):
            problems += _check_pair(inputs, certificate, key)
    if "acme" in inputs and inputs["acme"] is not UNKNOWN:
        problems += _check_acme(inputs["acme"])
    return problems


def _check_pair(inputs: Values, certificate: str, key: str) -> list[Problem]:
    """Whether both can be read, belong together, and are valid now."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingExtra("a certificate", "ssh") from None
    try:
        shown = x509.load_pem_x509_certificates(str(inputs[certificate]).encode())[0]
    except ValueError:
        return [Problem(certificate, "(no certificate)", "a certificate chain (PEM), the server's "
                        "own first", "give the file's content, not its name")]  # fmt: skip
    try:
        own = serialization.load_pem_private_key(str(inputs[key]).encode(), password=None)
    except (ValueError, TypeError):
        return [Problem(key, "(not shown)", "a private key (PEM) without a passphrase",
                        "give the file's content, not its name")]  # fmt: skip
    if own.public_key() != shown.public_key():
        return [Problem(key, "(not shown)", f"the key of {certificate}",
                        "give the two that were made together")]  # fmt: skip
    if shown.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        return [Problem(certificate, f"valid until {shown.not_valid_after_utc:%Y-%m-%d}",
                        "one that has not ended", "renew it")]  # fmt: skip
    return []


def _check_acme(acme: Any) -> list[Problem]:
    if not isinstance(acme, dict):
        return [Problem("acme", str(acme), f"a mapping of {', '.join(_ACME)}")]
    problems = [Problem(f"acme.{p.field}", p.value, p.accepted, p.fix)
                for p in unexpected(acme, _ACME)]  # fmt: skip
    email, domains, url = acme.get("email"), acme.get("domains"), acme["directoryUrl"]
    address = isinstance(email, str) and re.fullmatch(r"[^@\s]+@[^@\s]+", email)
    if email is not UNKNOWN and not address:
        problems.append(Problem("acme.email", str(email or ""), "an e-mail address"))
    named = domains if isinstance(domains, list) and domains else [domains]
    for domain in () if domains is UNKNOWN else named:
        if domain is not UNKNOWN and not (
            isinstance(domain, str) and ACME_DOMAIN.fullmatch(domain)
        ):
            problems.append(Problem("acme.domains", str(domain or ""), "domain names that lead to "
                                    "the host, without wildcards"))  # fmt: skip
    if url is not UNKNOWN and not (isinstance(url, str) and re.fullmatch(r"https://\S+", url)):
        problems.append(Problem("acme.directoryUrl", str(url), "an https address"))
    if acme.get("agreeTos") not in (True, UNKNOWN):
        problems.append(Problem("acme.agreeTos", str(acme.get("agreeTos", "")),
                                "true: you agree to the terms of the ACME server",
                                "read them, then set it"))  # fmt: skip
    return problems
