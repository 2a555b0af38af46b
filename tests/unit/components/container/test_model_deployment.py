"""`ModelDeployment`: inputs that are refused, and the chart's values that they become."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pulumi
import pytest

from sixways.container.args import ModelDeploymentArgs
from sixways.container.chart import chart_folder, chart_values, merge
from sixways.container.model_deployment import problems
from sixways.container.quantity import parse_quantity

_HEX = "0123456789abcdef" * 4
_DIGEST = f"sha256:{_HEX}"
_URI = f"s3://b/bundles/minilm/{_HEX}/"
_MODEL: dict[str, Any] = {"name": "minilm", "digest": _DIGEST, "s3_uri": _URI}
_LEAST: dict[str, Any] = {"image": f"registry.example/sixways@{_DIGEST}", "models": [_MODEL]}
_KEDA = {"engine": "keda", "prometheus_url": "http://p:9090"}


def refused(args: dict[str, Any], name: str = "embedder") -> list[str]:
    found = problems(name, cast(ModelDeploymentArgs, {**_LEAST, **args}))
    return [problem.field for problem in found]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"image": "registry.example:5000/a/sixways:1.2"},
        {"models": [{"name": "m", "digest": _DIGEST, "path": "/m"}]},
        {"models": [{"name": "m", "digest": _DIGEST, "image": f"r.example/b@{_DIGEST}"}]},
        {"replicas": 1},
        {"replicas": 4, "min_available": 3},
        {"cpu": "500m", "memory": "1.5Gi"},
        {"gpus": 1, "node_selector": {"gpu": "l4"}},
        {"autoscaling": {}},
        {"autoscaling": {"min_replicas": 5, "queue_depth": 4}, "min_available": 4},
        {"autoscaling": {**_KEDA, "min_replicas": 0, "activation_query": "sum(x)"}},
        {"source_ranges": ["203.0.113.0/24", "2001:db8::/32"]},
        {"ingress": {"hosts": ["a.example.com", "*.example.com"], "tls_secret": "tls"}},
        {"route": {"hosts": ["a.example.com"], "gateway": "infra/public/https"}},
        {"route": {"hosts": ["a.example.com"], "gateway_class": "envoy", "tls_secret": "tls"}},
        {"monitoring": {"rules": True, "slo": {"latency_ms": 200}}},
    ],
)
def test_good_input_is_accepted(args: dict[str, Any]) -> None:
    assert refused(args) == []


async def test_what_is_known_only_later_is_passed_over() -> None:
    later = pulumi.Output.from_input("later")
    model = {"name": "m", "digest": later, "s3_uri": later}
    assert refused({"image": later, "models": [model], "cpu": later, "api_key": later}) == []
    assert refused({"models": later, "autoscaling": later, "ingress": later}) == []


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({"image": ""}, ["image"]),
        ({"image": "Registry/Sixways"}, ["image"]),
        ({"models": []}, ["models"]),
        ({"model": _MODEL}, ["model"]),
        ({"models": [{"name": "m"}]}, ["models[0].digest", "models[0].s3_uri"]),
        ({"models": [_MODEL, _MODEL]}, ["models[1].name"]),
        ({"models": [{**_MODEL, "path": "/m"}]}, ["models[0].path"]),
        ({"models": [{**_MODEL, "digest": f"sha256:{'0' * 64}"}]}, ["models[0].s3_uri"]),
        ({"models": [{**_MODEL, "digest": "sha256:1"}]},
         ["models[0].digest", "models[0].s3_uri"]),
        ({"models": [{"name": "m", "digest": _DIGEST, "image": "r.example/b:1"}]},
         ["models[0].image"]),
        ({"replicas": 0}, ["replicas"]),
        ({"replicas": 2, "min_available": 2}, ["min_available"]),
        ({"min_available": 3}, ["min_available"]),
        ({"autoscaling": {"min_replicas": 2}, "min_available": 2}, ["min_available"]),
        ({"replicas": 3, "autoscaling": {}}, ["replicas"]),
        ({"autoscaling": {"min_replicas": 11}}, ["autoscaling.min_replicas"]),
        ({"autoscaling": {"min_replicas": 4, "max_replicas": 2}}, ["autoscaling.min_replicas"]),
        ({"autoscaling": {"min_replicas": 0}}, ["autoscaling.min_replicas"]),
        ({"autoscaling": {"cpu_utilization": 0}}, ["autoscaling.cpu_utilization"]),
        ({"autoscaling": {"prometheus_url": "http://p"}}, ["autoscaling.prometheus_url"]),
        ({"autoscaling": {"engine": "keda", "queue_depth": 1}}, ["autoscaling.prometheus_url"]),
        ({"autoscaling": {**_KEDA, "min_replicas": 0}}, ["autoscaling.activation_query"]),
        ({"autoscaling": {"engine": "vpa"}}, ["autoscaling.engine"]),
        ({"cpu": "two"}, ["cpu"]),
        ({"cpu": "0"}, ["cpu"]),
        ({"cpu": 2}, ["cpu"]),
        ({"memory": "2GB"}, ["memory"]),
        ({"memory": "512"}, ["memory"]),
        ({"gpus": 1}, ["node_selector"]),
        ({"gpus": 1, "node_selector": {"a": "b"}, "gpu_resource": "gpu"}, ["gpu_resource"]),
        ({"env": {"SIXWAYS_PORT": "1"}}, ["env.SIXWAYS_PORT"]),
        ({"drain_seconds": 5}, ["drain_seconds"]),
        ({"service_type": "NodePort"}, ["service_type"]),
        ({"source_ranges": ["10.0.0.1/8", "x"]}, ["source_ranges[0]", "source_ranges[1]"]),
        ({"ingress": {"hosts": ["A.example.com"]}}, ["ingress.tls_secret", "ingress.hosts[0]"]),
        ({"route": {"hosts": ["a.example.com"]}}, ["route.gateway"]),
        ({"route": {"hosts": ["a.example.com"], "gateway": "a", "tls_secret": "t"}},
         ["route.tls_secret"]),
        ({"monitoring": {"slo": {"error_rate": 2}}}, ["monitoring.slo.error_rate"]),
        ({"namespace": "Shop"}, ["namespace"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_field(args: dict[str, Any], fields: list[str]) -> None:
    assert refused(args) == fields


def test_every_problem_is_found_at_once() -> None:
    assert refused({"image": "", "cpu": "x", "replicas": 0, "typo": 1}) == [
        "typo", "image", "cpu", "replicas",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Embedder", "1st", "a" * 54, "a_b"])
def test_a_name_that_no_service_can_have_is_refused(name: str) -> None:
    assert refused({}, name) == ["name"]


def test_a_bad_key_is_not_shown() -> None:
    found = problems("embedder", cast(ModelDeploymentArgs, {**_LEAST, "api_key": "hunter2"}))
    assert [problem.field for problem in found] == ["api_key"]
    assert "hunter2" not in str(found[0])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", "2"), ("500m", "0.5"), ("1.5Gi", "1610612736"), (".5k", "500"),
        ("3Ei", str(3 * 2**60)), ("1e3", "1000"), ("2E", "2e18"), ("12E2", "1200"),
    ],
)  # fmt: skip
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "2GB", "2 Gi", "-1", "1gi", "1K", "٣"])
def test_what_kubernetes_does_not_read_is_no_quantity(text: str) -> None:
    assert parse_quantity(text) is None


def test_what_is_left_out_is_left_to_the_chart() -> None:
    values = chart_values(cast(ModelDeploymentArgs, _LEAST), "embedder-keys")
    assert values == {
        "image": {"reference": _LEAST["image"]},
        "models": [{"name": "minilm", "digest": _DIGEST, "s3": _URI}],
        "apiKeys": {"existingSecret": "embedder-keys"},
        "annotations": {"pulumi.com/timeoutSeconds": "2100"},
    }


def test_request_and_limit_of_a_pod_are_the_same() -> None:
    values = chart_values(cast(ModelDeploymentArgs, {**_LEAST, "memory": "4Gi"}), "k")
    assert values["resources"] == {"requests": {"memory": "4Gi"}, "limits": {"memory": "4Gi"}}


def test_pulumi_waits_as_long_as_all_pods_may_take_to_start() -> None:
    args = {**_LEAST, "autoscaling": {"max_replicas": 5}, "startup_seconds": 1200}
    values = chart_values(cast(ModelDeploymentArgs, args), "k")
    assert values["annotations"] == {"pulumi.com/timeoutSeconds": "6300"}
    values = chart_values(cast(ModelDeploymentArgs, {**_LEAST, "autoscaling": {}}), "k")
    assert values["annotations"] == {"pulumi.com/timeoutSeconds": "6300"}


@pytest.mark.parametrize(
    ("gateway", "parent"),
    [
        ("public", {"name": "public"}),
        ("infra/public", {"namespace": "infra", "name": "public"}),
        ("infra/public/web", {"namespace": "infra", "name": "public", "sectionName": "web"}),
    ],
)
def test_a_gateway_is_named_in_one_word(gateway: str, parent: dict[str, str]) -> None:
    route = {"hosts": ["a.example.com"], "gateway": gateway}
    values = chart_values(cast(ModelDeploymentArgs, {**_LEAST, "route": route}), "k")
    assert values["httpRoute"]["parentRefs"] == [parent]


def test_further_values_are_laid_over_those_of_the_inputs() -> None:
    args = {**_LEAST, "drain_seconds": 60, "values": {"server": {"console": False}}}
    values = chart_values(cast(ModelDeploymentArgs, args), "k")
    assert values["server"] == {"drainSeconds": 60, "console": False}
    assert merge({"a": {"b": 1}, "c": [1]}, {"a": {"b": 2}, "c": [2]}) == {"a": {"b": 2}, "c": [2]}


def test_the_chart_is_found() -> None:
    assert (chart_folder() / "values.schema.json").is_file()
