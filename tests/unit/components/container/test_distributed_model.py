"""`DistributedModel`: inputs that are refused, the pods they become, and vLLM's gate."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import httpx
import pulumi
import pytest

from sixways.container.distributed import pods
from sixways.container.distributed.args import DistributedModelArgs
from sixways.container.distributed.problems import problems

_HEX = "0123456789abcdef" * 4
_DIGEST = f"sha256:{_HEX}"
_HUB = {"hub_id": "acme/large", "revision": "0123456789" * 4}
_BUNDLE = {"s3_uri": f"s3://b/bundles/large/{_HEX}/", "digest": _DIGEST, "variant": "vllm-bf16",
           "server_image": f"registry.example/sixways@{_DIGEST}"}  # fmt: skip
_LEAST: dict[str, Any] = {
    "image": f"registry.example/vllm@{_DIGEST}",
    "source": _HUB,
    "nodes": 2,
    "gpus_per_node": 8,
    "node_selector": {"gpu": "h200"},
}


def refused(args: dict[str, Any], name: str = "large") -> list[str]:
    found = problems(name, cast(DistributedModelArgs, {**_LEAST, **args}))
    return [problem.field for problem in found]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"runtime": "ray"},
        {"image": "vllm/vllm-openai:v0.33.0"},
        {"nodes": 1},
        {"tensor_parallel": 8, "pipeline_parallel": 2},
        {"tensor_parallel": 4, "pipeline_parallel": 4},
        {"tensor_parallel": 2},
        {"gpus_per_node": 6, "tensor_parallel": 3},
        {"replicas": 3, "max_surge": 0},
        {"source": {"claim": "weights", "path": "large/v1"}},
        {"source": {"image": f"registry.example/large@{_DIGEST}"}},
        {"source": _BUNDLE},
        {"hub_token": "hf_x"},
        {"memory": "512Gi", "shared_memory": "64Gi"},
        {"engine_args": {"max-model-len": "32768", "enable-expert-parallel": ""}},
        {"env": {"NCCL_SOCKET_IFNAME": "eth0"}},
    ],
)
def test_good_input_is_accepted(args: dict[str, Any]) -> None:
    assert refused(args) == []


async def test_what_is_known_only_later_is_passed_over() -> None:
    later: Any = pulumi.Output.from_input("later")
    assert refused({"image": later, "source": later, "nodes": later, "memory": later}) == []
    assert refused({"tensor_parallel": later, "api_key": later, "node_selector": later}) == []
    assert refused({"runtime": later}) == ["runtime"], "which objects there are depends on it"


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({"nodes": 0}, ["nodes"]),
        ({"nodes": 1.5}, ["nodes"]),
        ({"gpus_per_node": 0}, ["gpus_per_node"]),
        ({"tensor_parallel": 3}, ["tensor_parallel"]),
        ({"tensor_parallel": 16}, ["tensor_parallel"]),
        ({"tensor_parallel": 0}, ["tensor_parallel"]),
        ({"pipeline_parallel": 3}, ["pipeline_parallel"]),
        ({"tensor_parallel": 4, "pipeline_parallel": 2}, ["pipeline_parallel"]),
        ({"node_selector": {}}, ["node_selector"]),
        ({"image": "VLLM"}, ["image"]),
        ({"runtime": "slurm"}, ["runtime"]),
        ({"runtime": "ray", "replicas": 2}, ["replicas"]),
        ({"runtime": "ray", "max_surge": 0}, ["max_surge"]),
        ({"source": {}}, ["source", "source.hub_id"]),
        ({"source": {**_HUB, "claim": "weights"}}, ["source.claim"]),
        ({"source": {**_HUB, "digest": _DIGEST}}, ["source.digest"]),
        ({"source": {"hub_id": "large"}}, ["source.hub_id"]),
        ({"source": {"hub_id": "acme/large", "revision": "main"}}, ["source.revision"]),
        ({"source": {"image": "registry.example/large:1"}}, ["source.image"]),
        ({"source": {"claim": "weights", "path": "../etc"}}, ["source.path"]),
        ({"source": {"s3_uri": _BUNDLE["s3_uri"]}},
         ["source.digest", "source.variant", "source.server_image"]),
        ({"source": {**_BUNDLE, "digest": f"sha256:{'0' * 64}"}}, ["source.s3_uri"]),
        ({"source": {"claim": "weights"}, "hub_token": "hf_x"}, ["hub_token"]),
        ({"memory": "8Gi"}, ["memory"]),
        ({"shared_memory": "64Gi"}, ["shared_memory"]),
        ({"user_id": 0}, ["user_id"]),
        ({"engine_args": {"tensor-parallel-size": "4"}}, ["engine_args.tensor-parallel-size"]),
        ({"engine_args": {"--max-model-len": "1"}}, ["engine_args"]),
        ({"env": {"SIXWAYS_KEYS_FILE": "/x"}}, ["env.SIXWAYS_KEYS_FILE"]),
        ({"service_type": "NodePort"}, ["service_type"]),
        ({"api_key": "short"}, ["api_key"]),
        ({"gpu": 1}, ["gpu"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_field(args: dict[str, Any], fields: list[str]) -> None:
    assert refused(args) == fields


def test_every_problem_is_found_at_once_and_says_what_would_fit() -> None:
    args = {"tensor_parallel": 4, "pipeline_parallel": 3, "image": "", "replicas": 0}
    found = problems("large", cast(DistributedModelArgs, {**_LEAST, **args}))
    assert [one.field for one in found] == ["image", "pipeline_parallel", "replicas"]
    assert "4: 2 nodes of 8 GPUs are 16, and tensor_parallel is 4" in str(found[1])


@pytest.mark.parametrize("name", ["Large", "1st", "a" * 48])
def test_a_name_that_is_too_long_for_ray_or_for_a_service_is_refused(name: str) -> None:
    assert refused({}, name) == ["name"]


def _group(args: dict[str, Any]) -> Any:
    return pods.leader_worker_set("large", {**_LEAST, **args}, pods.stamp())


def _command(template: Any) -> list[str]:
    (container,) = template["spec"]["containers"]
    command: list[str] = container["command"]
    return command


def _value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


@pytest.mark.parametrize(
    ("args", "tensor", "pipeline"),
    [({}, "8", "2"), ({"tensor_parallel": 4}, "4", "4"), ({"nodes": 1}, "8", "1")],
)
def test_all_gpus_are_divided_between_layers_and_stages(
    args: dict[str, Any], tensor: str, pipeline: str
) -> None:
    template = _group(args)["leaderWorkerTemplate"]
    for role in ("leaderTemplate", "workerTemplate"):
        command = _command(template[role])
        assert _value(command, "--tensor-parallel-size") == tensor
        assert _value(command, "--pipeline-parallel-size") == pipeline
        assert _value(command, "--middleware") == "sixways_gate.KeyGate"
    assert template["size"] == args.get("nodes", 2)


def test_the_leader_alone_listens_and_workers_outlive_it() -> None:
    template = _group({"drain_seconds": 60})["leaderWorkerTemplate"]
    leader, worker = template["leaderTemplate"], template["workerTemplate"]
    assert "--headless" not in _command(leader)
    assert "--headless" in _command(worker)
    assert "--port" not in _command(worker)
    seconds = [one["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
               for one in (leader, worker)]  # fmt: skip
    assert seconds == [10, 70]
    assert worker["spec"]["terminationGracePeriodSeconds"] > 70


def test_without_a_surge_a_copy_may_be_away() -> None:
    rolling = [
        _group({"max_surge": surge})["rolloutStrategy"]["rollingUpdateConfiguration"]
        for surge in (0, 1)
    ]
    assert [(one["maxSurge"], one["maxUnavailable"]) for one in rolling] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("source", "model"),
    [
        (_HUB, "acme/large"),
        ({"claim": "weights", "path": "a/b/"}, "/model/a/b"),
        ({"image": f"r.example/m@{_DIGEST}"}, "/model"),
        (_BUNDLE, "/model/bundle/variants/vllm-bf16"),
    ],
)
def test_each_source_is_where_vllm_looks_for_it(source: dict[str, str], model: str) -> None:
    template = _group({"source": source})["leaderWorkerTemplate"]["workerTemplate"]
    assert _command(template)[2] == model
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    mounts = {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
    assert ("model" in volumes) == ("hub_id" not in source)
    assert mounts == volumes
    assert ("initContainers" in template["spec"]) == ("s3_uri" in source)


def test_every_change_of_a_model_is_a_new_ray_cluster() -> None:
    """KubeRay changes a cluster in place where `serveConfigV2` alone differs."""
    one, other = (
        pods.ray_service("large", {**_LEAST, **args}, pods.stamp())
        for args in ({}, {"engine_args": {"max-model-len": "8"}})
    )
    assert one["serveConfigV2"] == other["serveConfigV2"]
    assert one["rayClusterConfig"] != other["rayClusterConfig"]
    application = json.loads(one["serveConfigV2"])["applications"][0]
    assert application["import_path"] == "sixways_serve:app"


def test_one_node_of_ray_has_no_workers() -> None:
    spec = pods.ray_service("large", {**_LEAST, "nodes": 1}, pods.stamp())
    assert spec["rayClusterConfig"]["workerGroupSpecs"] == []


_KEY = "sk-a-key-that-somebody-chose"


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    """A client of an application behind vLLM's gate, which answers 200 to all."""
    path = Path(pods.__file__).parent / "files" / "sixways_gate.py"
    spec = importlib.util.spec_from_file_location("sixways_gate", path)
    assert spec is not None
    assert spec.loader is not None
    gate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gate)
    keys = tmp_path / "keys.json"
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    keys.write_text(json.dumps({"keys": [{"name": "default", "sha256": digest}]}))
    monkeypatch.setenv("SIXWAYS_KEYS_FILE", str(keys))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"passed"})

    transport = httpx.ASGITransport(app=gate.KeyGate(application))
    return httpx.AsyncClient(transport=transport, base_url="http://model")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/invocations", "/tokenize", "/pause", "/", "/docs", "/health/x"]
)
async def test_the_gate_asks_for_a_key_on_every_path(gated: httpx.AsyncClient, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {_KEY}"},
                    {"x-api-key": ""}):  # fmt: skip
        answer = await gated.post(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    for headers in ({"authorization": f"Bearer {_KEY}"}, {"x-api-key": _KEY}):
        assert (await gated.post(path, headers=headers)).text == "passed"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_health_and_metrics_are_open(gated: httpx.AsyncClient, path: str) -> None:
    assert (await gated.get(path)).status_code == 200


async def test_another_keys_file_counts_at_once(gated: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    answer = await gated.get("/v1/models", headers={"x-api-key": _KEY})
    assert answer.status_code == 401
