"""`ModelDeployment` and the chart against a real API server; its nodes are simulated here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from sixways.container.args import ModelDeploymentArgs
from sixways.container.chart import chart_values
from tests.cluster.definitions import OPTIONAL, installed_definitions, require_absent
from tests.cluster.kubernetes import get, helm_install, installed, kubectl, until, watching
from tests.cluster.shop import Shop
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.cluster

_PROGRAM = """
import json
from pathlib import Path

import pulumi
from sixways.container import ModelDeployment

settings = json.loads(Path("settings.json").read_text())
endpoint = ModelDeployment(settings["name"], settings["args"])
for output in ("url", "health_url", "api_key", "bundle_digest", "dashboard", "namespace",
               "service_name"):
    pulumi.export(output, getattr(endpoint, output))
"""
_HEX = "0123456789abcdef" * 4
_DIGEST = f"sha256:{_HEX}"
_OTHER = f"sha256:{'fedcba9876543210' * 4}"
_REPOSITORY = "registry.example/sixways"
_LEAST: dict[str, Any] = {
    "image": f"{_REPOSITORY}@{_DIGEST}",
    "models": [{"name": "minilm", "digest": _DIGEST, "s3_uri": f"s3://b/bundles/minilm/{_HEX}/"}],
    "cpu": "100m",
    "memory": "128Mi",
}
_KEY = "sk-a-key-that-somebody-chose"
_ROUTE = {"hosts": ["b.example.com"], "gateway_class": "envoy", "tls_secret": "tls"}
_EVERYTHING: dict[str, Any] = {
    **_LEAST,
    "models": [*_LEAST["models"],
               {"name": "chat", "digest": _DIGEST, "image": f"{_REPOSITORY}@{_DIGEST}"}],
    "autoscaling": {"engine": "keda", "queue_depth": 4, "requests_in_flight": 8,
                    "prometheus_url": "http://prometheus.monitoring:9090", "min_replicas": 0,
                    "activation_query": "sum(rate(asked[1m]))"},
    "ingress": {"hosts": ["a.example.com"], "tls_secret": "tls"},
    "route": _ROUTE,
    "monitoring": {"service_monitor": True, "rules": True, "dashboard": True},
    "api_key": _KEY,
}  # fmt: skip
_OPTIONAL = {"ScaledObject", "Gateway", "HTTPRoute", "ServiceMonitor", "PrometheusRule"}
_ALWAYS = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service",
           "ServiceAccount"}  # fmt: skip


@pytest.fixture
def shop(project: Path, name: str) -> Shop:
    return Shop(project, name, _PROGRAM)


def kinds(namespace: str) -> set[str]:
    return {label.split()[0] for label in installed(namespace)}


def images(deployment: Mapping[str, Any]) -> set[str]:
    pod = deployment["spec"]["template"]["spec"]
    return {item["image"] for item in (*pod["containers"], *pod["initContainers"])}


def test_a_deployment_lives_and_leaves_nothing(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    name = shop.name
    shop.wants(_LEAST)
    with Stack(project, pulumi_env) as stack:
        preview = stack.preview().stdout
        assert f"{name}/{name}" in preview, "the first preview shows the chart's objects"
        up = stack.up().stdout
        assert "is a tag" not in up
        deployment = get("deployment", name, "-n", name)
        assert deployment["status"]["readyReplicas"] == 3
        assert deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
        assert kinds(name) == _ALWAYS
        enforced = get("namespace", name)["metadata"]["labels"]
        assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"

        outputs = stack.outputs()
        ingress = get("service", name, "-n", name)["status"]["loadBalancer"]["ingress"][0]
        address = ingress.get("hostname") or ingress["ip"]
        assert outputs["url"] == f"http://{address}:5000"
        assert outputs["health_url"] == f"http://{address}:5000/healthz"
        assert outputs["bundle_digest"] == _DIGEST
        assert (outputs["namespace"], outputs["service_name"]) == (name, name)
        key = outputs["api_key"]
        _is_known_by_its_hash_alone(stack, pulumi_env, name, key)

        stack.up("--expect-no-changes", "--skip-preview")

        shop.wants({**_LEAST, "image": f"{_REPOSITORY}@{_OTHER}"})
        with watching("deployment", name, name) as seen:
            up = stack.up("--skip-preview").stdout
        assert "1 updated" in up
        _never_had_fewer_than(3, seen.states)
        deployment = get("deployment", name, "-n", name)
        assert images(deployment) == {f"{_REPOSITORY}@{_OTHER}"}
        assert deployment["status"]["updatedReplicas"] == 3

        shop.wants({**_LEAST, "image": f"{_REPOSITORY}@{_OTHER}", "api_key": _KEY})
        stack.up("--skip-preview")
        _is_known_by_its_hash_alone(stack, pulumi_env, name, _KEY)
        after = get("deployment", name, "-n", name)["metadata"]
        assert after["uid"] == deployment["metadata"]["uid"]
        assert after["generation"] == deployment["metadata"]["generation"], "no pod is restarted"
    assert kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name") == ""


def _is_known_by_its_hash_alone(
    stack: Stack, environment: dict[str, str], name: str, key: str
) -> None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert stack.outputs()["api_key"] == key
    (shown,) = stack.run("stack", "output", "api_key", "--stack", stack.name).stdout.split()
    assert shown == "[secret]"
    backend = Path(environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    states = [path.read_text() for path in (backend / ".pulumi" / "stacks").rglob("*.json")]
    assert any(name in state for state in states)
    assert not any(secret in state for state in states for secret in (key, digest))
    found = kubectl("get", "secret", f"{name}-keys", "-n", name, "-o",
                    r"go-template={{index .data `keys.json` | base64decode}}")  # fmt: skip
    assert json.loads(found) == {"keys": [{"name": "default", "sha256": digest}]}
    everything = json.dumps([installed(name), get("pods,configmaps", "-n", name)])
    assert key not in everything


def _never_had_fewer_than(pods: int, states: list[dict[str, Any]]) -> None:
    available = [state["status"].get("availableReplicas", 0) for state in states]
    updated = [state["status"].get("updatedReplicas", 0) for state in states]
    assert len(states) > 3, "the watch has seen the rollout"
    assert min(updated) < pods, "and its beginning"
    assert min(available) == pods


def test_an_autoscaler_looks_at_cpu_and_queue_and_owns_the_number_of_pods(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    name = shop.name
    common = {**_LEAST, "service_type": "ClusterIP", "image": f"{_REPOSITORY}:1",
              "kubeconfig": Path(os.environ["KUBECONFIG"]).read_text()}  # fmt: skip
    scaling = {"min_replicas": 3, "max_replicas": 6, "queue_depth": 4}
    pulumi_env.pop("KUBECONFIG")  # the component's own input leads to the cluster
    shop.wants(common)
    with Stack(project, pulumi_env) as stack:
        up = stack.up("--skip-preview").stdout
        assert f"image: {_REPOSITORY}:1 is a tag, which can be moved" in up
        assert stack.outputs()["url"] == f"http://{name}.{name}.svc:5000"
        # As the input's description says; else the pods would drop to one for a moment.
        kubectl("scale", "deployment", name, "-n", name, "--replicas=4")
        shop.wants({**common, "autoscaling": scaling})
        with watching("deployment", name, name) as seen:
            stack.up("--skip-preview")
            metrics = get("hpa", name, "-n", name)["spec"]["metrics"]
            assert {metric["type"] for metric in metrics} == {"Resource", "Pods"}
            until(
                "the autoscaler has seen the pods",
                lambda: get("hpa", name, "-n", name)["status"].get("currentReplicas", 0) >= 3,
            )
        assert min(state["spec"]["replicas"] for state in seen.states) >= 3
        shop.wants({**common, "autoscaling": {**scaling, "min_replicas": 5, "max_replicas": 5}})
        stack.up("--skip-preview")
        until("the autoscaler has set the number",
              lambda: get("deployment", name, "-n", name)["spec"]["replicas"] == 5)  # fmt: skip
        stack.up("--expect-no-changes", "--skip-preview")

        shop.wants({**common, "replicas": 5})
        stack.up("--skip-preview")
        assert get("deployment", name, "-n", name)["spec"]["replicas"] == 5
        assert "HorizontalPodAutoscaler" not in kinds(name)


def test_what_the_cluster_does_not_know_is_left_out_and_comes_once_it_does(
    shop: Shop, project: Path, pulumi_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    require_absent(*OPTIONAL)
    name = shop.name
    shop.wants({**_EVERYTHING, "namespace": namespace})
    with Stack(project, pulumi_env) as stack:
        up = stack.up("--skip-preview").stdout
        for field, kind in (("autoscaling", "ScaledObject"), ("route", "HTTPRoute"),
                            ("monitoring.service_monitor", "ServiceMonitor"),
                            ("monitoring.rules", "PrometheusRule")):  # fmt: skip
            assert f"{field}: the cluster has no {kind}, so it is left out" in up
        assert kinds(namespace) == {*_ALWAYS, "Ingress", "ConfigMap"}
        assert get("deployment", name, "-n", namespace)["spec"]["replicas"] == 1
        assert stack.outputs()["url"] == "https://a.example.com"

        with installed_definitions(*OPTIONAL):
            up = stack.up("--skip-preview").stdout
            assert "is left out" not in up
            assert kinds(namespace) == {*_ALWAYS, *_OPTIONAL, "Ingress", "ConfigMap"}
            stack.up("--expect-no-changes", "--skip-preview")
            _helm_installs_the_same(name, namespace, tmp_path)
            stack.destroy()
            assert kinds(namespace) == set()


def _helm_installs_the_same(name: str, namespace: str, folder: Path) -> None:
    """The chart alone, with the same values, in a namespace of its own."""
    values = chart_values(cast(ModelDeploymentArgs, _without(_EVERYTHING, "api_key")), "")
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    values["apiKeys"] = {"hashes": [{"name": "default", "sha256": digest}]}
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    other = f"{namespace}-helm"
    kubectl("create", "namespace", other)
    try:
        helm_install(name, other, file)
        by_helm, by_pulumi = installed(other), installed(namespace)
    finally:
        kubectl("delete", "namespace", other, "--timeout=120s")
    # The component's Secret says in its labels that no chart made it.
    secrets = [found[f"Secret {name}-keys"] for found in (by_helm, by_pulumi)]
    for secret in secrets:
        secret["metadata"].pop("labels")
    assert by_helm.keys() == by_pulumi.keys()
    for label in by_helm:
        assert by_helm[label] == by_pulumi[label], label


def _without(args: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: value for field, value in args.items() if field not in fields}


def test_what_the_server_refuses_is_said_in_its_words(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    shop.wants({**_LEAST, "service_annotations": {"not a name": "x"}})
    with Stack(project, pulumi_env) as stack:
        up = stack.up("--skip-preview", check=False)
        assert up.returncode != 0
        assert 'metadata.annotations: Invalid value: "not a name"' in up.stdout
    assert kubectl("get", "namespace", shop.name, "--ignore-not-found", "-o", "name") == ""


def test_bad_input_makes_nothing(shop: Shop, project: Path, pulumi_env: dict[str, str]) -> None:
    shop.wants({**_LEAST, "replicas": 2, "min_available": 2, "gpus": 1})
    with Stack(project, pulumi_env) as stack:
        up = stack.up("--skip-preview", check=False)
        assert up.returncode != 0
        assert "min_available: " in up.stdout
        assert "node_selector:" in up.stdout
    assert kubectl("get", "namespace", shop.name, "--ignore-not-found", "-o", "name") == ""


def test_a_value_of_the_wrong_type_is_refused_by_the_charts_schema(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    shop.wants({**_LEAST, "values": {"rollout": {"maxSurge": "many"}}})
    with Stack(project, pulumi_env) as stack:
        up = stack.up("--skip-preview", check=False)
        assert up.returncode != 0
        assert "/rollout/maxSurge" in up.stdout
