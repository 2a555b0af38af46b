"""Scale to zero: models as inference components, and what wakes them.

The AWS server knows no inference components and refuses to register them for autoscaling. What is
made through aws-native is held against AWS's own schemas and kept in a folder of JSON files; the
models, the policies and the alarms stand in the AWS server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

_PROGRAM = """
import json

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker.inference_components import HostedModel, deploy_inference_components

knobs = pulumi.Config()


class Zero(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("test:index:Zero", name)
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role("role", assume_role_policy=json.dumps({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
            }],
        }), opts=child)
        models = [
            HostedModel(model, aws.sagemaker.Model(
                f"{model}-model", execution_role_arn=role.arn,
                primary_container={
                    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
                }, opts=child,
            ).name)
            for model in ("words", "vectors")
        ]
        made = deploy_inference_components(
            name, json.loads(knobs.require("scaling")), models,
            endpoint_name=knobs.require("endpoint"), instance_type=knobs.require("instance"),
            role_arn=role.arn, tags={"team": "search"}, opts=child,
        )
        pulumi.export("endpoint", made.name)
        pulumi.export("arn", made.arn)
        pulumi.export("components", made.component_names)
        self.register_outputs({})


Zero("zero")
"""


def _standing(aws: Aws, kind: str) -> list[dict[str, Any]]:
    """The properties of what stands of one CloudFormation type."""
    return [record["model"] for record in aws.native() if record["type"] == f"AWS::{kind}"]


def _component(aws: Aws, name: str) -> dict[str, Any]:
    (found,) = [
        component
        for component in _standing(aws, "SageMaker::InferenceComponent")
        if component["InferenceComponentName"] == name
    ]
    return found


def _is_accepted(aws: Aws, operation: str, parameters: dict[str, Any]) -> None:
    """botocore's check of what the AWS server does not know, its enums included."""
    model = aws.client("application-autoscaling").meta.service_model
    report = ParamValidator().validate(parameters, model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()
    assert parameters["ScalableDimension"] in model.shape_for("ScalableDimension").enum
    assert parameters["ServiceNamespace"] in model.shape_for("ServiceNamespace").enum


def test_an_endpoint_goes_to_zero_and_is_woken(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    # One region, set once: the aws-native provider must not need one of its own.
    env = {name: value for name, value in aws_env.items() if name != "AWS_REGION"}
    scaling: dict[str, Any] = {"max_instances": 3, "copies": {"words": {"memory_mb": 2048}}}
    with Stack(project, env) as stack:
        stack.run("config", "set", "--stack", stack.name, "aws:region", "us-east-1")
        stack.config(scaling=json.dumps(scaling), endpoint="search", instance="ml.c5.xlarge")
        stack.up("--skip-preview")
        outputs = stack.outputs()
        assert outputs["endpoint"] == "search"
        assert outputs["components"] == {"words": "search-words", "vectors": "search-vectors"}

        (config,) = _standing(aws, "SageMaker::EndpointConfig")
        (variant,) = config["ProductionVariants"]
        assert variant["ManagedInstanceScaling"] == {
            "Status": "ENABLED",
            "MinInstanceCount": 0,
            "MaxInstanceCount": 3,
        }
        assert "ModelName" not in variant
        assert config["EnableNetworkIsolation"] is True
        assert config["ExecutionRoleArn"].startswith("arn:aws:iam::123456789012:role/role-")

        words, vectors = _component(aws, "search-words"), _component(aws, "search-vectors")
        needs = "ComputeResourceRequirements"
        # 4 CPUs and 8 GiB has an ml.c5.xlarge.
        assert vectors["Specification"][needs] == {
            "NumberOfCpuCoresRequired": 3,
            "MinMemoryRequiredInMb": 5734,
        }
        assert words["Specification"][needs]["MinMemoryRequiredInMb"] == 2048
        assert words["RuntimeConfig"]["CopyCount"] == 1

        targets = _standing(aws, "ApplicationAutoScaling::ScalableTarget")
        assert {target["ResourceId"] for target in targets} == {
            "inference-component/search-words",
            "inference-component/search-vectors",
        }
        shown = ("ServiceNamespace", "ResourceId", "ScalableDimension", "MinCapacity")
        for target in targets:
            assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 3)
            _is_accepted(aws, "RegisterScalableTarget", {key: target[key] for key in shown})
        policies = aws.client("application-autoscaling").describe_scaling_policies(
            ServiceNamespace="sagemaker"
        )["ScalingPolicies"]
        steps = {
            policy["ResourceId"]: policy["PolicyARN"]
            for policy in policies
            if policy["PolicyType"] == "StepScaling"
        }
        assert steps.keys() == {target["ResourceId"] for target in targets}
        assert len(policies) == 4
        alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
        assert {
            alarm["Dimensions"][0]["Value"]: (alarm["MetricName"], alarm["AlarmActions"])
            for alarm in alarms
        } == {
            name.split("/")[1]: ("NoCapacityInvocationFailures", [arn])
            for name, arn in steps.items()
        }

        stack.up("--expect-no-changes")

        # In place: the same component, other copies.
        scaling["copies"]["words"] |= {"memory_mb": 3000, "count": 2, "max_count": 2}
        stack.config(scaling=json.dumps(scaling))
        changed = stack.up("--skip-preview").stdout
        assert "replaced" not in changed
        again = _component(aws, "search-words")
        assert again["Specification"][needs]["MinMemoryRequiredInMb"] == 3000
        assert again["RuntimeConfig"]["CopyCount"] == 2
        assert again["InferenceComponentArn"] == words["InferenceComponentArn"]

        # A new configuration stands before the old one goes, and the endpoint stays.
        stack.config(instance="ml.c5.2xlarge")
        changed = stack.up("--skip-preview").stdout
        moved, gone = changed.index("endpoint updated"), changed.index("config deleted original")
        assert changed.index("config created replacement") < moved < gone
        assert "zero-endpoint replaced" not in changed
        (config,) = _standing(aws, "SageMaker::EndpointConfig")
        assert config["ProductionVariants"][0]["InstanceType"] == "ml.c5.2xlarge"
        needed = _component(aws, "search-vectors")["Specification"][needs]
        assert needed["NumberOfCpuCoresRequired"] == 7

        # Another name is another endpoint with components of its own.
        stack.config(endpoint="find")
        stack.up("--skip-preview")
        (endpoint,) = _standing(aws, "SageMaker::Endpoint")
        assert endpoint["EndpointName"] == "find"
        assert {
            (component["InferenceComponentName"], component["EndpointName"])
            for component in _standing(aws, "SageMaker::InferenceComponent")
        } == {("find-words", "find"), ("find-vectors", "find")}
    assert aws.left() == []
