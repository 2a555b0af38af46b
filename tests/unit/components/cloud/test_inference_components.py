"""What is refused of a scale to zero, and what a copy needs where nothing is said."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
from botocore.loaders import Loader

from sixways.checks import Checks, InputsRefused
from sixways.cloud.sagemaker.copies import check_scale_to_zero, requirements
from sixways.cloud.sagemaker.defaults import component_name
from sixways.cloud.sagemaker.inference_components import native_options


def _found(
    scaling: dict[str, Any],
    instance_type: object = "ml.c5.xlarge",
    models: tuple[str, ...] = ("a",),
) -> list[str]:
    checks = Checks()
    check_scale_to_zero(checks, scaling, "zero.", instance_type=instance_type, models=models)
    return [problem.field for problem in checks.problems]


def _with(**copies: Any) -> dict[str, Any]:
    return {"max_instances": 4, "copies": {"a": copies}}


def test_the_most_instances_are_enough() -> None:
    assert _found({"max_instances": 4}) == []
    assert _found({"max_instances": 4}, models=("a", "b")) == []


@pytest.mark.parametrize(
    ("scaling", "field"),
    [
        ({}, "max_instances"),
        ({"max_instances": 0}, "max_instances"),
        ({"max_instances": 2, "min_instances": 3}, "min_instances"),
        ({"max_instances": 2, "min_instances": -1}, "min_instances"),
        ({"max_instances": 2, "copies": {"b": {}}}, "copies.b"),
        ({"max_instances": 2, "size": 1}, "size"),
        (_with(cpus=0.1), "copies.a.cpus"),
        (_with(cpus=5), "copies.a.cpus"),
        (_with(accelerators=1), "copies.a.accelerators"),
        (_with(memory_mb=64), "copies.a.memory_mb"),
        (_with(memory_mb=9000), "copies.a.memory_mb"),
        (_with(min_count=5), "copies.a.min_count"),
        (_with(count=5), "copies.a.count"),
        (_with(min_count=1, count=0), "copies.a.count"),
        (_with(memory_mb=5000, max_count=5), "copies.a.max_count"),
        (_with(concurrent_requests=0), "copies.a.concurrent_requests"),
        (_with(invocations_per_copy="some"), "copies.a.invocations_per_copy"),
        (_with(scale_in_cooldown=-1), "copies.a.scale_in_cooldown"),
        (_with(cpu=1), "copies.a.cpu"),
    ],
)
def test_a_wrong_value_is_named_by_its_field(scaling: dict[str, Any], field: str) -> None:
    assert _found(scaling) == [f"zero.{field}"]


def test_several_copies_fit_one_instance() -> None:
    assert _found(_with(cpus=2, memory_mb=3500, max_count=8)) == []
    assert _found(_with(cpus=2, memory_mb=3500, max_count=9)) == ["zero.copies.a.max_count"]


def test_every_problem_is_told_at_once() -> None:
    scaling = {"min_instances": 9, "max_instances": 3, "copies": {"a": {"cpus": 99}, "x": {}}}
    assert set(_found(scaling)) == {"zero.min_instances", "zero.copies.a.cpus", "zero.copies.x"}


def test_an_unknown_type_needs_the_memory_of_a_copy() -> None:
    assert _found({"max_instances": 1}, "ml.new.large") == ["zero.copies.a.memory_mb"]
    assert _found(_with(memory_mb=1000), "ml.new.large") == []
    with pytest.raises(InputsRefused, match="memory_mb"):
        requirements("ml.new.large", {})


async def test_values_that_are_not_known_yet_are_passed_over() -> None:
    later: Any = pulumi.Output.from_input(3)
    assert _found({"min_instances": later, "max_instances": later}, later) == []


def test_a_copy_fills_an_instance_where_nothing_is_said() -> None:
    # An ml.c5.xlarge has 4 CPUs and 8192 MiB; an ml.g5.12xlarge 4 GPUs and 192 GiB.
    assert requirements("ml.c5.xlarge", {}) == {
        "number_of_cpu_cores_required": 3,
        "min_memory_required_in_mb": 5734,
    }
    assert requirements("ml.g5.12xlarge", {}) == {
        "number_of_accelerator_devices_required": 4,
        "min_memory_required_in_mb": 137625,
    }


def test_what_is_said_of_a_copy_holds() -> None:
    said = {"cpus": 0.5, "accelerators": 1, "memory_mb": 1024}
    assert requirements("ml.g5.12xlarge", said) == {
        "number_of_cpu_cores_required": 0.5,
        "number_of_accelerator_devices_required": 1,
        "min_memory_required_in_mb": 1024,
    }


def test_long_names_of_components_stay_apart() -> None:
    endpoint = "e" * 60
    first, second = component_name(endpoint, "words"), component_name(endpoint, "vectors")
    assert component_name("search", "words") == "search-words"
    assert first != second
    assert max(len(first), len(second)) <= 63


def test_the_metrics_are_those_of_the_api() -> None:
    shapes = Loader().load_service_model("application-autoscaling", "service-2")["shapes"]
    assert {
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
        "SageMakerInferenceComponentInvocationsPerCopy",
    } <= set(shapes["MetricType"]["enum"])


class _Parent:
    """A component, as far as its providers go."""

    def __init__(self, provider: object = None) -> None:
        self._provider = provider

    def get_provider(self, member: str) -> object:
        return self._provider if member.startswith("aws-native:") else None


def test_an_aws_native_provider_of_the_users_holds() -> None:
    parent: Any = _Parent("theirs")
    opts = pulumi.ResourceOptions(parent=parent)
    assert native_options("zero", opts) is opts


def test_a_region_for_aws_native_in_the_settings_holds() -> None:
    parent: Any = _Parent()
    opts = pulumi.ResourceOptions(parent=parent)
    pulumi.runtime.set_all_config({"aws-native:region": "us-west-2"})
    try:
        assert native_options("zero", opts) is opts
    finally:
        pulumi.runtime.set_all_config({})
