"""What a Kong gateway refuses, and what Kubernetes runs it by."""

from __future__ import annotations

import copy
from typing import Any, cast

import pulumi
import pytest

from sixways.api.kong import objects
from sixways.api.kong.args import KongGatewayArgs
from sixways.api.kong.problems import problems

_PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_PRIVATE = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"


def _args(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "upstream": {
            "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://10.0.0.2:5001"}],
            "health_path": "/readyz",
            "api_key": "the-key-of-the-instances",
        },
        "plans": [{"name": "free", "requests_per_second": 5}],
        "keys": [{"name": "ann", "plan": "free"}],
        "tls": {"certificate": _PEM, "certificate_key": _PRIVATE},
    }
    return {**copy.deepcopy(given), **changes}


def _found(args: dict[str, Any], name: str = "api") -> dict[str, str]:
    return {one.field: str(one) for one in problems(name, cast(KongGatewayArgs, args))}


def test_good_inputs_have_no_problem() -> None:
    assert _found(_args()) == {}
    redis = {"host": "redis.cache.svc", "username": "kong", "password": "secret"}
    plans = [{"name": "free", "quota": 5, "quota_period": "day"}]
    assert _found(_args(redis=redis, plans=plans, tls={"secret": "gateway-tls"})) == {}
    assert _found(_args(tls=None, service_type="ClusterIP")) == {}
    assert _found(_args(tls=None, replicas=1, dev=True)) == {}


