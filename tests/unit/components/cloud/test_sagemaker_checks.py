"""What is refused of an endpoint's inputs before anything is made, and what is passed over."""

from __future__ import annotations

from typing import Any, cast

import pulumi
import pytest
from botocore.loaders import Loader

from sixways.cloud.instances import sagemaker_types
from sixways.cloud.sagemaker import checks
from sixways.cloud.sagemaker.args import SageMakerEndpointArgs
from sixways.cloud.sagemaker.check_variants import MEMORY_MB, MOST_VARIANTS
from sixways.cloud.sagemaker.checks import problems
from sixways.cloud.sagemaker.defaults import endpoint_name
from sixways.cloud.sagemaker.deployment import MOST_ALARMS
from sixways.cloud.sagemaker.storage import has_own_storage

IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sixways@sha256:{'a' * 64}"
BUNDLE = {"name": "minilm", "uri": "s3://shop/b/", "digest": f"sha256:{'b' * 64}"}
VARIANT: dict[str, Any] = {"bundle": BUNDLE, "instance_type": "ml.c6i.xlarge"}
ASYNC = {"input_uri": "s3://shop/in/", "output_uri": "s3://shop/out/"}
ARCHIVE = {**BUNDLE, "uri": "s3://shop/b/model.tar.gz"}
GOOD: dict[str, dict[str, Any]] = {
    "real-time": {"variants": [VARIANT]},
    "async": {"variants": [VARIANT], "asynchronous": ASYNC},
    "serverless": {"variants": [{"bundle": ARCHIVE}]},
    "scale-to-zero": {"variants": [VARIANT], "scale_to_zero": {"max_instances": 2}},
}


def found(args: dict[str, Any], name: str = "search") -> dict[str, str]:
    return {
        problem.field: str(problem)
        for problem in problems(name, cast(SageMakerEndpointArgs, {"image_uri": IMAGE, **args}))
    }


def of(kind: str, **more: Any) -> dict[str, str]:
    return found({"mode": kind, **GOOD[kind], **more})


def of_variant(
    mode: str = "real-time", args: dict[str, Any] | None = None, **more: Any
) -> set[str]:
    variant = {**GOOD[mode]["variants"][0], **more}
    fields = of(mode, **{**(args or {}), "variants": [variant]})
    return {field.removeprefix("variants[0].") for field in fields}


