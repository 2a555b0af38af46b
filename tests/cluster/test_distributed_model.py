"""`DistributedModel` against a real API server; controllers and nodes are played here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.definitions import (
    DISTRIBUTED,
    definition,
    installed_definitions,
    require_absent,
)
from tests.cluster.kubernetes import get, kubectl
from tests.cluster.operators import operating, pods_of
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.cluster

_PROGRAM = """
import json
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes
from sixways.container import DistributedModel

settings = json.loads(Path("settings.json").read_text())
first = [
    kubernetes.yaml.v2.ConfigFile("definition", file=file) for file in settings["definitions"]
]
options = pulumi.ResourceOptions(depends_on=first)
model = DistributedModel(settings["name"], settings["args"], options)
for output in ("url", "health_url", "api_key", "bundle_digest", "dashboard", "namespace",
               "service_name"):
    pulumi.export(output, getattr(model, output))
"""
_HEX = "0123456789abcdef" * 4
_DIGEST = f"sha256:{_HEX}"
_REVISION = "0123456789" * 4
_GPU = "sixways.test/gpu"
_LEAST: dict[str, Any] = {
    "image": f"registry.example/vllm@{_DIGEST}",
    "source": {"hub_id": "acme/large", "revision": _REVISION},
    "nodes": 2,
    "gpus_per_node": 4,
    "gpu_resource": _GPU,
    "node_selector": {"kubernetes.io/os": "linux"},
    "cpu": "100m",
    "memory": "256Mi",
    "shared_memory": "64Mi",
}
_BUNDLE = {
    "s3_uri": f"s3://b/bundles/large/{_HEX}/",
    "digest": _DIGEST,
    "variant": "vllm-bf16",
    "server_image": f"registry.example/sixways@{_DIGEST}",
}


class Shop:
    """The project, with one model in it."""

    def __init__(self, project: Path, name: str) -> None:
        self._settings = project / "settings.json"
        self.name = name
        (project / "__main__.py").write_text(_PROGRAM)

    def wants(self, args: Mapping[str, Any], definitions: Sequence[Path] = ()) -> None:
        """What the next `up` is about; the program itself installs `definitions`."""
        settings = {
            "name": self.name,
            "args": dict(args),
            "definitions": [str(path) for path in definitions],
        }
        self._settings.write_text(json.dumps(settings))


@pytest.fixture
def shop(project: Path, name: str) -> Shop:
    return Shop(project, name)


@pytest.fixture
def definitions() -> Iterator[None]:
    """Both kinds, and on every node eight GPUs of a name of ours."""
    require_absent(*DISTRIBUTED)
    with installed_definitions(*DISTRIBUTED), _gpus():
        yield


@contextlib.contextmanager
def _gpus() -> Iterator[None]:
    nodes = [node["metadata"]["name"] for node in get("nodes")["items"]]
    for node in nodes:
        _give(node, "8")
    try:
        yield
    finally:
        for node in nodes:
            _give(node, None)


def _give(node: str, gpus: str | None) -> None:
    patch = {"status": {"capacity": {_GPU: gpus}, "allocatable": {_GPU: gpus}}}
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))


@pytest.mark.usefixtures("definitions")
def test_groups_of_a_leader_and_its_workers_live_and_leave_nothing(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    name = shop.name
    want = {**_LEAST, "replicas": 2, "hub_token": "hf_0123456789", "service_type": "LoadBalancer"}
    shop.wants(want)
    with Stack(project, pulumi_env) as stack:
        with operating("leaderworkerset", name, name) as wrong:
            stack.up()
        assert wrong == []
        found = get("leaderworkerset", name, "-n", name)
        assert (found["spec"]["replicas"], found["spec"]["leaderWorkerTemplate"]["size"]) == (2, 2)
        assert len(pods_of(name)) == 4, "restricted ones, or the namespace had refused them"
        budget = get("poddisruptionbudget", name, "-n", name)
        assert budget["spec"]["minAvailable"] == 2

        outputs = stack.outputs()
        ingress = get("service", name, "-n", name)["status"]["loadBalancer"]["ingress"][0]
        url = f"http://{ingress.get('hostname') or ingress['ip']}:8000"
        assert outputs["url"] == url
        assert outputs["health_url"] == f"{url}/health"
        assert outputs["dashboard"] == f"{url}/metrics"
        assert outputs["bundle_digest"] == _REVISION
        assert (outputs["namespace"], outputs["service_name"]) == (name, name)
        endpoints = get("endpointslices", "-n", name, "-l", f"kubernetes.io/service-name={name}")
        targets = [e["targetRef"]["name"] for s in endpoints["items"] for e in s["endpoints"]]
        assert sorted(targets) == [f"{name}-0", f"{name}-1"], "the leaders alone"
        _no_secret_is_readable(stack, pulumi_env, name, outputs["api_key"], "hf_0123456789")

        stack.up("--expect-no-changes", "--skip-preview")

        shop.wants({**want, "nodes": 3})
        with operating("leaderworkerset", name, name) as wrong:
            up = stack.up("--skip-preview").stdout
        assert wrong == []
        assert "2 updated" in up, "the model and the budget"
        assert "replaced" not in up
        after = get("leaderworkerset", name, "-n", name)
        assert after["metadata"]["uid"] == found["metadata"]["uid"]
        assert after["spec"]["leaderWorkerTemplate"]["size"] == 3
        command = _command(after["spec"]["leaderWorkerTemplate"]["leaderTemplate"])
        assert command[command.index("--pipeline-parallel-size") + 1] == "3"
    assert kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name") == ""


def _command(template: Mapping[str, Any]) -> list[str]:
    (container,) = template["spec"]["containers"]
    command: list[str] = container["command"]
    return command


def _no_secret_is_readable(
    stack: Stack, environment: dict[str, str], name: str, key: str, token: str
) -> None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    held = kubectl("get", "secret", f"{name}-keys", "-n", name, "-o",
                   r"go-template={{index .data `keys.json` | base64decode}}")  # fmt: skip
    assert json.loads(held) == {"keys": [{"name": "default", "sha256": digest}]}
    backend = Path(environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    states = [path.read_text() for path in (backend / ".pulumi" / "stacks").rglob("*.json")]
    assert any(name in state for state in states)
    assert not any(secret in state for state in states for secret in (key, digest, token))
    everything = json.dumps(get("pods,configmaps,leaderworkersets", "-n", name))
    assert not any(secret in everything for secret in (key, digest, token))


@pytest.mark.usefixtures("definitions")
def test_a_ray_service_lives_and_leaves_nothing(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    name = shop.name
    want = {**_LEAST, "runtime": "ray", "source": _BUNDLE, "service_type": "LoadBalancer"}
    shop.wants(want)
    with Stack(project, pulumi_env) as stack:
        with operating("rayservice", name, name) as wrong:
            stack.up()
        assert wrong == []
        found = get("rayservice", name, "-n", name)
        (workers,) = found["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        assert workers["replicas"] == 1
        pods = pods_of(name)
        assert len(pods) == 2
        for pod in pods:
            (fetch,) = pod["spec"]["initContainers"]
            assert fetch["command"][:4] == ["sixways", "bundle", "fetch", _BUNDLE["s3_uri"]]
        outputs = stack.outputs()
        ingress = get("service", name, "-n", name)["status"]["loadBalancer"]["ingress"][0]
        assert outputs["url"] == f"http://{ingress.get('hostname') or ingress['ip']}:8000"
        assert outputs["dashboard"] == f"http://{name}-head-svc.{name}.svc:8265"
        assert outputs["bundle_digest"] == _DIGEST

        stack.up("--expect-no-changes", "--skip-preview")

        shop.wants({**want, "nodes": 3})
        with operating("rayservice", name, name) as wrong:
            up = stack.up("--skip-preview").stdout
        assert wrong == []
        assert "1 updated" in up
        assert "replaced" not in up
        after = get("rayservice", name, "-n", name)
        assert after["metadata"]["uid"] == found["metadata"]["uid"]
        (workers,) = after["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        assert workers["replicas"] == 2
    assert kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name") == ""


@pytest.mark.parametrize(
    ("runtime", "kind", "install"),
    [
        ("leader-worker-set", "LeaderWorkerSet", "helm install lws"),
        ("ray", "RayService", "helm install kuberay-operator"),
    ],
)
def test_a_cluster_without_the_kind_is_told_what_to_install_before_anything_is_made(
    shop: Shop,
    project: Path,
    pulumi_env: dict[str, str],
    runtime: str,
    kind: str,
    install: str,
) -> None:
    require_absent(*DISTRIBUTED)
    args = {"image": "registry.example/vllm:1", "source": {"hub_id": "acme/large"}}
    shop.wants({**_LEAST, **args, "runtime": runtime})
    with Stack(project, pulumi_env) as stack:
        for done in (stack.preview(check=False), stack.up("--skip-preview", check=False)):
            assert done.returncode != 0
            assert "the cluster has no" in done.stdout
            assert kind in done.stdout
            assert install in done.stdout
            assert "registry.example/vllm:1 is a tag" in done.stdout
            assert "source.revision" in done.stdout
        assert not any(one["type"].startswith("kubernetes:core") for one in stack.resources())
    assert kubectl("get", "namespace", shop.name, "--ignore-not-found", "-o", "name") == ""


def test_one_program_may_bring_the_kind_and_the_model(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    require_absent(*DISTRIBUTED)
    kubeconfig = Path(os.environ["KUBECONFIG"]).read_text()
    shop.wants({**_LEAST, "kubeconfig": kubeconfig, "nodes": 1},
               definitions=[definition("leaderworkersets.leaderworkerset.x-k8s.io")])  # fmt: skip
    with Stack(project, pulumi_env) as stack, _gpus():
        stack.preview()
        with operating("leaderworkerset", shop.name, shop.name) as wrong:
            stack.up("--skip-preview")
        assert wrong == []
        url = f"http://{shop.name}.{shop.name}.svc:8000"
        assert stack.outputs()["url"] == url
        stack.up("--expect-no-changes", "--skip-preview")


def test_inputs_that_do_not_fit_together_make_nothing(
    shop: Shop, project: Path, pulumi_env: dict[str, str]
) -> None:
    shop.wants({**_LEAST, "tensor_parallel": 3, "replicas": 0, "engine_args": {"port": "1"}})
    with Stack(project, pulumi_env) as stack:
        done = stack.up("--skip-preview", check=False)
        assert done.returncode != 0
        for field in ("tensor_parallel", "replicas", "engine_args.port"):
            assert field in done.stdout
        assert not any("kubernetes" in one["type"] for one in stack.resources())
    assert kubectl("get", "namespace", shop.name, "--ignore-not-found", "-o", "name") == ""
