"""`Ec2Endpoint` from its first update to its destroy, against an AWS on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_HEX = hashlib.sha256(b"a bundle").hexdigest()
_PROGRAM = """
import pulumi
from sixways.cloud import Ec2Endpoint

config = pulumi.Config()
endpoint = Ec2Endpoint(
    config.get("name") or "search",
    {
        "models": [
            {
                "name": "minilm",
                "bundle_uri": pulumi.Output.from_input("s3://models/bundles/minilm/%(hex)s/"),
                "bundle_digest": "sha256:%(hex)s",
                "variant": "openvino-int8",
            }
        ],
        "instance_type": config.get("type") or "c7i.large",
        "certificate_arn": config.require("certificate"),
        "allowed_cidrs": ["203.0.113.0/24", "2001:db8::/32"],
        "ami_parameter": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "target_requests_per_minute": 600,
        "deletion_protection": False,
        "tags": {"team": "search"},
    },
)
for output in (
    "url", "health_url", "api_key", "bundle_digest", "dashboard", "load_balancer_arn_suffix",
    "target_group_arn_suffix", "autoscaling_group_name", "security_group_id", "role_arn",
):
    pulumi.export(output, getattr(endpoint, output))
""" % {"hex": _HEX}  # noqa: UP031 - the program is full of braces
_WRONG = """
from sixways.cloud import Ec2Endpoint

