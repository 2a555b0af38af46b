"""What a `PrivateServer` refuses, before it talks to any host."""

from __future__ import annotations

import copy
from typing import Any

import pulumi
import pytest

from sixways.server.private.problems import problems

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
DIGEST = "sha256:" + "0" * 64
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
PRIVATE = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"
GOOD: dict[str, Any] = {
    "hosts": [
        {"name": "one", "address": "10.0.0.1", "host_key": KEY},
        {"name": "two", "address": "10.0.0.2", "host_key": KEY, "user": "deploy", "port": 2222},
    ],
    "models": [{"name": "minilm", "path": "/bundles/x", "digest": DIGEST}],
    "tls": {"self_signed": True},
}
HOST = GOOD["hosts"][0]
MODEL = GOOD["models"][0]
ACME = {"email": "a@example.com", "agree_tos": True, "domains": ["api.example.com"]}


def told(name: str = "search", **changes: Any) -> list[str]:
    args: Any = {**copy.deepcopy(GOOD), **changes}
    return [problem.field for problem in problems(name, args)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tls": {"certificate": PEM, "certificate_key": PRIVATE}},
        {"tls": {"acme": ACME}},
        {"tls": {"acme": {"email": "a@b.cd", "agree_tos": True}}, "domain": "api.example.com"},
        {"tls": {"self_signed": True, "certificate": None}},
        {"domain": "10.0.0.1", "server_names": ["_"]},
        {"server_names": ["*.example.com", "::1"]},
        {"packages": {"version": "0.2.0", "extras": ["otel", "gpu"], "wheelhouse": "wheels"}},
        {"packages": {"index_url": "https://pypi.example.com/simple"}},
        {"server": {"workers": 2, "request_seconds": 60}, "limits": {"requests_per_minute": 60}},
        {"memory_max": "80%", "cpu_quota": "350%", "keep": 0, "supervisor": "systemd"},
        {"firewall": {}, "metrics_from": ["10.0.0.0/8"]},
        {"monitoring": {"host": "two"}, "slo": {"latency_ms": 300}},
        {"monitoring": {"host": "two", "grafana": True, "grafana_password": "hush" * 3}},
    ],
)
async def test_good_inputs_are_accepted(changes: dict[str, Any]) -> None:
    assert told(**changes) == []


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"hosts": []}, ["hosts"]),
        ({"hosts": "one"}, ["hosts"]),
        ({"hosts": [{**HOST, "name": "One"}]}, ["hosts[0].name"]),
        ({"hosts": [HOST, HOST]}, ["hosts[1].name", "hosts[1].address"]),
        ({"hosts": [{"name": "one", "adress": "10.0.0.1"}]},
         ["hosts[0].adress", "hosts[0].address", "hosts[0].host_key"]),
        ({"hosts": [{**HOST, "private_key": "~/.ssh/id"}]}, ["hosts[0].private_key"]),
        ({"models": [MODEL, {**MODEL, "digest": "sha256:1"}]},
         ["models[1].name", "models[1].digest"]),
        ({"tls": {}}, ["tls"]),
        ({"tls": {"self_signed": False}}, ["tls"]),
        ({"tls": {"self_signed": True, "acme": ACME}}, ["tls"]),
        ({"tls": {"certificate": PEM}}, ["tls.certificate_key"]),
        ({"tls": {"certificate": "/etc/x.crt", "certificate_key": "/etc/x.key"}},
         ["tls.certificate", "tls.certificate_key"]),
        ({"tls": {"acme": {"email": "me", "agree_tos": False}}},
         ["tls.acme.email", "tls.acme.agree_tos", "tls.acme.domains"]),
        ({"packages": {"index_url": "http://me:hush@pypi.example.com", "wheelhouse": "w"}},
         ["packages.index_url", "packages.wheelhouse"]),
        ({"api_key": "hush"}, ["api_key"]),
        ({"server": {"workers": 0, "thread": 1}}, ["server.thread", "server.workers"]),
        ({"server": {"queue_limit": 64}}, ["server.max_inputs"]),
        ({"limits": {"burst": 3, "max_body_bytes": 1}}, ["limits.max_body_bytes", "limits.burst"]),
        ({"memory_max": "6 GB", "cpu_quota": "3.5", "keep": -1, "supervisor": "runit"},
         ["memory_max", "cpu_quota", "keep", "supervisor"]),
        ({"memory_max": "6G", "supervisor": "supervisord"}, ["memory_max"]),
        ({"https_port": 5443}, ["https_port"]),
        ({"https_port": 2222}, ["https_port"]),
        ({"domain": "https://api.example.com"}, ["domain"]),
        ({"domain": "*.example.com", "server_names": ["*.*.com"]}, ["domain", "server_names[0]"]),
        ({"tls": {"acme": {**ACME, "domains": ["*.example.com", "web1"]}}},
         ["tls.acme.domains[0]", "tls.acme.domains[1]"]),
        ({"tls": {"acme": {"email": "a@b.cd", "agree_tos": True}}, "domain": "10.0.0.1"},
         ["domain"]),
        ({"monitoring": {"host": "two", "grafana": True, "grafana_password": "hush hush hush",
                         "alertmanagers": ["alerts"]}},
         ["monitoring.grafana_password", "monitoring.alertmanagers[0]"]),
        ({"metrics_from": ["10.0.0.1/8"]}, ["metrics_from[0]"]),
        ({"metrics_from": ["::%x;"]}, ["metrics_from[0]"]),
        ({"firewall": {"allow_ssh_from": ["all"], "ports": [0]}},
         ["firewall.allow_ssh_from[0]", "firewall.ports[0]"]),
        ({"monitoring": {"host": "one", "grafana": True}}, ["monitoring.grafana_password"]),
        ({"hosts": [{**HOST, "address": "web1.example.com"}], "monitoring": {"host": "one"}},
         ["monitoring.host"]),
        ({"monitoring": {"host": "three"}, "slo": {"latency": 1}}, ["slo.latency",
                                                                   "monitoring.host"]),
    ],
)  # fmt: skip
async def test_bad_inputs_are_named_together(changes: dict[str, Any], fields: list[str]) -> None:
    assert told(**changes) == fields


async def test_a_name_that_no_resource_can_have_is_refused() -> None:
    assert told("1") == ["name"]


async def test_what_is_not_known_yet_is_passed_over_but_where_it_decides_what_is_made() -> None:
    later: Any = pulumi.Output.from_input("")
    host = {"name": "one", "address": later, "host_key": later, "private_key": later}
    model = {"name": "minilm", "path": later, "digest": later}
    good = {"hosts": [host], "models": [model], "api_key": later,
            "tls": {"certificate": later, "certificate_key": later}}  # fmt: skip
    assert told(**good) == []
    bad = {"hosts": [{**host, "name": later}], "tls": later, "monitoring": {"host": later}}
    assert told(**bad) == ["tls", "hosts[0].name", "monitoring.host"]


async def test_no_secret_is_shown() -> None:
    args: Any = {**GOOD, "api_key": "hush", "tls": {"certificate": PEM, "certificate_key": "hush"},
                 "hosts": [{**HOST, "private_key": "hush"}]}  # fmt: skip
    assert not [problem for problem in problems("search", args) if "hush" in str(problem)]
