"""`KongGateway` against a real API server; its nodes are simulated, so no Kong runs here."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.definitions import installed_definitions, require_absent
from tests.cluster.kubernetes import get, kubectl, watching
from tests.cluster.shop import Shop
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.cluster

_PROGRAM = """
import json
from pathlib import Path

import pulumi
from sixways.api import KongGateway

settings = json.loads(Path("settings.json").read_text())
gateway = KongGateway(settings["name"], settings["args"])
for output in ("url", "health_url", "api_key", "api_keys", "dashboard", "namespace",
               "service_name", "configuration"):
    pulumi.export(output, getattr(gateway, output))
"""
_KEY, _NEXT = "a-key-that-somebody-chose", "the-key-that-comes-after-it"
_OWN = "the-key-of-the-instances"
_PASSWORD = "the-password-of-redis"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_PRIVATE = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleQ\n-----END PRIVATE KEY-----\n"
_MONITORS = "servicemonitors.monitoring.coreos.com"
_ARGS: dict[str, Any] = {
    "upstream": {
        "instances": [
            {"url": "http://model-a.models.svc:5000"},
            {"url": "http://model-b.models.svc:5000", "weight": 2},
        ],
        "health_path": "/readyz",
        "api_key": _OWN,
    },
    "plans": [
        {"name": "free", "requests_per_second": 2, "burst": 4},
        {"name": "paid", "requests_per_second": 50, "tokens_per_minute": 100_000},
    ],
    "keys": [{"name": "shop", "plan": "paid", "key": _KEY}, {"name": "trial", "plan": "free"}],
    "tls": {"certificate": _CERTIFICATE, "certificate_key": _PRIVATE},
    "tags": {"team": "search"},
    "cpu": "100m",
    "memory": "512Mi",
    "monitoring": {"service_monitor": True, "labels": {"release": "prometheus"}},
}


@pytest.fixture
def shop(project: Path, name: str) -> Shop:
    return Shop(project, name, _PROGRAM)


def test_a_gateway_lives_changes_without_a_gap_moves_and_leaves_nothing(
    shop: Shop, project: Path, pulumi_env: dict[str, str], namespace: str
) -> None:
    require_absent(_MONITORS)
    name = shop.name
    with Stack(project, pulumi_env) as stack:
        _wrong_inputs_make_nothing(shop, stack)

        shop.wants(_ARGS)
        done = stack.up().stdout
        assert "the cluster has no ServiceMonitor" in done
        assert "kong:3.9.1 is a tag" in done
        trial = _all_is_there(name, stack)
        first = get("deployment", name, "-n", name)
        _no_secret_in_clear(pulumi_env, name, _KEY, trial, _OWN, "c2VjcmV0LWtleQ")

        stack.up("--expect-no-changes", "--skip-preview")

        with installed_definitions(_MONITORS):
            # Both keys count while callers go over from one to the other, and no pod is missed.
            keys = [{**_ARGS["keys"][0], "key": _NEXT, "previous_key": _KEY}, _ARGS["keys"][1]]
            shop.wants({**_ARGS, "keys": keys})
            with watching("deployment", name, name) as watch:
                stack.up("--skip-preview")
            after = get("deployment", name, "-n", name)
            assert after["metadata"]["uid"] == first["metadata"]["uid"]
            assert min(state["status"].get("availableReplicas", 0) for state in watch.states) == 2
            both = {_NEXT, f"Bearer {_NEXT}", _KEY, f"Bearer {_KEY}"}
            assert _credentials(_configuration(after, name), "shop") == both
            assert stack.outputs()["api_keys"] == {"shop": _NEXT, "trial": trial}
            _the_monitor_finds_each_pod_once(name)
            _no_secret_in_clear(pulumi_env, name, _NEXT)

            # The old key goes and other limits count: the same objects, another configuration.
            keys = [{**_ARGS["keys"][0], "key": _NEXT}, _ARGS["keys"][1]]
            plans = [{**_ARGS["plans"][0], "requests_per_second": 3}, _ARGS["plans"][1]]
            redis = {"host": "redis.cache.svc", "password": _PASSWORD, "tls": False}
            last = {**_ARGS, "keys": keys, "plans": plans, "redis": redis}
            shop.wants(last)
            stack.up("--skip-preview")
            after = get("deployment", name, "-n", name)
            assert after["metadata"]["uid"] == first["metadata"]["uid"]
            held = _configuration(after, name)
            assert _credentials(held, "shop") == {_NEXT, f"Bearer {_NEXT}"}
            (limited,) = (c for c in held["consumers"] if c["username"] == "trial")
            counted = limited["plugins"][0]["config"]
            assert (counted["minute"], counted["second"], counted["policy"]) == (180, 4, "redis")
            secrets = get("secrets", "-n", name)["items"]
            assert len(secrets) == 2, "those of the configurations before are gone"
            ports = get("networkpolicy", name, "-n", name)["spec"]["egress"][1]["ports"]
            assert {port["port"] for port in ports} == {5000, 6379}
            _no_secret_in_clear(pulumi_env, name, _PASSWORD)

            # Another namespace is another gateway.
            shop.wants({**last, "namespace": namespace, "service_type": "ClusterIP"})
            stack.up("--skip-preview")
            assert stack.outputs()["url"] == f"https://{name}.{namespace}.svc"
            assert kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name") == ""
            kinds = "deploy,service,secret,configmap,pdb,networkpolicy,serviceaccount"
            mine = (kinds, "-n", namespace, "-l", "app.kubernetes.io/part-of=sixways", "-o", "name")
            assert len(kubectl("get", *mine).split()) == 9
            stack.destroy()
            assert kubectl("get", *mine) == ""


def _wrong_inputs_make_nothing(shop: Shop, stack: Stack) -> None:
    shop.wants({
        "upstream": {"instances": [{"url": "http://a.example.com:5000"}]},
        "plans": [{"name": "free"}, {"name": "paid", "requests_per_second": 9, "burst": 2},
                  {"name": "monthly", "quota": 5}],
        "keys": [{"name": "shop", "plan": "free"}, {"name": "shop", "plan": "gone"}],
        "log": {"kind": "cloudwatch"},
    })  # fmt: skip
    done = stack.up("--skip-preview", check=False)
    assert done.returncode != 0
    for field in ("upstream.health_path", "upstream.instances", "plans[0].requests_per_second",
                  "plans[1].burst", "plans[2].quota", "keys[1].name", "keys[1].plan", "log.kind",
                  "tls"):  # fmt: skip
        assert f"- {field}" in done.stdout, field
    assert not any("kubernetes" in one["type"] for one in stack.resources())
    assert kubectl("get", "namespace", shop.name, "--ignore-not-found", "-o", "name") == ""


def _all_is_there(name: str, stack: Stack) -> str:
    """Objects and outputs of the first update; returns the key that was made."""
    outputs = stack.outputs()
    service = get("service", name, "-n", name)
    assert service["spec"]["ports"][0]["port"] == 443
    ingress = service["status"]["loadBalancer"]["ingress"][0]
    url = f"https://{ingress.get('hostname') or ingress['ip']}"
    assert outputs["url"] == url
    assert outputs["health_url"] == f"{url}/readyz"
    assert outputs["dashboard"] == f"{url}/docs"
    assert (outputs["namespace"], outputs["service_name"]) == (name, name)
    assert outputs["api_key"] == _KEY
    trial: str = outputs["api_keys"]["trial"]
    assert outputs["api_keys"] == {"shop": _KEY, "trial": trial}
    assert len(trial) >= 32

    held = _configuration(get("deployment", name, "-n", name), name)
    assert held == json.loads(outputs["configuration"])
    assert _credentials(held, "shop") == {_KEY, f"Bearer {_KEY}"}
    assert _credentials(held, "trial") == {trial, f"Bearer {trial}"}
    pods = get("pods", "-n", name)["items"]
    assert len(pods) == 2, "restricted ones, or the namespace had refused them"
    nodes = [get("node", pod["spec"]["nodeName"])["metadata"]["labels"] for pod in pods]
    assert len({labels["topology.kubernetes.io/zone"] for labels in nodes}) == 2
    for kind in ("poddisruptionbudget", "networkpolicy", "serviceaccount", "deployment"):
        assert get(kind, name, "-n", name)["metadata"]["labels"]["team"] == "search"
    return trial


def _the_monitor_finds_each_pod_once(name: str) -> None:
    monitor = get("servicemonitor", name, "-n", name)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= get("service", f"{name}-status", "-n", name)["metadata"]["labels"].items()
    assert not wanted <= get("service", name, "-n", name)["metadata"]["labels"].items()


def _configuration(deployment: Any, namespace: str) -> Any:
    """What the pods of a Deployment read."""
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (secret,) = (one["secret"]["secretName"] for one in volumes if one["name"] == "config")
    data = get("secret", secret, "-n", namespace)["data"]
    return json.loads(base64.b64decode(data["kong.json"]))


def _credentials(configuration: Any, consumer: str) -> set[str]:
    (found,) = (one for one in configuration["consumers"] if one["username"] == consumer)
    return {one["key"] for one in found["keyauth_credentials"]}


def _no_secret_in_clear(env: Mapping[str, str], namespace: str, *secrets: str) -> None:
    """Neither in Pulumi's state nor in an object that is no Secret."""
    backend = Path(env["PULUMI_BACKEND_URL"].removeprefix("file://"))
    states = [path.read_text() for path in (backend / ".pulumi" / "stacks").rglob("*.json")]
    assert any(namespace in state for state in states)
    kinds = "pods,configmaps,deployments,replicasets,services,networkpolicies,events"
    everything = json.dumps(get(kinds, "-n", namespace))
    for secret in secrets:
        coded = base64.b64encode(secret.encode()).decode().rstrip("=")
        for form in (secret, coded):
            assert not any(form in state for state in states)
            assert form not in everything
