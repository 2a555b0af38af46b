"""An AWS on this machine: moto behind a port, its clients, and what is left in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.conftest import aws_server
from tests.ports import free_port

ACCOUNT = "123456789012"
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Aws:
    """An AWS server that runs: its address, and the variables that lead programs to it."""

    url: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def native(self) -> list[dict[str, Any]]:
        """What the aws-native stand-in keeps: `type`, `id`, `region` and `model`, the properties
        in CloudFormation's names. Empty where the real plugin is in use."""
        store = Path(self.environment["PULUMI_AWS_NATIVE_STORE"])
        return [json.loads(path.read_text()) for path in sorted(store.rglob("*.json"))]

    def left(self) -> list[str]:
        """Everything that stands in it, as `service kind name`: after a destroy nothing may."""
        return sorted(_left(self))


@contextlib.contextmanager
def serve_aws(folder: Path, host: str = "127.0.0.1") -> Iterator[Aws]:
    """Runs the AWS server for the block; its output is in `folder/aws.log`, and the aws-native
    stand-in, where that is in use, keeps its store in the same folder."""
    port = free_port()
    url = f"http://{host}:{port}"
    log_path = folder / "aws.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [*aws_server(), "-H", host, "-p", str(port)],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PYTHONPATH": _with_additions(),
                # AWS's own policies, which roles get attached.
                "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
            },
        )
        try:
            _wait(url, child, log_path)
            yield Aws(
                url,
                {
                    **CREDENTIALS,
                    "AWS_ENDPOINT_URL": url,
                    "AWS_REGION": REGION,
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "PULUMI_AWS_NATIVE_STORE": str(folder / "aws-native"),
                },
            )
        finally:
            child.terminate()
            child.wait(10)


def _with_additions() -> str:
    """The Python path with what moto lacks (`additions/sitecustomize.py`)."""
    own = str(Path(__file__).parent / "additions")
    return os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))


def _wait(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).read()
            return
        if child.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the AWS server did not start:\n{log.read_text()[-2000:]}")


# service, call, key of its answer, key of an item's name (None: the item is the name)
_LISTS: tuple[tuple[str, str, str, str | None], ...] = (
    ("apigateway", "get_api_keys", "items", "name"),
    ("apigateway", "get_domain_names", "items", "domainName"),
    ("apigateway", "get_rest_apis", "items", "name"),
    ("apigateway", "get_usage_plans", "items", "name"),
    ("apigatewayv2", "get_apis", "Items", "Name"),
    ("apigatewayv2", "get_domain_names", "Items", "DomainName"),
    ("apigatewayv2", "get_vpc_links", "Items", "Name"),
    ("autoscaling", "describe_policies", "ScalingPolicies", "PolicyName"),
    ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", "AutoScalingGroupName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("eks", "list_clusters", "clusters", None),
    ("elbv2", "describe_load_balancers", "LoadBalancers", "LoadBalancerName"),
    ("elbv2", "describe_target_groups", "TargetGroups", "TargetGroupName"),
    ("iam", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
    ("sagemaker", "list_models", "Models", "ModelName"),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("ssm", "describe_parameters", "Parameters", "Name"),
)
# Application Auto Scaling wants to be asked for one namespace at a time.
_NAMESPACES = ("custom-resource", "ec2", "ecs", "lambda", "sagemaker")
_SCALING = (
    ("describe_scalable_targets", "ScalableTargets", "ResourceId"),
    ("describe_scaling_policies", "ScalingPolicies", "PolicyName"),
    ("describe_scheduled_actions", "ScheduledActions", "ScheduledActionName"),
)
_IS_GONE = {"terminated", "shutting-down", "deleted", "deleting"}


def _left(aws: Aws) -> Iterator[str]:
    for service, call, key, name in _LISTS:
        answer = _all(aws.client(service), call)
        for item in answer.get(key) or []:
            found = item[name] if name else item
            if not found.startswith("/aws/service/"):  # public parameters, which are AWS's
                yield f"{service} {key} {found}"
    for acl in aws.client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"]:
        yield f"wafv2 WebACLs {acl['Name']}"
    for policy in aws.client("iam").list_policies(Scope="Local")["Policies"]:
        yield f"iam Policies {policy['PolicyName']}"
    budgets = aws.client("budgets").describe_budgets(AccountId=ACCOUNT)
    for budget in budgets.get("Budgets") or []:
        yield f"budgets Budgets {budget['BudgetName']}"
    kms = aws.client("kms")
    own = set()  # AWS's own keys, which moto makes as if they were the customer's
    for alias in kms.list_aliases()["Aliases"]:
        if not alias["AliasName"].startswith("alias/aws/"):
            yield f"kms Aliases {alias['AliasName']}"
        else:
            own.add(alias.get("TargetKeyId"))
    for key in kms.list_keys()["Keys"]:
        # A key can only be scheduled for deletion; that is its end.
        state = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        if key["KeyId"] in own:
            continue
        if state["KeyManager"] == "CUSTOMER" and state["KeyState"] != "PendingDeletion":
            yield f"kms Keys {key['KeyId']}"
    yield from _left_in_ec2(aws.client("ec2"))
    yield from _left_in_scaling(aws.client("application-autoscaling"))
    for record in aws.native():
        yield f"aws-native {record['type']} {record['id']}"


def _left_in_scaling(scaling: Any) -> Iterator[str]:
    for namespace in _NAMESPACES:
        for call, key, name in _SCALING:
            for item in getattr(scaling, call)(ServiceNamespace=namespace)[key]:
                yield f"application-autoscaling {key} {item[name]}"


def _all(client: Any, call: str, **given: Any) -> Any:
    """The whole answer, of all its pages."""
    if client.can_paginate(call):
        return client.get_paginator(call).paginate(**given).build_full_result()
    return getattr(client, call)(**given)


def _left_in_ec2(ec2: Any) -> Iterator[str]:
    for template in ec2.describe_launch_templates()["LaunchTemplates"]:
        yield f"ec2 LaunchTemplates {template['LaunchTemplateName']}"
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] not in _IS_GONE:
                yield f"ec2 Instances {instance['InstanceId']}"
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        if not vpc["IsDefault"]:
            yield f"ec2 Vpcs {vpc['VpcId']}"
    for group in ec2.describe_security_groups()["SecurityGroups"]:
        if group["GroupName"] != "default":
            yield f"ec2 SecurityGroups {group['GroupName']}"
    for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]:
        if endpoint["State"] not in _IS_GONE:
            yield f"ec2 VpcEndpoints {endpoint['VpcEndpointId']}"
    for gateway in ec2.describe_nat_gateways()["NatGateways"]:
        if gateway["State"] not in _IS_GONE:
            yield f"ec2 NatGateways {gateway['NatGatewayId']}"
    for gateway in ec2.describe_internet_gateways()["InternetGateways"]:
        yield f"ec2 InternetGateways {gateway['InternetGatewayId']}"
    for subnet in ec2.describe_subnets()["Subnets"]:
        if not subnet["DefaultForAz"]:
            yield f"ec2 Subnets {subnet['SubnetId']}"
    for address in ec2.describe_addresses()["Addresses"]:
        yield f"ec2 Addresses {address['AllocationId']}"
