"""The life of an endpoint in each mode: made, found unchanged, changed, renamed, gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.sagemaker_memory import SageMakerMemory
from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sixways@sha256:{'a' * 64}"
DIGEST = f"sha256:{'b' * 64}"
_PROGRAM = """
import json

import pulumi

from sixways.cloud import SageMakerEndpoint

endpoint = SageMakerEndpoint("search", json.loads(pulumi.Config().require("args")))
for field in SageMakerEndpoint.__annotations__:
    pulumi.export(field, getattr(endpoint, field))
"""


@pytest.fixture
def stack(
    memory: SageMakerMemory, aws: Aws, aws_env: dict[str, str], project: Path
) -> Iterator[Stack]:
    """A stack whose AWS remembers; at the end nothing of it may be left."""
    (project / "__main__.py").write_text(_PROGRAM)
    memory.calls.clear()
    with Stack(project, {**aws_env, "AWS_ENDPOINT_URL": memory.url}) as stack:
        yield stack
    assert aws.left() == []


def variant(**more: Any) -> dict[str, Any]:
    bundle = {
        "name": "minilm", "digest": DIGEST, "variant": "openvino-int8", "size": 23_000_000,
        "uri": f"s3://shop-bundles/bundles/minilm/{'b' * 64}/",
    }  # fmt: skip
    return {"bundle": bundle, "instance_type": "ml.c5.xlarge", **more}


def arguments(**more: Any) -> dict[str, Any]:
    return {"image_uri": IMAGE, "variants": [variant()], "tags": {"team": "search"}, **more}


def give(stack: Stack, args: dict[str, Any]) -> None:
    stack.config(args=json.dumps(args))


def described(memory: SageMakerMemory, name: str) -> tuple[Any, Any]:
    """The endpoint and its configuration, as AWS describes them."""
    sagemaker = Aws(memory.url, {}).client("sagemaker")
    endpoint = sagemaker.describe_endpoint(EndpointName=name)
    return endpoint, sagemaker.describe_endpoint_config(
        EndpointConfigName=endpoint["EndpointConfigName"]
    )


def only(found: list[Any]) -> Any:
    (item,) = found
    return item


def role_statements(aws: Aws) -> dict[str, dict[str, Any]]:
    """What the endpoint's role may do, by the names of the statements."""
    iam = aws.client("iam")
    role = only(iam.list_roles()["Roles"])["RoleName"]
    policy = only(iam.list_role_policies(RoleName=role)["PolicyNames"])
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    return {statement["Sid"]: statement for statement in document["Statement"]}


def before(text: str, *lines: str) -> None:
    """The lines stand in the text, in this order."""
    places = [text.find(line) for line in lines]
    assert -1 not in places, (lines, places, text)
    assert places == sorted(places), (lines, text)


