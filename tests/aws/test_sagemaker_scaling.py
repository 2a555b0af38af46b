"""Autoscaling of variants: registered after the endpoint, gone before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

_PROGRAM = """
import json

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker.release import around_updates
from sixways.cloud.sagemaker.scaling import scale_variant

knobs = pulumi.Config()
mode = knobs.require("mode")
role = aws.iam.Role("role", assume_role_policy=json.dumps({
    "Version": "2012-10-17",
    "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
    }],
}))
model = aws.sagemaker.Model("model", execution_role_arn=role.arn, primary_container={
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
})
# A serverless variant has no instance.
machine = {"initial_instance_count": 2, "instance_type": knobs.require("instance")}
if mode == "serverless":
    machine = {"serverless_config": {
        "memory_size_in_mb": 2048, "max_concurrency": 20, "provisioned_concurrency": 2,
    }}
config = aws.sagemaker.EndpointConfiguration("config", production_variants=[
    {"model_name": model.name, "variant_name": "main", **machine},
])
endpoint = aws.sagemaker.Endpoint(
    "endpoint",
    name=knobs.require("endpoint"),
    endpoint_config_name=config.name,
    opts=pulumi.ResourceOptions(hooks=around_updates("endpoint")),
)
scale_variant(
    "search-main",
    endpoint.name,
    "main",
    json.loads(knobs.require("scaling")),
    mode=mode,
    instance_type=machine.get("instance_type"),
    tags={"team": "search"},
)
"""


def _set(stack: Stack, scaling: dict[str, Any], **more: str) -> None:
    stack.config(scaling=json.dumps(scaling), **more)


def _only(aws: Aws, call: str, key: str) -> dict[str, Any]:
    answer = getattr(aws.client("application-autoscaling"), call)(ServiceNamespace="sagemaker")
    (item,) = answer[key]
    found: dict[str, Any] = item
    return found


def _policies(aws: Aws) -> list[dict[str, Any]]:
    answer = aws.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker"
    )
    found: list[dict[str, Any]] = answer["ScalingPolicies"]
    return found


def test_a_variant_scales_by_its_targets_and_at_its_times(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    morning = {
        "name": "morning",
        "schedule": "cron(0 7 ? * MON-FRI *)",
        "timezone": "Europe/Berlin",
        "min_instances": 4,
    }
    scaling = {
        "max_instances": 8,
        "invocations_per_instance": 600,
        "concurrent_requests": 5,
        "schedules": [morning],
    }
    with Stack(project, aws_env) as stack:
        _set(stack, scaling, mode="real-time", instance="ml.c5.xlarge", endpoint="search")
        stack.up()
        target = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert target["ResourceId"] == "endpoint/search/variant/main"
        assert target["ScalableDimension"] == "sagemaker:variant:DesiredInstanceCount"
        assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)
        tracked = {
            policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"][
                "PredefinedMetricType"
            ]: policy["TargetTrackingScalingPolicyConfiguration"]
            for policy in _policies(aws)
        }
        assert {metric: policy["TargetValue"] for metric, policy in tracked.items()} == {
            "SageMakerVariantInvocationsPerInstance": 600,
            "SageMakerVariantConcurrentRequestsPerModelHighResolution": 5,
        }
        assert all(
            (policy["ScaleOutCooldown"], policy["ScaleInCooldown"]) == (60, 300)
            for policy in tracked.values()
        )
        action = _only(aws, "describe_scheduled_actions", "ScheduledActions")
        assert action["ScheduledActionName"] == "morning"
        assert (action["Schedule"], action["Timezone"]) == (
            "cron(0 7 ? * MON-FRI *)",
            "Europe/Berlin",
        )
        assert action["ScalableTargetAction"] == {"MinCapacity": 4}

        stack.up("--expect-no-changes")

        # In place: the same registration, other values.
        _set(stack, {**scaling, "max_instances": 9, "concurrent_requests": 3})
        changed = stack.up("--skip-preview").stdout
        assert "replaced" not in changed
        again = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert again["MaxCapacity"] == 9
        assert again["ScalableTargetARN"] == target["ScalableTargetARN"]
        assert {3, 600} == {
            policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
            for policy in _policies(aws)
        }

        # SageMaker refuses a new instance type while the variant is registered: it leaves first.
        stack.config(instance="ml.c5.2xlarge")
        stack.up("--skip-preview")
        anew = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert anew["ScalableTargetARN"] != target["ScalableTargetARN"]
        assert anew["MaxCapacity"] == 9
        assert len(_policies(aws)) == 2
        assert _only(aws, "describe_scheduled_actions", "ScheduledActions")["Schedule"]
        stack.up("--expect-no-changes")

        # Another name is another endpoint, with a registration of its own.
        stack.config(endpoint="find")
        stack.up("--skip-preview")
        moved = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert moved["ResourceId"] == "endpoint/find/variant/main"
        assert {policy["ResourceId"] for policy in _policies(aws)} == {moved["ResourceId"]}
    assert aws.left() == []