Ec2Endpoint(
    "search",
    {
        "models": [
            {
                "name": "minilm",
                "bundle_uri": "s3://models/bundles/minilm/%(hex)s/",
                "bundle_digest": "sha256:" + 64 * "0",
                "variant": "vllm-bf16",
            }
        ],
        "instance_type": "c7i.large",
        "certificate_arn": "api.example.com",
        "allowed_cidrs": ["203.0.113.0/33"],
        "api_key": "short",
        "min_size": 5,
        "max_size": 3,
        "vpc_id": "vpc-1",
        "public_subnet_ids": ["subnet-1"],
    },
)
""" % {"hex": _HEX}  # noqa: UP031


def test_an_endpoint_lives(aws: Aws, aws_env: dict[str, str], project: Path) -> None:
    acm = aws.client("acm")
    certificate = acm.request_certificate(DomainName="api.example.com")["CertificateArn"]
    (project / "__main__.py").write_text(_PROGRAM)
    assert aws.left() == []
    with Stack(project, aws_env, timeout_s=400) as stack:
        stack.config(certificate=certificate)
        stack.up("--skip-preview")
        first = stack.outputs()
        _assert_machines(aws, first)
        _assert_front(aws, first, certificate)
        _assert_rights(aws, first)
        _assert_keys(aws, stack, first)
        stack.up("--skip-preview", "--expect-no-changes")

        stack.config(type="c7i.xlarge")
        stack.up("--skip-preview")
        assert stack.outputs() == first  # in place
        assert _machine(aws)["InstanceType"] == "c7i.xlarge"
        assert _group(aws, first)["LaunchTemplate"]["Version"] == "2"
        (refresh,) = aws.client("autoscaling").describe_instance_refreshes(
            AutoScalingGroupName=first["autoscaling_group_name"]
        )["InstanceRefreshes"]
        assert refresh["Preferences"]["MinHealthyPercentage"] == 100
        assert refresh["Preferences"]["MaxHealthyPercentage"] == 200
        assert refresh["Preferences"]["AutoRollback"] is True

        stack.config(name="find")
        stack.up("--skip-preview")
        second = stack.outputs()
        assert second["api_key"] != first["api_key"]
        assert not [line for line in aws.left() if " search" in line]
        assert _group(aws, second)["AutoScalingGroupName"].startswith("find-")
    acm.delete_certificate(CertificateArn=certificate)
    assert aws.left() == []


def test_bad_inputs_are_named_all_at_once_and_nothing_is_made(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    (project / "__main__.py").write_text(_WRONG)
    with Stack(project, aws_env) as stack:
        said = stack.up("--skip-preview", check=False)
        assert said.returncode != 0
        for field in (
            "models[0].bundle_digest",
            "models[0].variant",
            "certificate_arn",
            "allowed_cidrs[0]",
            "api_key",
            "max_size",
            "public_subnet_ids",
            "private_subnet_ids",
        ):
            assert f"- {field}:" in said.stdout, said.stdout
        assert "short" not in said.stdout
        assert aws.left() == []


def _group(aws: Aws, outputs: dict[str, Any]) -> dict[str, Any]:
    (group,) = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["AutoScalingGroupName"] == outputs["autoscaling_group_name"]
    return dict(group)


def _machine(aws: Aws) -> dict[str, Any]:
    """What the newest launch template says."""
    ec2 = aws.client("ec2")
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    (version,) = ec2.describe_launch_template_versions(
        LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    return dict(version["LaunchTemplateData"])


def _assert_machines(aws: Aws, outputs: dict[str, Any]) -> None:
    machine = _machine(aws)
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert machine["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    (disk,) = machine["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    assert disk["Ebs"]["VolumeType"] == "gp3"
    (interface,) = machine["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False
    assert interface["Groups"] == [outputs["security_group_id"]]
    assert "KeyName" not in machine
    script = base64.b64decode(machine["UserData"]).decode()
    assert f"s3://models/bundles/minilm/{_HEX}/" in script
    assert outputs["api_key"] not in script
    assert hashlib.sha256(outputs["api_key"].encode()).hexdigest() not in script

    group = _group(aws, outputs)
    assert (group["MinSize"], group["MaxSize"]) == (2, 4)
    assert group["HealthCheckType"] == "ELB"
    subnets = aws.client("ec2").describe_subnets(SubnetIds=group["VPCZoneIdentifier"].split(","))
    assert len({subnet["AvailabilityZone"] for subnet in subnets["Subnets"]}) == 2
    policies = aws.client("autoscaling").describe_policies()["ScalingPolicies"]
    tracked = {
        policy["TargetTrackingConfiguration"]["PredefinedMetricSpecification"][
            "PredefinedMetricType"
        ]: policy["TargetTrackingConfiguration"]
        for policy in policies
    }
    assert tracked["ASGAverageCPUUtilization"]["TargetValue"] == 60
    requests = tracked["ALBRequestCountPerTarget"]["PredefinedMetricSpecification"]
    assert requests["ResourceLabel"] == (
        f"{outputs['load_balancer_arn_suffix']}/{outputs['target_group_arn_suffix']}"
    )


def _assert_front(aws: Aws, outputs: dict[str, Any], certificate: str) -> None:
    elb = aws.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    assert outputs["url"] == f"https://{balancer['DNSName']}"
    assert outputs["health_url"] == f"https://{balancer['DNSName']}/healthz"
    assert len(balancer["AvailabilityZones"]) == 2
    attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=balancer["LoadBalancerArn"])
    settings = {item["Key"]: item["Value"] for item in attributes["Attributes"]}
    assert settings["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert settings["idle_timeout.timeout_seconds"] == "610"
    listeners = {
        listener["Port"]: listener
        for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])[
            "Listeners"
        ]
    }
    assert listeners[443]["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2")
    assert listeners[443]["Certificates"] == [{"CertificateArn": certificate}]
    assert [action["Type"] for action in listeners[80]["DefaultActions"]] == ["redirect"]
    (target,) = elb.describe_target_groups()["TargetGroups"]
    assert (target["Protocol"], target["HealthCheckPath"]) == ("HTTPS", "/readyz")
    assert outputs["dashboard"].endswith(target["TargetGroupArn"])

    groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]
    front = next(group for group in groups if group["GroupId"] in balancer["SecurityGroups"])
    back = next(group for group in groups if group["GroupId"] == outputs["security_group_id"])
    open_to = {
        (rule["FromPort"], network)
        for rule in front["IpPermissions"]
        for network in [r["CidrIp"] for r in rule["IpRanges"]]
        + [r["CidrIpv6"] for r in rule["Ipv6Ranges"]]
    }
    assert open_to == {
        (port, network) for port in (80, 443) for network in ("203.0.113.0/24", "2001:db8::/32")
    }
    (inward,) = back["IpPermissions"]
    assert (inward["FromPort"], inward["IpRanges"], inward["Ipv6Ranges"]) == (443, [], [])
    assert [pair["GroupId"] for pair in inward["UserIdGroupPairs"]] == [front["GroupId"]]
    assert {rule.get("FromPort") for rule in back["IpPermissionsEgress"]} == {443}


def _assert_rights(aws: Aws, outputs: dict[str, Any]) -> None:
    iam = aws.client("iam")
    (role,) = iam.list_roles()["Roles"]
    assert role["Arn"] == outputs["role_arn"]
    assert iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"] == []
    (name,) = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    prefix = f"bundles/minilm/{_HEX}"
    assert statements["ReadBundles"]["Resource"] == [f"arn:aws:s3:::models/{prefix}/*"]
    assert statements["KeyHashes"]["Resource"].endswith(f":parameter/{_parameter(aws)['Name']}")


def _parameter(aws: Aws) -> dict[str, Any]:
    pages = aws.client("ssm").get_paginator("describe_parameters").paginate()
    found = pages.build_full_result()["Parameters"]
    (own,) = [parameter for parameter in found if not parameter["Name"].startswith("/aws/")]
    return dict(own)


def _assert_keys(aws: Aws, stack: Stack, outputs: dict[str, Any]) -> None:
    ssm = aws.client("ssm")
    parameter = _parameter(aws)
    assert parameter["Type"] == "SecureString"
    found = ssm.get_parameter(Name=parameter["Name"], WithDecryption=True)["Parameter"]["Value"]
    digest = hashlib.sha256(outputs["api_key"].encode()).hexdigest()
    assert json.loads(found) == {"keys": [{"name": "default", "sha256": digest}]}
    state = stack.run("stack", "export", "--stack", stack.name).stdout
    assert outputs["api_key"] not in state
    assert digest not in state