@pytest.mark.parametrize("mode", GOOD)
def test_the_least_that_a_mode_needs_is_accepted(mode: str) -> None:
    assert of(mode) == {}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"mode": "batch"}, "mode"),
        ({"image_uri": "sixways:latest"}, "image_uri"),
        ({"image_uri": ""}, "image_uri"),
        ({"variants": []}, "variants"),
        ({"variants": "main"}, "variants"),
        ({"variants": [VARIANT, "other"]}, "variants[1]"),
        ({"endpoint_name": "my_search"}, "endpoint_name"),
        ({"endpoint_name": "x" * 64}, "endpoint_name"),
        ({"asynchronous": ASYNC}, "asynchronous"),
        ({"capture": {"percent": 20}}, "capture.uri"),
        ({"capture": {"uri": "s3://shop/kept/", "percent": 101}}, "capture.percent"),
        ({"vpc_id": "vpc-1", "subnet_ids": ["subnet-1"]}, "subnet_ids"),
        ({"vpc_id": "vpc-1", "subnet_ids": ["subnet-1", "subnet-1"]}, "subnet_ids"),
        ({"subnet_ids": ["subnet-1", "subnet-2"]}, "subnet_ids"),
        ({"create_vpc": True, "vpc_id": "vpc-1"}, "vpc_id"),
        ({"create_vpc": True, "vpc_cidr": "8.8.0.0/16"}, "vpc_cidr"),
        ({"create_vpc": True, "vpc_cidr": "10.0.0.0/8"}, "vpc_cidr"),
        ({"create_vpc": True, "interface_endpoints": ["bedrok"]}, "interface_endpoints[0]"),
        ({"vpc_cidr": "10.0.0.0/16"}, "vpc_cidr"),
        ({"rollback_alarm_names": [f"alarm-{n}" for n in range(9)]}, "rollback_alarm_names"),
        ({"alarm_actions": ["arn"] * 6}, "alarm_actions"),
        ({"log_retention_days": 31}, "log_retention_days"),
        ({"role_arn": "admin"}, "role_arn"),
        ({"slo": {"latency_ms": 0}}, "slo.latency_ms"),
        ({"dev": "yes"}, "dev"),
        ({"varients": []}, "varients"),
        ({"deployment": {"strategy": "rolling"}}, "deployment.strategy"),
        ({"deployment": {"strategy": "canary", "size": 51}}, "deployment.size"),
        ({"deployment": {"strategy": "canary", "size": 0}}, "deployment.size"),
        ({"deployment": {"strategy": "linear", "size": 9}}, "deployment.size"),
        ({"deployment": {"size": 10}}, "deployment.size"),
        ({"deployment": {"wait_seconds": 3601}}, "deployment.wait_seconds"),
        ({"deployment": {"termination_wait_seconds": -1}}, "deployment.termination_wait_seconds"),
        ({"deployment": {"max_seconds": 599}}, "deployment.max_seconds"),
        (
            {"deployment": {"strategy": "linear", "size": 10, "max_seconds": 3300}},
            "deployment.max_seconds",
        ),
        (
            {"deployment": {"strategy": "canary", "size": 2, "size_type": "INSTANCE_COUNT"}},
            "deployment.size",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_field(more: dict[str, Any], field: str) -> None:
    assert set(of("real-time", **more)) == {field}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"instance_type": "ml.c6i.tiny"}, "instance_type"),
        ({"instance_type": "c6i.xlarge"}, "instance_type"),
        ({"instance_type": None}, "instance_type"),
        ({"instance_type": "ml.inf2.xlarge", "bundle": {**BUNDLE, "variant": "onnx-int8"}},
         "instance_type"),
        ({"bundle": {**BUNDLE, "variant": "vllm-bf16"}}, "instance_type"),
        ({"bundle": {**BUNDLE, "variant": "torch-bf16", "size": 10**11}}, "instance_type"),
        ({"instance_count": 1}, "instance_count"),
        ({"instance_count": 2.5}, "instance_count"),
        ({"weight": -1}, "weight"),
        ({"name": "a_b"}, "name"),
        ({"name": "x" * 60}, "name"),
        ({"startup_timeout_seconds": 3601}, "startup_timeout_seconds"),
        ({"download_timeout_seconds": 59}, "download_timeout_seconds"),
        ({"volume_size_gb": 513}, "volume_size_gb"),
        ({"volume_size_gb": 50, "instance_type": "ml.g5.xlarge"}, "volume_size_gb"),
        ({"environment": {"SIXWAYS_MODELS": "[]"}}, "environment.SIXWAYS_MODELS"),
        ({"serverless": {}}, "serverless"),
        ({"bundle": {**BUNDLE, "digest": "latest"}}, "bundle.digest"),
        ({"bundle": {**BUNDLE, "uri": "s3://shop/b"}}, "bundle.uri"),
        ({"bundle": {**BUNDLE, "name": "a b"}}, "bundle.name"),
        ({"bundle": {"name": "minilm", "uri": "s3://shop/b/"}}, "bundle.digest"),
        ({"bundle": None}, "bundle"),
        ({"scaling": {"min_instances": 4, "max_instances": 3, "concurrent_requests": 2}},
         "scaling.min_instances"),
    ],
)  # fmt: skip
def test_a_wrong_variant_is_named_by_its_field(more: dict[str, Any], field: str) -> None:
    assert field in of_variant(**more)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"vpc_id": "vpc-1", "subnet_ids": ["a", "b"]}, "vpc_id"),
        ({"create_vpc": True}, "create_vpc"),
        ({"network_isolation": True}, "network_isolation"),
        ({"capture": {"uri": "s3://shop/kept/"}}, "capture"),
        ({"deployment": {"strategy": "canary"}}, "deployment"),
        ({"rollback_alarm_names": ["mine"]}, "rollback_alarm_names"),
        ({"kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/1"}, "kms_key_arn"),
        ({"asynchronous": ASYNC}, "asynchronous"),
        ({"variants": [{"bundle": ARCHIVE}, {"bundle": ARCHIVE, "name": "b"}]}, "variants"),
        ({"variants": [{"bundle": ARCHIVE, "shadow": True}]}, "variants"),
    ],
)
def test_serverless_refuses_what_aws_has_for_instances_only(
    more: dict[str, Any], field: str
) -> None:
    assert field in of("serverless", **more)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"instance_type": "ml.g5.xlarge"}, "instance_type"),
        ({"instance_count": 2}, "instance_count"),
        ({"volume_size_gb": 20}, "volume_size_gb"),
        ({"serverless": {"memory_mb": 1500}}, "serverless.memory_mb"),
        ({"serverless": {"memory_mb": 8192}}, "serverless.memory_mb"),
        ({"serverless": {"max_concurrency": 201}}, "serverless.max_concurrency"),
        ({"serverless": {"max_concurrency": 5, "provisioned_concurrency": 6}},
         "serverless.provisioned_concurrency"),
        ({"bundle": {**ARCHIVE, "variant": "vllm-bf16"}}, "bundle.variant"),
        ({"bundle": {**ARCHIVE, "size": 5 * 10**9}}, "bundle.size"),
        ({"bundle": BUNDLE}, "bundle.uri"),
        ({"scaling": {"max_instances": 4, "provisioned_concurrency_utilization": 0.7}},
         "serverless.provisioned_concurrency"),
    ],
)  # fmt: skip
def test_a_serverless_variant_has_a_size_and_no_instances(more: dict[str, Any], field: str) -> None:
    assert of_variant("serverless", **more) == {field}


