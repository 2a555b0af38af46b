"""What a `PrivateServer` registers, for what a whole life on hosts would be too long."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from tests.unit.components.server.test_private_server_checks import GOOD, HOST, PEM, PRIVATE

_FACTS = {"python": "/usr/bin/python3", "systemdVersion": 252, "nginxVersion": "1.22.1",
          "gpus": []}  # fmt: skip


class _Mocks(pulumi.runtime.Mocks):
    """Hosts with facts; what is registered is kept."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[args.name] = dict(args.inputs)
        computed = {**_FACTS, "slot": "green", "key": "sk-made", "sha256": "0" * 64,
                    "certificate": f"PEM of {args.name}", "privateKey": f"key of {args.name}",
                    "url": "http://127.0.0.1:9090", "grafanaUrl": ""}  # fmt: skip
        given = {name: value for name, value in args.inputs.items() if value is not None}
        return f"{args.name}-id", {**computed, **given}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


class _Monitor(pulumi.runtime.mocks.MockMonitor):
    """Also keeps what each resource waits for."""

    waits: dict[str, set[str]]

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        self.waits[request.name] = {urn.rpartition("::")[2] for urn in request.dependencies}
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def _made(**changes: Any) -> tuple[_Monitor, dict[str, dict[str, Any]], dict[str, Any]]:
    mocks = _Mocks()
    monitor = _Monitor(mocks)
    monitor.waits = {}
    pulumi.runtime.set_mocks(mocks, project="shop", stack="prod", preview=False, monitor=monitor)
    outputs: dict[str, Any] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def registered() -> pulumi.Output[Any]:
        from sixways.server import PrivateServer

        args: Any = {**GOOD, **changes}
        server = PrivateServer("search", args)
        names = [name for name in PrivateServer.__annotations__ if not name.startswith("_")]
        return pulumi.Output.all(**{n: getattr(server, n) for n in names}).apply(outputs.update)

    registered()
    return monitor, mocks.made, outputs


def test_hosts_follow_one_another_and_none_begins_before_all_are_there() -> None:
    monitor, made, outputs = _made()
    hosts = {"search-one", "search-two"}
    assert monitor.waits["search-one-release"] >= hosts
    assert monitor.waits["search-two-release"] >= {*hosts, "search-one-site"}
    assert "search-one-release" in monitor.waits["search-one-site"]
    for name in ("one", "two"):
        site = made[f"search-{name}-site"]
        assert site["peers"] == ["10.0.0.1", "10.0.0.2"]
        assert site["fleetCertificate"] == "PEM of search-fleet"
        assert made[f"search-{name}"]["owner"] == "shop/prod/search"
    assert made["search-fleet"]["names"] == ["sixways-fleet"]
    assert made["search-certificate"]["names"] == ["10.0.0.1", "10.0.0.2"]
    assert outputs["urls"] == {"one": "https://10.0.0.1", "two": "https://10.0.0.2"}
    assert outputs["url"] == "https://10.0.0.1"
    assert outputs["slots"] == {"one": "green", "two": "green"}
    assert outputs["bundle_digest"] == GOOD["models"][0]["digest"]
    assert outputs["certificate"] == "PEM of search-certificate"


def test_one_host_has_no_fleet_and_a_given_certificate_makes_none() -> None:
    tls = {"certificate": PEM, "certificate_key": PRIVATE}
    _, made, outputs = _made(hosts=[HOST], tls=tls, domain="api.example.com", https_port=8443)
    assert set(made) == {"search", "search-key", "search-one", "search-one-release",
                         "search-one-site"}  # fmt: skip
    assert "peers" not in made["search-one-site"]
    assert outputs["health_url"] == "https://api.example.com:8443/healthz"
    assert outputs["certificate"] == PEM


def test_server_and_site_agree_on_what_both_limit() -> None:
    limits = {"requests_per_minute": 60, "max_body_bytes": 4096}
    _, made, _ = _made(limits=limits, server={"request_seconds": 30, "workers": 2})
    release, site = made["search-one-release"], made["search-one-site"]
    assert release["server"] == {"requestSeconds": 30, "workers": 2, "maxBodyBytes": 4096}
    assert site["maxBodyBytes"] == 4096
    assert site["requestSeconds"] == 30
    assert site["requestsPerMinute"] == 60


def test_the_firewall_leaves_open_what_the_site_and_the_other_hosts_need() -> None:
    _, made, _ = _made(firewall={"allow_ssh_from": ["10.9.0.0/16"]}, https_port=8443)
    assert made["search-one"]["firewall"] == {
        "allowSshFrom": ["10.9.0.0/16"], "httpsPort": 8443, "ports": [80], "fleet": ["10.0.0.2"],
    }  # fmt: skip


def test_no_key_reaches_a_host() -> None:
    _, made, outputs = _made(previous_api_key="sk-the-former-one-of-ours")
    names = [key["name"] for key in made["search-one-release"]["keys"]["value"]]
    assert names == ["default", "previous"]
    assert outputs["api_key"] == "sk-made"
    assert "sk-" not in str(made["search-one-release"])


@pytest.mark.parametrize("given", [None, ["192.0.2.0/24"]])
def test_the_watching_host_may_read_what_all_measure(given: list[str] | None) -> None:
    changes = {} if given is None else {"metrics_from": given}
    monitoring = {"host": "two", "alertmanagers": ["10.0.0.9:9093"]}
    _, made, outputs = _made(monitoring=monitoring, slo={"latency_ms": 300}, **changes)
    allowed = made["search-one-site"]["metricsFrom"]
    assert allowed == [*(given or ["127.0.0.0/8", "::1/128"]), "10.0.0.2"]
    watch = made["search-monitoring"]
    assert watch["address"] == "10.0.0.2"
    assert [one["address"] for one in watch["targets"]] == ["10.0.0.1", "10.0.0.2"]
    assert watch["ca"] == "PEM of search-certificate"
    assert watch["slo"] == {"latencyMs": 300}
    assert made["search-one"]["nodeExporter"] is True
    assert outputs["dashboard"] == "http://127.0.0.1:9090"
