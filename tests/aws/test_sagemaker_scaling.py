"""Autoscaling of variants: registered after the endpoint, gone before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from sixways.cloud.sagemaker.release import Released
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
config = aws.sagemaker.EndpointConfiguration(
    "config",
    production_variants=[{"model_name": model.name, "variant_name": "main", **machine}],
    async_inference_config={
        "output_config": {"s3_output_path": "s3://answers/out/"},
    } if mode == "async" else None,
)
endpoint = aws.sagemaker.Endpoint(
    "endpoint",
    name=knobs.require("endpoint"),
    endpoint_config_name=knobs.get("config") or config.name,
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

        # A refused update leaves the registration as it is, and the next one heals all.
        stack.config(config="absent")
        refused = stack.up("--skip-preview", check=False)
        assert refused.returncode
        assert "whether variants must leave autoscaling" in refused.stdout
        assert _only(aws, "describe_scalable_targets", "ScalableTargets") == anew
        stack.run("config", "rm", "--stack", stack.name, "config")

        # Another name is another endpoint, with a registration of its own.
        stack.config(endpoint="find")
        stack.up("--skip-preview")
        moved = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert moved["ResourceId"] == "endpoint/find/variant/main"
        assert {policy["ResourceId"] for policy in _policies(aws)} == {moved["ResourceId"]}
    assert aws.left() == []


def test_a_variant_with_a_queue_goes_to_zero_and_is_woken(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    with Stack(project, aws_env) as stack:
        _set(
            stack,
            {"max_instances": 5, "backlog_per_instance": 4},
            mode="async",
            instance="ml.c5.xlarge",
            endpoint="later",
        )
        stack.up("--skip-preview")
        target = _only(aws, "describe_scalable_targets", "ScalableTargets")
        assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 5)
        step, track = sorted(_policies(aws), key=lambda policy: policy["PolicyType"])
        tracking = track["TargetTrackingScalingPolicyConfiguration"]
        assert tracking["TargetValue"] == 4
        assert (tracking["ScaleOutCooldown"], tracking["ScaleInCooldown"]) == (300, 600)
        metric = tracking["CustomizedMetricSpecification"]
        assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"
        assert metric["Dimensions"] == [{"Name": "EndpointName", "Value": "later"}]
        assert step["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
            {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
        ]
        (alarm,) = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
        assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
        assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": "later"}]
        assert alarm["AlarmActions"] == [step["PolicyARN"]]
        stack.up("--expect-no-changes")

        # Never empty: nothing needs to be woken.
        _set(stack, {"max_instances": 5, "min_instances": 1, "backlog_per_instance": 4})
        stack.up("--skip-preview")
        assert [policy["PolicyType"] for policy in _policies(aws)] == ["TargetTrackingScaling"]
        assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert aws.left() == []


def test_the_provider_accepts_the_scaling_of_provisioned_concurrency(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    # The AWS server does not know this dimension; the provider's own checks run in a preview.
    (project / "__main__.py").write_text(_PROGRAM)
    with Stack(project, aws_env) as stack:
        scaling = {"max_instances": 10, "provisioned_concurrency_utilization": 0.7}
        _set(stack, scaling, mode="serverless", endpoint="rare", instance="")
        planned = stack.preview("--json").stdout
    assert "sagemaker:variant:DesiredProvisionedConcurrency" in planned
    assert "SageMakerVariantProvisionedConcurrencyUtilization" in planned
    assert aws.left() == []


def test_only_variants_whose_instances_change_leave_autoscaling_for_an_update(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    sagemaker, scaling = aws.client("sagemaker"), aws.client("application-autoscaling")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r")
    before = {"same": "ml.c5.large", "larger": "ml.c5.large", "gone": "ml.c5.large"}
    after = {"same": "ml.c5.large", "larger": "ml.c5.xlarge"}
    for name, variants in (("old", before), ("new", after)):
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": variant,
                    "ModelName": "m",
                    "InitialInstanceCount": 1,
                    "InstanceType": kind,
                }
                for variant, kind in variants.items()
            ],
        )
    which = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    for variant in before:
        resource = f"endpoint/e/variant/{variant}"
        scaling.register_scalable_target(**which, ResourceId=resource, MinCapacity=2, MaxCapacity=7)
        scaling.put_scaling_policy(
            **which,
            ResourceId=resource,
            PolicyName="requests",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 5.0,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
            },
        )
        scaling.put_scheduled_action(
            **which,
            ResourceId=resource,
            ScheduledActionName="morning",
            Schedule="rate(1 day)",
            ScalableTargetAction={"MinCapacity": 3},
        )

    def forget(variant: str) -> None:
        """With the registration go its policies and schedules: in AWS, not in this server."""
        one = {**which, "ResourceId": f"endpoint/e/variant/{variant}"}
        scaling.delete_scaling_policy(**one, PolicyName="requests")
        scaling.delete_scheduled_action(**one, ScheduledActionName="morning")

    def standing() -> dict[str, int]:
        found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")
        return {
            target["ResourceId"].rpartition("/")[2]: target["MaxCapacity"]
            for target in found["ScalableTargets"]
        }

    update = pulumi.ResourceHookArgs(
        urn="",
        id="e",
        name="endpoint",
        type="aws:sagemaker/endpoint:Endpoint",
        old_inputs={"endpointConfigName": "old"},
        new_inputs={"endpointConfigName": "new"},
        old_outputs={"arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"},
    )
    hooks = Released(None)
    hooks.before(update)
    assert standing() == {"same": 7}
    for variant in ("larger", "gone"):
        forget(variant)
    # Rolled back: all is as it was.
    failed = pulumi.ErrorHookArgs(urn="", id="e", name="e", type="", old_outputs=update.old_outputs)
    assert hooks.failed(failed) is False
    assert standing() == {"same": 7, "larger": 7, "gone": 7}
    assert len(_policies(aws)) == 3
    hooks.before(update)
    for variant in ("larger", "gone"):
        forget(variant)
    hooks.after(update)
    assert standing() == {"same": 7, "larger": 7}
    back = {policy["ResourceId"].rpartition("/")[2]: policy for policy in _policies(aws)}
    assert back.keys() == {"same", "larger"}
    kept = "TargetTrackingScalingPolicyConfiguration"
    assert back["larger"][kept] == back["same"][kept]
    times = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
    assert [time["ScalableTargetAction"] for time in times] == [{"MinCapacity": 3}] * 2
    hooks.after(update)

    tags_alone = {"endpointConfigName": "new", "tags": {"a": "b"}}
    update.old_inputs, update.new_inputs = {"endpointConfigName": "new"}, tags_alone
    hooks.before(update)
    assert standing() == {"same": 7, "larger": 7}

    for variant in standing():
        forget(variant)
        scaling.deregister_scalable_target(**which, ResourceId=f"endpoint/e/variant/{variant}")
    for name in ("old", "new"):
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName="m")
    assert aws.left() == []