def test_asynchronous_needs_buckets_and_no_shadow() -> None:
    assert set(found({"mode": "async", "variants": [VARIANT]})) == {
        "asynchronous.input_uri",
        "asynchronous.output_uri",
    }
    shadow = [VARIANT, {**VARIANT, "name": "next", "shadow": True}]
    assert set(of("async", variants=shadow)) == {"variants"}
    assert of("real-time", variants=shadow) == {}


def test_going_to_zero_has_numbers_of_its_own() -> None:
    assert set(of("scale-to-zero", scale_to_zero=None)) == {"scale_to_zero.max_instances"}
    assert set(of("real-time", scale_to_zero={"max_instances": 2})) == {"scale_to_zero"}
    assert set(of("scale-to-zero", capture={"uri": "s3://a-b/c/"}, deployment={})) == {"capture"}
    types = [VARIANT, {**VARIANT, "name": "b", "instance_type": "ml.c5.xlarge"}]
    assert set(of("scale-to-zero", variants=types)) == {"variants"}
    numbers: dict[str, Any] = {"instance_count": 2, "weight": 1, "volume_size_gb": 20}
    assert of_variant("scale-to-zero", **numbers) == set(numbers)


@pytest.mark.parametrize(
    "variants",
    [
        [{**VARIANT, "shadow": True}],
        [VARIANT, {**VARIANT, "name": "b"}, {**VARIANT, "name": "c", "shadow": True}],
        [VARIANT] + [{**VARIANT, "name": n, "shadow": True} for n in "bc"],
        [VARIANT, {**VARIANT, "name": "b", "shadow": True, "weight": 2}],
        [{**VARIANT, "weight": 0}, {**VARIANT, "name": "b", "weight": 0}],
    ],
)
def test_shadows_and_weights_that_make_no_sense_are_refused(variants: list[Any]) -> None:
    assert set(of("real-time", variants=variants)) == {"variants"}


def test_a_name_stands_for_one_variant() -> None:
    assert set(of("real-time", variants=[VARIANT, VARIANT])) == {"variants[1].name"}


def test_one_instance_is_for_development_and_has_no_half() -> None:
    assert of_variant(args={"dev": True}, instance_count=1) == set()
    assert of_variant(args={"dev": True}) == set()
    canary = {"dev": True, "deployment": {"strategy": "canary"}}
    assert set(of("real-time", **canary)) == {"deployment.strategy"}


def test_ten_alarms_are_shared_by_the_variants() -> None:
    variants = [{**VARIANT, "name": f"v{n}"} for n in range(5)]
    assert of("real-time", variants=variants) == {}
    told = of("real-time", variants=variants, rollback_alarm_names=["mine"])
    assert "at most 0" in told["rollback_alarm_names"]


def test_the_region_is_one_that_has_sagemaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "configured_region", lambda: "eu-west-1")
    # The region is right, and the image is not in it.
    assert set(of("real-time")) == {"image_uri"}
    monkeypatch.setattr(checks, "configured_region", lambda: "mars-north-1")
    assert "aws:region" in of("real-time")