def test_a_real_time_endpoint_lives_through_updates(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    scaling = {"max_instances": 6, "invocations_per_instance": 600, "concurrent_requests": 4}
    give(stack, arguments(variants=[variant(scaling=scaling)]))
    stack.up()
    endpoint, old = described(memory, "shop-test-search")
    served = only(old["ProductionVariants"])
    assert (served["InstanceType"], served["InitialInstanceCount"]) == ("ml.c5.xlarge", 2)
    assert old["KmsKeyId"] == stack.outputs()["kms_key_arn"]
    model = only(memory.asked("CreateModel"))
    assert model["EnableNetworkIsolation"] is True
    container = model["PrimaryContainer"]
    assert container["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": f"s3://shop-bundles/bundles/minilm/{'b' * 64}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    assert json.loads(container["Environment"]["SIXWAYS_MODELS"]) == [
        {"name": "minilm", "path": "/opt/ml/model", "digest": DIGEST, "variant": "openvino-int8"}
    ]
    deployment = endpoint["LastDeploymentConfig"]
    traffic = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert traffic["Type"] == "ALL_AT_ONCE"
    outputs = stack.outputs()
    alarms = {alarm["AlarmName"] for alarm in deployment["AutoRollbackConfiguration"]["Alarms"]}
    assert alarms == set(outputs["alarm_names"])
    for alarm in aws.client("cloudwatch").describe_alarms()["MetricAlarms"]:
        assert alarm["AlarmName"] in alarms
        metrics = alarm.get("Metrics") or [{"MetricStat": {"Metric": alarm}}]
        of = [
            {d["Name"]: d["Value"] for d in metric["MetricStat"]["Metric"]["Dimensions"]}
            for metric in metrics
            if "MetricStat" in metric
        ]
        assert {frozenset(d.items()) for d in of} == {
            frozenset({"EndpointName": "shop-test-search", "VariantName": "main"}.items())
        }
    log = only(aws.client("logs").describe_log_groups()["logGroups"])
    assert log["logGroupName"] == "/aws/sagemaker/Endpoints/shop-test-search"
    assert (log["retentionInDays"], log["kmsKeyId"]) == (30, outputs["kms_key_arn"])
    assert aws.client("kms").get_key_rotation_status(KeyId=outputs["kms_key_arn"])[
        "KeyRotationEnabled"
    ]
    assert outputs["url"] == (
        "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/shop-test-search/invocations"
    )
    assert (outputs["bundle_digest"], outputs["health_url"]) == (DIGEST, "")
    stack.up("--expect-no-changes")

    # Another type and another bundle at once: nothing old goes before the endpoint has moved.
    memory.calls.clear()
    bundle = {**variant()["bundle"], "digest": f"sha256:{'c' * 64}", "uri": "s3://shop-bundles/c/"}
    changed = arguments(
        variants=[variant(bundle=bundle, instance_type="ml.c5.2xlarge", scaling=scaling)]
    )
    give(stack, changed)
    told = stack.up("--skip-preview").stdout
    moved, new = described(memory, "shop-test-search")
    assert only(new["ProductionVariants"])["InstanceType"] == "ml.c5.2xlarge"
    assert moved["CreationTime"] == endpoint["CreationTime"]
    names = [config["EndpointConfigName"] for config in (new, old)]
    assert names[0] != names[1]
    before(
        "\n".join(memory.changes()),
        f"CreateEndpointConfig {names[0]}",
        "UpdateEndpoint shop-test-search",
        f"DeleteEndpointConfig {names[1]}",
    )
    assert "DeleteEndpoint shop-test-search" not in memory.changes()
    before(
        told,
        "aws:iam:RolePolicy search-policy creating replacement",
        "aws:sagemaker:Endpoint search-endpoint updating",
        "aws:iam:RolePolicy search-policy deleting original",
    )
    assert role_statements(aws)["Bundles"]["Resource"] == ["arn:aws:s3:::shop-bundles/c/*"]
    targets = aws.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )
    assert only(targets["ScalableTargets"])["MaxCapacity"] == 6
    stack.up("--expect-no-changes")

    # Another name is another endpoint.
    memory.calls.clear()
    give(stack, {**changed, "endpoint_name": "find"})
    stack.up("--skip-preview")
    assert {"CreateEndpoint find", "DeleteEndpoint shop-test-search"} <= set(memory.changes())
    endpoints = aws.client("sagemaker").list_endpoints()["Endpoints"]
    assert only(endpoints)["EndpointName"] == "find"
    assert stack.outputs()["endpoint_arn"].endswith(":endpoint/find")
    stack.up("--expect-no-changes")


def test_an_asynchronous_endpoint_answers_into_a_bucket_and_tells_topics(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:"
    scaling = {"max_instances": 4, "backlog_per_instance": 5}
    args = arguments(
        mode="async",
        asynchronous={
            "input_uri": "s3://shop-queue/requests/",
            "output_uri": "s3://shop-queue/answers/",
            "success_topic_arn": f"{topic}done",
            "error_topic_arn": f"{topic}failed",
            "max_concurrent_per_instance": 8,
        },
        capture={"uri": "s3://shop-capture/search/", "percent": 20},
        deployment={"strategy": "canary", "size": 25, "wait_seconds": 300},
        variants=[variant(scaling=scaling)],
    )
    give(stack, args)
    stack.up("--skip-preview")
    outputs = stack.outputs()
    endpoint, config = described(memory, "shop-test-search")
    asked = only(memory.asked("CreateEndpointConfig"))["AsyncInferenceConfig"]
    assert config["AsyncInferenceConfig"] == asked
    assert asked["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 8}
    assert asked["OutputConfig"] == {
        "S3OutputPath": "s3://shop-queue/answers/",
        "KmsKeyId": outputs["kms_key_arn"],
        "NotificationConfig": {"SuccessTopic": f"{topic}done", "ErrorTopic": f"{topic}failed"},
    }
    captured = config["DataCaptureConfig"]
    assert (captured["InitialSamplingPercentage"], captured["KmsKeyId"]) == (
        20,
        outputs["kms_key_arn"],
    )
    traffic = endpoint["LastDeploymentConfig"]["BlueGreenUpdatePolicy"][
        "TrafficRoutingConfiguration"
    ]
    assert traffic == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 300,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25},
    }
    may = role_statements(aws)
    assert may["Tell"]["Resource"] == [f"{topic}done", f"{topic}failed"]
    watching = [arn.rpartition(":")[2] for arn in may["Alarms"]["Resource"]]
    assert watching == outputs["alarm_names"]
    assert may["Requests"]["Resource"] == ["arn:aws:s3:::shop-queue/requests/*"]
    assert may["Answers"]["Resource"] == [
        "arn:aws:s3:::shop-queue/answers/*",
        "arn:aws:s3:::shop-capture/search/*",
    ]
    assert outputs["url"].endswith("/endpoints/shop-test-search/async-invocations")
    callers = json.loads(outputs["invoke_policy_json"])["Statement"]
    assert callers[0]["Action"] == ["sagemaker:InvokeEndpointAsync"]
    stack.up("--expect-no-changes")

    # Only how traffic moves: in place, with the configuration that is there.
    memory.calls.clear()
    give(stack, {**args, "deployment": {"strategy": "linear", "size": 50}})
    stack.up("--skip-preview")
    assert memory.changes() == ["UpdateEndpoint shop-test-search"]