def test_every_problem_is_told_at_once() -> None:
    args = _args(
        upstream={"instances": [{"url": "https://10.0.0.1"}], "api_key": "$(headers.x) is long"},
        plans=[
            {"name": "free", "quota": 5, "quota_period": "week"},
            {"name": "paid", "requests_per_second": 9, "burst": 2},
            {"name": "none"},
        ],
        keys=[{"name": "ann", "plan": "free"}, {"name": "Ann", "plan": "gone"}],
        log={"kind": "stdout", "retention_days": 3},
        tls={"certificate": "file.pem"},
        redis=None,
        replicas=1,
        memory="64Mi",
        namespace="Not_One",
        source_ranges=["10.0.0.0/99"],
        trusted_proxies=["everybody"],
        monitoring={"servicemonitor": True},
        tags={"team": "search and find"},
    )
    assert sorted(_found(args, "API")) == [
        "keys[1].name",
        "keys[1].plan",
        "log.retention_days",
        "memory",
        "monitoring.servicemonitor",
        "name",
        "namespace",
        "plans[0].quota",
        "plans[0].quota_period",
        "plans[1].burst",
        "plans[2].requests_per_second",
        "replicas",
        "source_ranges[0]",
        "tags.team",
        "tls.certificate",
        "tls.certificate_key",
        "trusted_proxies[0]",
        "upstream.api_key",
        "upstream.health_path",
        "upstream.instances",
        "upstream.instances[0].url",
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tls": None}, "tls"),
        ({"tls": {"secret": "a", "certificate": _PEM}}, "tls.secret"),
        ({"redis": {"port": 1}}, "redis.host"),
        ({"redis": {"host": "r", "username": "kong"}}, "redis.username"),
        ({"redis": {"host": "r", "password": "{vault://env/x}"}}, "redis.password"),
        ({"log": {"kind": "file", "target": "/var/log/a"}}, "log.kind"),
        ({"keys": pulumi.Output.from_input([])}, "keys"),
        ({"keys": [{"name": f"k{i}", "plan": "free"} for i in range(501)]}, "keys"),
        ({"cpu": "much"}, "cpu"),
        ({"service_type": "NodePort"}, "service_type"),
        ({"domain": "https://models"}, "domain"),
        ({"image": "not an image"}, "image"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    assert list(_found(_args(**changes))) == [field]


def test_no_message_shows_a_secret() -> None:
    secret = "hunter2"
    args = _args(
        redis={"host": "r", "password": [secret]},
        kubeconfig=[secret],
        keys=[{"name": "ann", "plan": "free", "key": secret, "previous_key": [secret]}],
        tls={"certificate": secret, "certificate_key": secret},
    )
    found = _found(args)
    assert len(found) == 6
    assert not any(secret in message for message in found.values())


def _pod(**changes: Any) -> Any:
    args = {**_args(), "tls": True, **changes}
    spec = objects.deployment("api", args, {}, checksum="abc", config="api-config-1",
                              tls="api-tls-1" if args["tls"] else "", plugin="")  # fmt: skip
    return spec, spec["template"]["spec"], spec["template"]["spec"]["containers"][0]


def test_a_pod_is_restricted_ready_when_configured_and_leaves_slowly() -> None:
    spec, pod, container = _pod(upstream={**_args()["upstream"], "request_seconds": 90})
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["template"]["metadata"]["annotations"] == {"sixways/config": "abc"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/status/ready"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"] == container["resources"]["limits"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] == waits + 90, "what is in flight may end"
    keys = {one["topologyKey"] for one in pod["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_kong_has_no_admin_api_and_writes_no_line_of_its_own() -> None:
    settings = objects.environment({**_args(), "tls": True})
    assert settings["ADMIN_LISTEN"] == settings["ADMIN_GUI_LISTEN"] == "off"
    assert settings["PROXY_ACCESS_LOG"] == "off", "it would show queries"
    assert settings["DATABASE"] == "off"
    assert "bundled" not in settings["PLUGINS"]
    assert "sixways-tokens" not in settings["PLUGINS"]
    assert "ssl" in settings["PROXY_LISTEN"]
    plans = [{"name": "free", "tokens_per_minute": 5}]
    settings = objects.environment({**_args(plans=plans), "tls": False, "cpu": "1500m"})
    assert settings["PLUGINS"].endswith(",sixways-tokens")
    assert settings["LUA_PACKAGE_PATH"] == "/opt/sixways/?.lua;;"
    assert settings["NGINX_WORKER_PROCESSES"] == "2"
    assert "ssl" not in settings["PROXY_LISTEN"]


def test_certificates_of_instances_are_verified_by_whoever_signed_them() -> None:
    public = {"instances": [{"url": "https://a.example.com"}], "health_path": "/readyz"}
    settings = objects.environment({**_args(upstream=public), "tls": True})
    assert settings["NGINX_PROXY_PROXY_SSL_TRUSTED_CERTIFICATE"].startswith("/etc/ssl/certs/")
    own = {**public, "instances": [{"url": "https://a.example.com", "ca_certificate": _PEM}]}
    settings = objects.environment({**_args(upstream=own), "tls": True})
    assert settings["LUA_SSL_TRUSTED_CERTIFICATE"].endswith("/authorities.pem")


def test_pods_reach_only_what_they_call() -> None:
    args = _args(log={"kind": "http", "target": "https://logs.example.com/in"},
                 redis={"host": "r", "port": 6380})  # fmt: skip
    ingress, egress = (objects.traffic("api", args)[way] for way in ("ingress", "egress"))
    assert {port["port"] for port in egress[1]["ports"]} == {443, 5000, 5001, 6380}
    assert {port["port"] for port in egress[0]["ports"]} == {53}
    (metrics,) = (rule for rule in ingress if "from" in rule)
    assert metrics["ports"] == [{"port": "status", "protocol": "TCP"}]


def test_a_load_balancer_without_tls_is_for_private_networks() -> None:
    spec = objects.service("api", {**_args(), "tls": False})
    assert spec["loadBalancerSourceRanges"] == objects.PRIVATE
    assert "loadBalancerSourceRanges" not in objects.service("api", {**_args(), "tls": True})
    inside = objects.service("api", {**_args(), "tls": False, "service_type": "ClusterIP"})
    assert "loadBalancerSourceRanges" not in inside