def test_every_problem_is_told_at_once() -> None:
    told = of(
        "real-time",
        image_uri="sixways:latest",
        deployment={"strategy": "canary", "size": 90},
        variants=[{**VARIANT, "instance_count": 1}, {**VARIANT, "weight": "half"}],
    )
    assert set(told) == {
        "image_uri",
        "deployment.size",
        "deployment.strategy",  # one instance has no half
        "variants[0].instance_count",
        "variants[1].name",
        "variants[1].weight",
    }


async def test_what_decides_which_resources_there_are_must_be_known() -> None:
    later: pulumi.Output[list[str]] = pulumi.Output.from_input([])
    for field in ("mode", "endpoint_name", "variants", "subnet_ids", "alarm_actions", "dev",
                  "rollback_alarm_names", "create_vpc", "tags"):  # fmt: skip
        told = found({"variants": [VARIANT], field: later})
        assert set(told) == {field}
        assert "known before the update" in told[field]


async def test_outputs_that_do_not_belong_here_are_told() -> None:
    later = pulumi.Output.from_input("")
    assert set(of("serverless", kms_key_arn=later, vpc_id=later)) == {"kms_key_arn", "vpc_id"}
    assert set(of("real-time", create_vpc=True, vpc_id=later)) == {"vpc_id"}


async def test_what_is_not_known_yet_is_passed_over() -> None:
    unknown = pulumi.Output.from_input("")
    bundle = dict.fromkeys(("name", "uri", "digest", "variant", "size", "kms_key_arn"), unknown)
    variant = {
        "bundle": bundle,
        **dict.fromkeys(
            ("instance_type", "instance_count", "weight", "startup_timeout_seconds",
             "download_timeout_seconds", "volume_size_gb"), unknown),
    }  # fmt: skip
    deployment = dict.fromkeys(("size", "wait_seconds", "max_seconds"), unknown)
    assert (
        found(
            {
                "image_uri": unknown,
                "variants": [variant],
                "deployment": {"strategy": "linear", **deployment},
                "capture": {"uri": unknown, "percent": unknown},
                "vpc_id": unknown,
                "subnet_ids": [unknown, unknown],
                "role_arn": unknown,
                "kms_key_arn": unknown,
                "log_retention_days": unknown,
            }
        )
        == {}
    )


def test_the_endpoints_name_is_made_of_what_aws_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_project", lambda: "the.shop")
    monkeypatch.setattr(pulumi, "get_stack", lambda: "eu_prod")
    args = cast(SageMakerEndpointArgs, {})
    assert endpoint_name("search", args) == "the-shop-eu-prod-search"
    assert endpoint_name("x" * 80, args) == ("the-shop-eu-prod-" + "x" * 80)[:63]
    assert endpoint_name("a", cast(SageMakerEndpointArgs, {"endpoint_name": "mine"})) == "mine"


def test_the_limits_are_those_of_the_api() -> None:
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    assert shapes["ProductionVariantList"]["max"] == MOST_VARIANTS
    assert shapes["AlarmList"]["max"] == MOST_ALARMS
    memory = shapes["ServerlessMemorySizeInMB"]
    assert (memory["min"], memory["max"]) == (MEMORY_MB[0], MEMORY_MB[-1])
    assert shapes["ServerlessMaxConcurrency"]["max"] == 200
    timeout = shapes["ProductionVariantContainerStartupHealthCheckTimeoutInSeconds"]
    assert (timeout["min"], timeout["max"]) == (60, 3600)
    assert shapes["MaximumExecutionTimeoutInSeconds"]["max"] == 28800
    assert (
        shapes["WaitIntervalInSeconds"]["max"] == shapes["TerminationWaitInSeconds"]["max"] == 3600
    )


def test_types_with_storage_of_their_own_are_told_from_the_others() -> None:
    with_own = {kind for kind in sagemaker_types() if has_own_storage(kind)}
    assert {"ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge", "ml.c5d.large", "ml.m6gd.large",
            "ml.p4d.24xlarge", "ml.p5.48xlarge"} <= with_own  # fmt: skip
    assert not {"ml.c5.large", "ml.c6i.xlarge", "ml.m6g.large", "ml.r7i.large", "ml.t2.medium",
                "ml.inf2.xlarge", "ml.p3.2xlarge"} & with_own  # fmt: skip
