"""Parts of an endpoint that no AWS is needed for."""

from __future__ import annotations

import json
from typing import Any, cast

import pulumi
import pytest

from sixways.checks import InputsRefused
from sixways.cloud.sagemaker import endpoint, variants
from sixways.cloud.sagemaker.args import (
    SageMakerDeploymentArgs,
    SageMakerEndpointArgs,
    SageMakerVariantArgs,
)
from sixways.cloud.sagemaker.defaults import interface_endpoints
from sixways.cloud.sagemaker.deployment import deployment_config
from sixways.cloud.sagemaker.network import create_network
from sixways.cloud.surroundings import Surroundings
from sixways.endpoint import bundle_digest

BUNDLE = {"name": "minilm", "uri": "s3://shop/b/", "digest": f"sha256:{'b' * 64}"}


def settings(**bundle: Any) -> pulumi.Output[str]:
    variant = {"bundle": {**BUNDLE, **bundle}, "instance_type": "ml.c6i.xlarge"}
    return variants._models(cast(SageMakerVariantArgs, variant))


async def test_the_server_is_told_the_bundle_by_its_digest() -> None:
    told = await settings(variant=pulumi.Output.from_input("onnx-int8")).future()
    assert json.loads(cast(str, told)) == [
        {"name": "minilm", "path": "/opt/ml/model", "digest": BUNDLE["digest"],
         "variant": "onnx-int8"}
    ]  # fmt: skip
    assert "variant" not in json.loads(cast(str, await settings().future()))[0]


async def test_a_variant_that_is_known_late_is_still_checked_before_the_model_is_made() -> None:
    with pytest.raises(InputsRefused, match="vLLM needs an NVIDIA GPU"):
        await settings(variant=pulumi.Output.from_input("vllm-bf16")).future()
    late = settings(variant="torch-bf16", size=pulumi.Output.from_input(10**10))
    with pytest.raises(InputsRefused, match=r"has 8\.6 GB of memory"):
        await late.future()


@pytest.mark.parametrize(
    ("kinds", "encrypted"),
    [
        (["ml.c5.xlarge"], True),
        (["ml.g5.xlarge"], False),
        (["ml.g5.xlarge", "ml.c5.xlarge"], True),
    ],
)
async def test_a_volume_has_a_key_where_there_is_one(kinds: list[str], encrypted: bool) -> None:
    given = [cast(SageMakerVariantArgs, {"instance_type": kind}) for kind in kinds]
    key = variants.volume_key(given, "arn:key")
    assert key is not None
    assert await key.future() == ("arn:key" if encrypted else None)


async def test_several_bundles_have_one_digest_as_on_every_way() -> None:
    other = {**BUNDLE, "name": "other", "digest": f"sha256:{'c' * 64}"}

    async def digest(*bundles: dict[str, str]) -> object:
        args = {"variants": [{"bundle": bundle} for bundle in bundles]}
        return await endpoint._bundle_digest(cast(SageMakerEndpointArgs, args)).future()

    assert await digest(BUNDLE, BUNDLE) == BUNDLE["digest"]
    assert (
        await digest(BUNDLE, other) == await digest(other, BUNDLE) == bundle_digest([BUNDLE, other])
    )


def test_a_zone_that_has_trouble_moves_no_subnet() -> None:
    kept: list[list[str]] = []

    class Mocks(pulumi.runtime.Mocks):
        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
            return f"{args.name}-id", dict(args.inputs)

        def call(
            self, args: pulumi.runtime.MockCallArgs
        ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
            return {"names": ["eu-west-1a", "eu-west-1b"], "id": "pl-1"}, []

    class Monitor(pulumi.runtime.mocks.MockMonitor):
        def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
            if request.type == "aws:ec2/subnet:Subnet":
                kept.append(list(request.ignoreChanges))
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    mocks = Mocks()
    pulumi.runtime.set_mocks(mocks, project="shop", stack="test", monitor=Monitor(mocks))

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def made() -> pulumi.Output[Any]:
        known = [pulumi.Output.from_input(text) for text in ("1", "aws", "eu-west-1", "a.com")]
        args = cast(SageMakerEndpointArgs, {"create_vpc": True, "interface_endpoints": []})
        stands = create_network("a", "a", args, Surroundings(*known), pulumi.ResourceOptions())
        assert stands is not None
        return pulumi.Output.all(*stands.subnets)

    made()
    assert kept == [["availabilityZone"]] * 2


def test_containers_that_have_a_network_reach_more_services_in_it() -> None:
    isolated = interface_endpoints(cast(SageMakerEndpointArgs, {}))
    assert isolated == ("sagemaker.runtime", "sts")
    open_ = interface_endpoints(cast(SageMakerEndpointArgs, {"network_isolation": False}))
    assert set(open_) == {"sagemaker.runtime", "sts", "logs", "monitoring", "kms"}
    given = {"interface_endpoints": ["ecr.api"]}
    assert interface_endpoints(cast(SageMakerEndpointArgs, given)) == ("ecr.api",)


@pytest.mark.parametrize(
    ("given", "routing"),
    [
        ({}, {"type": "ALL_AT_ONCE", "wait_interval_in_seconds": 0}),
        (
            {"strategy": "canary", "size": 1, "size_type": "INSTANCE_COUNT", "wait_seconds": 60},
            {
                "type": "CANARY",
                "wait_interval_in_seconds": 60,
                "canary_size": {"type": "INSTANCE_COUNT", "value": 1},
            },
        ),
        (
            {"strategy": "linear"},
            {
                "type": "LINEAR",
                "wait_interval_in_seconds": 300,
                "linear_step_size": {"type": "CAPACITY_PERCENT", "value": 25},
            },
        ),
    ],
)
def test_an_update_moves_traffic_as_asked_and_is_undone_by_alarms(
    given: SageMakerDeploymentArgs, routing: dict[str, Any]
) -> None:
    made: Any = deployment_config(given, ["slow", "failing"])
    traffic = made["blue_green_update_policy"]["traffic_routing_configuration"]
    assert {key: value for key, value in traffic.items() if value is not None} == routing
    assert made["auto_rollback_configuration"] == {
        "alarms": [{"alarm_name": "slow"}, {"alarm_name": "failing"}]
    }
