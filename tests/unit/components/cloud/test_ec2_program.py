"""What an `Ec2Endpoint` registers, for what a whole life against AWS would be too long."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

_HEX = 64 * "a"
_ARGS: dict[str, Any] = {
    "models": [
        {
            "name": "minilm",
            "bundle_uri": f"s3://models/bundles/minilm/{_HEX}/",
            "bundle_digest": f"sha256:{_HEX}",
        }
    ],
    "instance_type": "c7g.large",
    "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
    "allowed_cidrs": ["203.0.113.0/24"],
    "api_key": "a-key-of-sixteen",
}
_VPC = {"vpc_id": "vpc-1", "private_subnet_ids": ["a", "b"], "public_subnet_ids": ["c", "d"]}


class _Mocks(pulumi.runtime.Mocks):
    """Every resource has an ARN and a version; what is registered is kept."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, dict[str, Any]]] = []
        self.asked: list[dict[str, Any]] = []
        self.waits: dict[tuple[str, str], set[str]] = {}
        self.kept: dict[tuple[str, str], list[str]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made.append((args.typ, args.name, dict(args.inputs)))
        computed = {
            "arn": f"arn:aws:x:eu-west-1:123456789012:thing/{args.name}",
            "arnSuffix": args.name,
            "dnsName": "lb.example.net",
            "latestVersion": 7,
            "version": 3,
            "name": args.name,
        }
        return f"{args.name}-id", {**computed, **args.inputs}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        self.asked.append({"token": args.token, **args.args})
        zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
        return {"names": zones, "insecureValue": "ami-1", "dnsSuffix": "amazonaws.com.cn"}, []

    def kinds(self) -> set[str]:
        return {kind for kind, _, _ in self.made}

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = [inputs for made, _, inputs in self.made if made == kind]
        return found


class _Monitor(pulumi.runtime.mocks.MockMonitor):
    """Also keeps what each resource waits for, and what changes it does not mind."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        mocks: Any = self.mocks
        mocks.waits[request.type, request.name] = {
            urn.rpartition("::")[2] for urn in request.dependencies
        }
        mocks.kept[request.type, request.name] = list(request.ignoreChanges)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


Run = Callable[..., tuple[_Mocks, dict[str, Any]]]


@pytest.fixture
def run() -> Run:
    """Runs a program with one endpoint; returns what it registered, and its outputs."""

    def program(**changes: Any) -> tuple[_Mocks, dict[str, Any]]:
        mocks = _Mocks()
        outputs: dict[str, Any] = {}
        pulumi.runtime.set_mocks(
            mocks, project="shop", stack="test", preview=False, monitor=_Monitor(mocks)
        )

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def registered() -> pulumi.Output[Any]:
            from sixways.cloud.ec2.endpoint import Ec2Endpoint

            endpoint = Ec2Endpoint("search", {**_ARGS, **changes})  # type: ignore[typeddict-item]
            return pulumi.Output.all(url=endpoint.url, key=endpoint.api_key).apply(outputs.update)

        registered()
        return mocks, outputs

    return program


def test_a_network_that_is_given_is_used_and_none_is_made(run: Run) -> None:
    mocks, _ = run(**_VPC)
    assert not mocks.kinds() & {"aws:ec2/vpc:Vpc", "aws:ec2/natGateway:NatGateway"}
    assert mocks.one("aws:lb/loadBalancer:LoadBalancer")["subnets"] == ["c", "d"]
    assert mocks.one("aws:autoscaling/group:Group")["vpcZoneIdentifiers"] == ["a", "b"]


def test_an_internal_endpoint_is_in_private_subnets(run: Run) -> None:
    mocks, _ = run(internal=True, **{k: v for k, v in _VPC.items() if k != "public_subnet_ids"})
    balancer = mocks.one("aws:lb/loadBalancer:LoadBalancer")
    assert balancer["internal"] is True
    assert balancer["subnets"] == ["a", "b"]


def test_a_gateway_stands_in_each_zone_unless_it_is_for_trying_out(run: Run) -> None:
    gateway = "aws:ec2/natGateway:NatGateway"
    assert len([kind for kind, _, _ in run()[0].made if kind == gateway]) == 2
    mocks, _ = run(dev=True)
    assert len([kind for kind, _, _ in mocks.made if kind == gateway]) == 1
    assert mocks.one("aws:autoscaling/group:Group")["minSize"] == 1


def test_nothing_starts_before_there_is_a_way_to_the_internet(run: Run) -> None:
    mocks, _ = run()
    balancer = mocks.waits["aws:lb/loadBalancer:LoadBalancer", "search-lb"]
    assert {"search-public-0", "search-public-1"} <= balancer
    group = mocks.waits["aws:autoscaling/group:Group", "search-group"]
    assert {"search-private-0", "search-private-1", "search-public-0"} <= group


def test_a_zone_that_has_trouble_moves_no_subnet(run: Run) -> None:
    subnet = "aws:ec2/subnet:Subnet", "search-private-0"
    assert run()[0].kept[subnet] == ["availabilityZone"]
    # Zones that are given are meant.
    assert run(availability_zones=["eu-west-1b", "eu-west-1c"])[0].kept[subnet] == []


def test_the_role_is_of_the_machines_of_its_partition(run: Run) -> None:
    mocks, _ = run(**_VPC)
    trust = json.loads(mocks.one("aws:iam/role:Role")["assumeRolePolicy"])
    assert trust["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com.cn"}


def test_numbers_may_be_known_only_later(run: Run) -> None:
    later = pulumi.Output.from_input
    mocks, _ = run(min_size=later(3), request_seconds=later(60.5), api_key=None, **_VPC)
    group = mocks.one("aws:autoscaling/group:Group")
    assert (group["minSize"], group["maxSize"]) == (3, 6)
    assert mocks.one("aws:lb/loadBalancer:LoadBalancer")["idleTimeout"] == 71
    assert mocks.one("aws:lb/targetGroup:TargetGroup")["deregistrationDelay"] == 61
    assert "sixways:index:ApiKey" in mocks.kinds()


def test_the_image_follows_the_architecture(run: Run) -> None:
    asked = [call["name"] for call in run(**_VPC)[0].asked if "name" in call]
    assert asked == ["/aws/service/debian/release/12/latest/arm64"]


def test_a_previous_key_is_accepted_too_and_no_key_reaches_the_machine(run: Run) -> None:
    mocks, outputs = run(previous_api_key="the-key-of-yesterday", **_VPC)
    # A secret travels with a mark around it.
    keys = json.loads(mocks.one("aws:ssm/parameter:Parameter")["value"]["value"])["keys"]
    assert {key["name"]: key["sha256"] for key in keys} == {
        name: hashlib.sha256(key.encode()).hexdigest()
        for name, key in (("default", _ARGS["api_key"]), ("previous", "the-key-of-yesterday"))
    }
    script = mocks.one("aws:ec2/launchTemplate:LaunchTemplate")["userData"]
    text = base64.b64decode(script).decode()
    assert "search-keys:3" in text
    assert "the-key-of-yesterday" not in text
    assert outputs["key"] == _ARGS["api_key"]


def test_a_domain_is_the_address_and_is_made_in_its_zone(run: Run) -> None:
    mocks, outputs = run(domain="api.example.com", hosted_zone_id="Z1", **_VPC)
    assert outputs["url"] == "https://api.example.com"
    (alias,) = mocks.one("aws:route53/record:Record")["aliases"]
    assert alias["name"] == "lb.example.net"


def test_alarms_end_a_replacement_of_the_machines(run: Run) -> None:
    mocks, _ = run(rollback_alarms=["slow"], **_VPC)
    refresh = mocks.one("aws:autoscaling/group:Group")["instanceRefresh"]["preferences"]
    assert refresh["alarmSpecification"] == {"alarms": ["slow"]}
    assert refresh["autoRollback"] is True


def test_everything_has_the_tags(run: Run) -> None:
    mocks, _ = run(tags={"team": "search"})
    without = {
        kind
        for kind, _, inputs in mocks.made
        if kind.startswith("aws:") and "search" not in json.dumps(inputs.get("tags", {}))
    }
    # None of these can have any.
    assert without == {
        "aws:autoscaling/policy:Policy",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:iam/rolePolicy:RolePolicy",
    }
