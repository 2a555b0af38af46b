"""`sixways:server:Site` as the engine calls it, as far as no host is needed for that."""

from __future__ import annotations

from typing import Any

import pytest

from sixways.plugin.certificate import self_signed
from sixways.plugin.resource import Call
from sixways.plugin.site import SiteResource
from sixways.plugin.values import UNKNOWN
from sixways.server import nginx
from sixways.server.ssh import Done, HostError

_RESOURCE = SiteResource()
_MADE = self_signed(["localhost"], 30)
_ACCESS = {"address": "10.0.0.5", "hostKey": "ssh-ed25519 AAAA", "nginxVersion": "1.22.1"}
_SHOWN = {"certificate": _MADE.certificate, "certificateKey": _MADE.private_key}
_ACME = {"email": "ops@example.com", "domains": ["api.example.com"], "agreeTos": True}


def call() -> Call:
    return Call("urn:pulumi:dev::p::sixways:server:Site::site", lambda *_: None)


def checked(**inputs: Any) -> dict[str, Any]:
    values, problems = _RESOURCE.check(call(), {**_ACCESS, **_SHOWN, **inputs})
    assert problems == []
    return values


def state(**inputs: Any) -> dict[str, Any]:
    values = checked(**inputs)
    _, outputs = _RESOURCE.create(call(), values, preview=True)
    return outputs


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ({}, []),
        ({"hostName": "x"}, ["hostName"]),
        ({"nginxVersion": None}, ["nginxVersion"]),
        ({"nginxVersion": "1.14.1"}, ["nginxVersion"]),
        ({"serverNames": "x", "peers": [1], "burst": -1},
         ["serverNames", "peers", "burst", "fleetCertificate"]),
        ({"serverNames": ["a;b"]}, ["serverNames"]),
        ({"serverNames": []}, ["serverNames"]),
        ({"metricsFrom": ["10.0.0.0/33"]}, ["metricsFrom"]),
        ({"requestsPerMinute": 0, "maxBodyBytes": True, "requestSeconds": 0},
         ["maxBodyBytes", "requestsPerMinute", "requestSeconds"]),
        ({"redirectHttp": "yes"}, ["redirectHttp"]),
        ({"httpsPort": 5001}, ["httpsPort"]),
        ({"httpsPort": 2222, "port": 2222}, ["httpsPort"]),
        ({"peers": ["10.0.0.5"]}, ["fleetCertificate"]),
        ({"peers": ["10.0.0.5"], "fleetCertificate": _MADE.certificate}, ["fleetKey"]),
        ({"certificate": None}, ["certificate"]),
        ({"certificate": None, "certificateKey": None}, ["certificate"]),
        ({"acme": _ACME}, ["certificate"]),
        ({"certificate": "/etc/tls.crt"}, ["certificate"]),
        ({"certificateKey": "/etc/tls.key"}, ["certificateKey"]),
        ({"certificateKey": self_signed(["localhost"], 1).private_key}, ["certificateKey"]),
        ({"certificate": UNKNOWN, "certificateKey": UNKNOWN, "requestsPerMinute": UNKNOWN}, []),
        ({"peers": UNKNOWN, "fleetCertificate": UNKNOWN, "fleetKey": UNKNOWN}, []),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_once(inputs: dict[str, Any], fields: list[str]) -> None:
    given = {**_ACCESS, **_SHOWN, **inputs}
    given = {name: value for name, value in given.items() if value is not None}
    _, problems = _RESOURCE.check(call(), given)
    assert [problem.field for problem in problems] == fields
    assert "PRIVATE KEY" not in "".join(map(str, problems))


@pytest.mark.parametrize(
    ("acme", "fields"),
    [
        ({}, []),
        ({"domains": ["*.example.com"]}, ["acme.domains"]),
        ({"domains": []}, ["acme.domains"]),
        ({"email": "me", "agreeTos": False, "directoryUrl": "http://x", "tos": True},
         ["acme.tos", "acme.email", "acme.directoryUrl", "acme.agreeTos"]),
        ({"domains": UNKNOWN, "email": UNKNOWN}, []),
    ],
)  # fmt: skip
def test_acme_needs_names_and_a_yes(acme: dict[str, Any], fields: list[str]) -> None:
    _, problems = _RESOURCE.check(call(), {**_ACCESS, "acme": {**_ACME, **acme}})
    assert [problem.field for problem in problems] == fields


def test_another_host_is_another_site_and_all_else_changes_in_place() -> None:
    before = state()
    assert not _RESOURCE.diff(call(), before, checked())
    assert _RESOURCE.diff(call(), before, checked(address="10.0.0.6")).replace == ["address"]
    changes = _RESOURCE.diff(call(), before, checked(requestsPerMinute=6, user="deploy"))
    assert not changes.replace
    assert set(changes.update) == {"requestsPerMinute", "user"}


def test_drift_and_another_version_of_the_site_are_mended() -> None:
    changed = {**state(), "status": "stopped"}
    assert _RESOURCE.diff(call(), changed, checked()).update == ["status"]
    older = {**state(), "siteSha256": "0"}
    assert _RESOURCE.diff(call(), older, checked()).update == ["siteSha256"]


@pytest.mark.parametrize(
    ("inputs", "url"),
    [
        ({}, "https://10.0.0.5"),
        ({"serverNames": ["*.example.com", "api.example.com"]}, "https://api.example.com"),
        ({"address": "fd00::1", "httpsPort": 8443}, "https://[fd00::1]:8443"),
    ],
)
def test_a_preview_tells_the_url_and_the_certificates_end(inputs: dict[str, Any], url: str) -> None:
    outputs = state(**inputs)
    assert (outputs["url"], outputs["notAfter"]) == (url, _MADE.not_after)


class _Remote:
    """A host that answers these commands, by their beginning, and no others."""

    access = "root@10.0.0.5"

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked = answers, list[str]()

    def run(self, *command: str, check: bool = True, **_: Any) -> Done:
        self.asked.append(" ".join(command))
        key = next((key for key in self.answers if key in self.asked[-1].split()), None)
        assert key or not check, command
        return Done(0 if key else 1, self.answers.get(key or "", ""), "")


_SS = """LISTEN 0 511 0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=2,fd=6),("nginx",pid=1,fd=6))
LISTEN 0 511    [::]:443    [::]:* users:(("nginx",pid=2,fd=7))
LISTEN 0 128       *:80        *:* users:(("apache2",pid=3,fd=4))
LISTEN 0 128 10.0.0.5%eth0:5443 0.0.0.0:*
"""


def test_the_program_that_has_a_port_is_named() -> None:
    remote: Any = _Remote(ss=_SS)
    nginx.require_free(remote, {443: "httpsPort", 5443: "peers", 8443: "x"})
    with pytest.raises(HostError, match=r"redirectHttp: '80' .* stop apache2"):
        nginx.require_free(remote, {443: "httpsPort", 80: "redirectHttp"})
    assert nginx.listening(remote) == {443}
