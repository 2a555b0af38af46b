"""Where the containers stand: in a VPC that is given, or in one made for the endpoint."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker import defaults
from sixways.cloud.sagemaker.args import SageMakerEndpointArgs
from sixways.cloud.surroundings import Surroundings

_ZONES = 2
_HTTPS = 443
_S3_ACTIONS = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject")


@dataclass(frozen=True)
class Network:
    """Where the containers' network interfaces are.

    Attributes:
        subnets: subnets in at least two zones.
        security_groups: what they may reach.
        ready: what must be there before a container fetches its model.
    """

    subnets: Sequence[pulumi.Input[str]]
    security_groups: Sequence[pulumi.Input[str]]
    ready: Sequence[pulumi.Resource]

    @property
    def vpc_config(self) -> aws.sagemaker.ModelVpcConfigArgs:
        """As a model wants it."""
        return aws.sagemaker.ModelVpcConfigArgs(
            subnets=list(self.subnets), security_group_ids=list(self.security_groups)
        )


@dataclass(frozen=True)
class _Make:
    """What every resource here is made with."""

    name: str
    endpoint_name: str
    around: Surroundings
    tags: Mapping[str, pulumi.Input[str]]
    opts: pulumi.ResourceOptions

    def tagged(self, what: str) -> dict[str, pulumi.Input[str]]:
        return {"Name": f"{self.name}-{what}", **self.tags}


def create_network(
    name: str,
    endpoint_name: str,
    args: SageMakerEndpointArgs,
    around: Surroundings,
    opts: pulumi.ResourceOptions,
) -> Network | None:
    """The network of the inputs; None: the containers stand in none of the account's."""
    make = _Make(name, endpoint_name, around, args.get("tags", {}), opts)
    if args.get("create_vpc"):
        return _own_vpc(make, args)
    vpc_id = args.get("vpc_id")
    if vpc_id is None:
        return None
    groups = args.get("security_group_ids")
    if groups:
        return Network(args["subnet_ids"], groups, ())
    group, rule = _containers_group(make, vpc_id)
    return Network(args["subnet_ids"], [group.id], [rule])


def _containers_group(
    make: _Make, vpc_id: pulumi.Input[str]
) -> tuple[aws.ec2.SecurityGroup, pulumi.Resource]:
    """Lets nobody in: SageMaker's requests do not come through it. Lets out to S3."""
    group = aws.ec2.SecurityGroup(
        f"{make.name}-containers",
        vpc_id=vpc_id,
        description="Containers of a SageMaker endpoint: out to S3",
        tags=make.tagged("containers"),
        opts=make.opts,
    )
    # AWS keeps the list of S3's addresses; the gateway of a VPC routes the same list.
    s3 = aws.ec2.get_managed_prefix_list_output(
        name=make.around.region.apply(lambda region: f"com.amazonaws.{region}.s3"),
        opts=pulumi.InvokeOutputOptions(parent=make.opts.parent),
    )
    rule = aws.vpc.SecurityGroupEgressRule(
        f"{make.name}-containers-to-s3",
        security_group_id=group.id,
        description="S3: bundles, captured data, answers",
        ip_protocol="tcp",
        from_port=_HTTPS,
        to_port=_HTTPS,
        prefix_list_id=s3.id,
        tags=dict(make.tags),
        opts=make.opts,
    )
    return group, rule


def _own_vpc(make: _Make, args: SageMakerEndpointArgs) -> Network:
    name, opts = make.name, make.opts
    cidr = args.get("vpc_cidr", defaults.VPC_CIDR)
    vpc = aws.ec2.Vpc(
        f"{name}-vpc",
        cidr_block=cidr,
        enable_dns_support=True,
        enable_dns_hostnames=True,
        tags=make.tagged("vpc"),
        opts=opts,
    )
    # What stands in the default group and is not told otherwise reaches nothing.
    aws.ec2.DefaultSecurityGroup(
        f"{name}-default", vpc_id=vpc.id, tags=make.tagged("default"), opts=opts
    )
    routes = aws.ec2.RouteTable(
        f"{name}-routes", vpc_id=vpc.id, tags=make.tagged("routes"), opts=opts
    )
    zones = aws.get_availability_zones_output(
        state="available",
        filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
        opts=pulumi.InvokeOutputOptions(parent=opts.parent),
    )
    subnets = []
    associations = []
    blocks = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    for index in range(_ZONES):
        subnet = aws.ec2.Subnet(
            f"{name}-private-{index}",
            vpc_id=vpc.id,
            cidr_block=str(blocks[index]),
            availability_zone=zones.names[index],
            map_public_ip_on_launch=False,
            tags=make.tagged(f"private-{index}"),
            # AWS leaves out a zone while it has trouble: no reason to move the others.
            opts=pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(ignore_changes=["availabilityZone"])
            ),
        )
        subnets.append(subnet)
        associations.append(
            aws.ec2.RouteTableAssociation(
                f"{name}-private-{index}-routes",
                subnet_id=subnet.id,
                route_table_id=routes.id,
                opts=opts,
            )
        )
    gateway = aws.ec2.VpcEndpoint(
        f"{name}-s3",
        vpc_id=vpc.id,
        service_name=_service(make, "s3"),
        vpc_endpoint_type="Gateway",
        route_table_ids=[routes.id],
        policy=_s3_policy(make),
        tags=make.tagged("s3"),
        opts=opts,
    )
    group, to_s3 = _containers_group(make, vpc.id)
    rules = _interface_endpoints(make, args, vpc, subnets, group, cidr)
    ready = [gateway, to_s3, *associations, *rules]
    return Network([subnet.id for subnet in subnets], [group.id], ready)