def test_a_serverless_endpoint_has_a_size_and_no_instances(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    bundle = {**variant()["bundle"], "uri": "s3://shop-bundles/b/model.tar.gz"}
    size = {"memory_mb": 2048, "max_concurrency": 10}
    args = arguments(mode="serverless", variants=[{"bundle": bundle, "serverless": size}])
    give(stack, args)
    stack.up("--skip-preview")
    endpoint, config = described(memory, "shop-test-search")
    assert only(config["ProductionVariants"])["ServerlessConfig"] == {
        "MemorySizeInMB": 2048,
        "MaxConcurrency": 10,
    }
    assert "KmsKeyId" not in config
    assert "LastDeploymentConfig" not in endpoint
    model = only(memory.asked("CreateModel"))
    assert model["PrimaryContainer"]["ModelDataUrl"] == "s3://shop-bundles/b/model.tar.gz"
    assert not model.get("EnableNetworkIsolation")
    assert role_statements(aws)["Bundles"]["Resource"] == [
        "arn:aws:s3:::shop-bundles/b/model.tar.gz"
    ]
    stack.up("--expect-no-changes")

    give(
        stack, {**args, "variants": [{"bundle": bundle, "serverless": {**size, "memory_mb": 4096}}]}
    )
    memory.calls.clear()
    stack.up("--skip-preview")
    created, moved, removed = memory.changes()
    assert created.startswith("CreateEndpointConfig ")
    assert moved == "UpdateEndpoint shop-test-search"
    assert removed == f"DeleteEndpointConfig {config['EndpointConfigName']}"


def test_an_endpoint_stands_in_two_zones_without_a_way_to_the_internet(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    give(stack, arguments(create_vpc=True))
    stack.up("--skip-preview")
    ec2 = aws.client("ec2")
    inside = only(memory.asked("CreateModel"))["VpcConfig"]
    subnets = ec2.describe_subnets(SubnetIds=inside["Subnets"])["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)
    vpc = subnets[0]["VpcId"]
    mine = [{"Name": "vpc-id", "Values": [vpc]}]
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    assert ec2.describe_internet_gateways(Filters=attached)["InternetGateways"] == []
    assert ec2.describe_nat_gateways(Filters=mine)["NatGateways"] == []
    reached = {
        endpoint["ServiceName"].removeprefix("com.amazonaws.us-east-1."): endpoint
        for endpoint in ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"]
    }
    assert set(reached) == {"s3", "sagemaker.runtime", "sts"}
    assert set(reached["sagemaker.runtime"]["SubnetIds"]) == set(inside["Subnets"])
    assert "endpoint/shop-test-search" in reached["sagemaker.runtime"]["PolicyDocument"]
    group = ec2.describe_security_groups(GroupIds=inside["SecurityGroupIds"])["SecurityGroups"][0]
    assert group["IpPermissions"] == []
    out = only(group["IpPermissionsEgress"])
    assert (out["FromPort"], out["ToPort"], out["IpRanges"]) == (443, 443, [])
    assert only(out["PrefixListIds"])
    may = role_statements(aws)
    assert set(may["OwnInterfaces"]["Condition"]["ArnEquals"]["ec2:Subnet"]) == {
        f"arn:aws:ec2:us-east-1:123456789012:subnet/{subnet}" for subnet in inside["Subnets"]
    }
    stack.up("--expect-no-changes")

    # Into a VPC that is there already; the one of its own goes.
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    given = [
        ec2.create_subnet(VpcId=other, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=zone)
        for n, zone in enumerate(("us-east-1a", "us-east-1b"))
    ]
    ids = [subnet["Subnet"]["SubnetId"] for subnet in given]
    memory.calls.clear()
    give(stack, arguments(vpc_id=other, subnet_ids=ids))
    stack.up("--skip-preview")
    moved = only(memory.asked("CreateModel"))["VpcConfig"]
    assert set(moved["Subnets"]) == set(ids)
    assert only(moved["SecurityGroupIds"]) not in inside["SecurityGroupIds"]
    assert vpc not in [v["VpcId"] for v in ec2.describe_vpcs()["Vpcs"]]
    stack.up("--expect-no-changes")
    stack.destroy()
    for subnet in ids:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=other)


def test_two_variants_share_the_requests_and_one_can_become_a_shadow(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    other = {**variant()["bundle"], "name": "minilm-2", "digest": f"sha256:{'d' * 64}"}
    pair = [
        variant(name="old", weight=9),
        variant(name="new", weight=1, bundle=other, instance_type="ml.c5d.xlarge"),
    ]
    give(stack, arguments(variants=pair))
    stack.up("--skip-preview")
    _, config = described(memory, "shop-test-search")
    weights = {v["VariantName"]: v["InitialVariantWeight"] for v in config["ProductionVariants"]}
    assert weights == {"old": 9, "new": 1}
    outputs = stack.outputs()
    assert outputs["variant_names"] == ["old", "new"]
    assert len(outputs["alarm_names"]) == 4
    assert outputs["bundle_digest"] not in (DIGEST, other["digest"])
    stack.up("--expect-no-changes")

    memory.calls.clear()
    pair = [pair[0], {**pair[1], "shadow": True, "weight": 4.5}]
    give(stack, arguments(variants=pair))
    stack.up("--skip-preview")
    asked = only(memory.asked("CreateEndpointConfig"))
    assert only(asked["ProductionVariants"])["VariantName"] == "old"
    shadow = only(asked["ShadowProductionVariants"])
    assert (shadow["VariantName"], shadow["InitialVariantWeight"]) == ("new", 4.5)
    outputs = stack.outputs()
    assert len(outputs["alarm_names"]) == 2
    assert outputs["bundle_digest"] == DIGEST
    stack.up("--expect-no-changes")


def test_an_endpoint_goes_to_zero_and_serves_two_models_on_shared_instances(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    other = {**variant()["bundle"], "name": "other", "digest": f"sha256:{'d' * 64}"}
    pair = [variant(name="minilm"), variant(name="other", bundle=other)]
    args = arguments(mode="scale-to-zero", scale_to_zero={"max_instances": 3}, variants=pair)
    give(stack, args)
    stack.up("--skip-preview")
    outputs = stack.outputs()
    assert outputs["endpoint_name"] == "shop-test-search"
    assert outputs["inference_component_names"] == {
        "minilm": "shop-test-search-minilm",
        "other": "shop-test-search-other",
    }
    standing = {record["type"]: record["model"] for record in aws.native()}
    config = standing["AWS::SageMaker::EndpointConfig"]
    shared = only(config["ProductionVariants"])
    assert shared["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert config["KmsKeyId"] == outputs["kms_key_arn"]
    assert config["ExecutionRoleArn"] == outputs["role_arn"]
    assert len(memory.asked("CreateModel")) == 2
    assert len(outputs["alarm_names"]) == 2
    # Each component's containers write to a group of their own.
    written = [
        "/aws/sagemaker/Endpoints/shop-test-search",
        "/aws/sagemaker/InferenceComponents/shop-test-search-minilm",
        "/aws/sagemaker/InferenceComponents/shop-test-search-other",
    ]
    logs = {
        log["logGroupName"]: log for log in aws.client("logs").describe_log_groups()["logGroups"]
    }
    assert sorted(logs) == written
    assert {log["kmsKeyId"] for log in logs.values()} == {outputs["kms_key_arn"]}
    may = role_statements(aws)
    assert [arn.split(":")[6] for arn in may["Log"]["Resource"][::2]] == written
    assert "Alarms" not in may
    stack.up("--expect-no-changes")


def test_everything_wrong_is_told_at_once_and_nothing_is_made(
    aws: Aws, memory: SageMakerMemory, stack: Stack
) -> None:
    stack.run("config", "set", "aws:region", "mars-north-1")
    give(
        stack,
        arguments(
            mode="async",
            deployment={"strategy": "canary", "size": 51},
            rollback_alarm_names=[f"alarm-{n}" for n in range(9)],
            variants=[
                variant(
                    bundle={**variant()["bundle"], "variant": "vllm-bf16"},
                    scaling={"min_instances": 5, "max_instances": 3, "backlog_per_instance": 5},
                )
            ],
        ),
    )
    told = stack.up("--skip-preview", check=False)
    assert told.returncode != 0
    for wrong in (
        "aws:region: 'mars-north-1' is not accepted",
        "asynchronous.output_uri: is missing",
        "deployment.size: '51' is not accepted; accepted: a whole number from 1 to 50",
        "rollback_alarm_names: '9' is not accepted; accepted: at most 8",
        "variants[0].scaling.min_instances: '5' is not accepted; accepted: at most max_instances",
        "variants[0].instance_type: 'ml.c5.xlarge' is not accepted; accepted: a type that can run",
    ):
        assert wrong in told.stdout, told.stdout
    assert "Traceback" not in told.stdout
    assert memory.calls == []
    assert aws.left() == []