def _interface_endpoints(
    make: _Make,
    args: SageMakerEndpointArgs,
    vpc: aws.ec2.Vpc,
    subnets: Sequence[aws.ec2.Subnet],
    containers: aws.ec2.SecurityGroup,
    cidr: str,
) -> list[pulumi.Resource]:
    services = defaults.interface_endpoints(args)
    if not services:
        return []
    group = aws.ec2.SecurityGroup(
        f"{make.name}-interfaces",
        vpc_id=vpc.id,
        description="Interface endpoints: in from the VPC",
        tags=make.tagged("interfaces"),
        opts=make.opts,
    )
    https: dict[str, Any] = {"ip_protocol": "tcp", "from_port": _HTTPS, "to_port": _HTTPS}
    made: list[pulumi.Resource] = [
        aws.vpc.SecurityGroupIngressRule(
            f"{make.name}-interfaces-from-vpc",
            security_group_id=group.id,
            description="Callers and containers in the VPC",
            cidr_ipv4=cidr,
            tags=dict(make.tags),
            opts=make.opts,
            **https,
        )
    ]
    if not defaults.isolation(args):
        made.append(
            aws.vpc.SecurityGroupEgressRule(
                f"{make.name}-containers-to-interfaces",
                security_group_id=containers.id,
                description="AWS services in the VPC",
                referenced_security_group_id=group.id,
                tags=dict(make.tags),
                opts=make.opts,
                **https,
            )
        )
    for service in services:
        slug = service.replace(".", "-")
        made.append(
            aws.ec2.VpcEndpoint(
                f"{make.name}-{slug}",
                vpc_id=vpc.id,
                service_name=_service(make, service),
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in subnets],
                security_group_ids=[group.id],
                policy=_invoke_only(make) if service == "sagemaker.runtime" else None,
                tags=make.tagged(slug),
                opts=make.opts,
            )
        )
    return made


def _service(make: _Make, service: str) -> pulumi.Output[str]:
    """In China most services' names begin otherwise; S3's gateway is called alike everywhere."""
    return pulumi.Output.all(make.around.region, make.around.partition).apply(
        lambda known: (
            ("cn." if known[1] == "aws-cn" and service != "s3" else "")
            + f"com.amazonaws.{known[0]}.{service}"
        )
    )


def _s3_policy(make: _Make) -> pulumi.Output[str]:
    """Through the gateway go this account's requests, and the layers of ECR's images."""

    def render(known: list[str]) -> str:
        partition, region, account = known
        everything: dict[str, Any] = {
            "Sid": "ThisAccount",
            "Effect": "Allow",
            "Principal": "*",
            "Action": list(_S3_ACTIONS),
            # Which buckets is the role's to say; who may is said here.
            "Resource": f"arn:{partition}:s3:::*",
            "Condition": {"StringEquals": {"aws:PrincipalAccount": account}},
        }
        layers = {
            "Sid": "ImageLayers",
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject"],
            "Resource": f"arn:{partition}:s3:::prod-{region}-starport-layer-bucket/*",
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [everything, layers]})

    around = make.around
    return pulumi.Output.all(around.partition, around.region, around.account).apply(render)


def _invoke_only(make: _Make) -> pulumi.Output[str]:
    """Who stands in the VPC can call this endpoint through the VPC, and no other."""

    def render(known: list[str]) -> str:
        partition, region, account = known
        statement = {
            "Sid": "ThisEndpoint",
            "Effect": "Allow",
            "Principal": "*",
            "Action": [
                "sagemaker:InvokeEndpoint",
                "sagemaker:InvokeEndpointAsync",
                "sagemaker:InvokeEndpointWithResponseStream",
            ],
            # SageMaker writes names in ARNs in small letters.
            "Resource": f"arn:{partition}:sagemaker:{region}:{account}:endpoint/"
            f"{make.endpoint_name.lower()}",
            "Condition": {"StringEquals": {"aws:PrincipalAccount": account}},
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    around = make.around
    return pulumi.Output.all(around.partition, around.region, around.account).apply(render)
