"""A network over several zones: public subnets for load balancers, private ones for machines."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

CIDR = "10.64.0.0/16"


@dataclass(frozen=True)
class Network:
    """Where things stand; lists have one entry a zone."""

    vpc_id: pulumi.Input[str]
    public_subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    private_subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    public_ready: Sequence[pulumi.Resource] = ()
    """What must be there before something in the public subnets is reached."""
    private_ready: Sequence[pulumi.Resource] = ()
    """What must be there before something in the private subnets reaches the internet."""


def subnets(cidr: str, zones: int) -> tuple[list[str], list[str]]:
    """The public and the private subnets of a network: a sixteenth of it each.

    Args:
        cidr: the network, at least a /24 (AWS: no subnet under a /28).
        zones: up to 8.
    """
    parts = [str(part) for part in ipaddress.ip_network(cidr).subnets(prefixlen_diff=4)]
    return parts[:zones], parts[8 : 8 + zones]


def create_network(
    name: str,
    zones: Sequence[pulumi.Input[str]],
    *,
    parent: pulumi.Resource,
    tags: pulumi.Input[dict[str, pulumi.Input[str]]],
    cidr: str = CIDR,
    one_gateway: bool = False,
    public_tags: Mapping[str, str] | None = None,
    private_tags: Mapping[str, str] | None = None,
    keep_zones: bool = False,
) -> Network:
    """Makes a VPC. Private subnets reach the internet through a NAT gateway of their own zone, and
    S3 through a gateway endpoint, which costs nothing.

    Args:
        name: begins the names of all that is made.
        zones: availability zones, up to 8.
        parent: the component.
        tags: of everything.
        cidr: of the VPC.
        one_gateway: one NAT gateway for all zones: cheaper, and a single point of failure.
        public_tags, private_tags: further tags of the public and of the private subnets.
        keep_zones: whether subnets stay in their zones when other zones are given, since AWS said
            which there are: it leaves one out while it has trouble.
    """
    opts = pulumi.ResourceOptions(parent=parent)
    vpc = aws.ec2.Vpc(
        f"{name}-vpc",
        cidr_block=cidr,
        enable_dns_hostnames=True,
        enable_dns_support=True,
        tags=tags,
        opts=opts,
    )
    gateway = aws.ec2.InternetGateway(f"{name}-internet", vpc_id=vpc.id, tags=tags, opts=opts)
    outward = aws.ec2.RouteTable(
        f"{name}-public",
        vpc_id=vpc.id,
        routes=[{"cidr_block": "0.0.0.0/0", "gateway_id": gateway.id}],
        tags=tags,
        opts=opts,
    )
    in_zone = pulumi.ResourceOptions(
        parent=parent, ignore_changes=["availabilityZone"] if keep_zones else None
    )
    public, private, tables = [], [], []
    public_ready: list[pulumi.Resource] = []
    private_ready: list[pulumi.Resource] = []
    nat: aws.ec2.NatGateway | None = None
    for index, (zone, open_cidr, closed_cidr) in enumerate(
        zip(zones, *subnets(cidr, len(zones)), strict=True)
    ):
        front = aws.ec2.Subnet(
            f"{name}-public-{index}",
            vpc_id=vpc.id,
            cidr_block=open_cidr,
            availability_zone=zone,
            tags=_more(tags, public_tags),
            opts=in_zone,
        )
        back = aws.ec2.Subnet(
            f"{name}-private-{index}",
            vpc_id=vpc.id,
            cidr_block=closed_cidr,
            availability_zone=zone,
            tags=_more(tags, private_tags),
            opts=in_zone,
        )
        public_ready.append(
            aws.ec2.RouteTableAssociation(
                f"{name}-public-{index}", subnet_id=front.id, route_table_id=outward.id, opts=opts
            )
        )
        if nat is None or not one_gateway:
            address = aws.ec2.Eip(f"{name}-nat-{index}", domain="vpc", tags=tags, opts=opts)
            nat = aws.ec2.NatGateway(
                f"{name}-nat-{index}",
                allocation_id=address.id,
                subnet_id=front.id,
                tags=tags,
                # Without the way out the gateway fails.
                opts=pulumi.ResourceOptions(parent=parent, depends_on=[gateway]),
            )
        table = aws.ec2.RouteTable(
            f"{name}-private-{index}",
            vpc_id=vpc.id,
            routes=[{"cidr_block": "0.0.0.0/0", "nat_gateway_id": nat.id}],
            tags=tags,
            opts=opts,
        )
        private_ready.append(
            aws.ec2.RouteTableAssociation(
                f"{name}-private-{index}", subnet_id=back.id, route_table_id=table.id, opts=opts
            )
        )
        public.append(front.id)
        private.append(back.id)
        tables.append(table.id)
    region = vpc.arn.apply(lambda arn: arn.split(":")[3])
    aws.ec2.VpcEndpoint(
        f"{name}-s3",
        vpc_id=vpc.id,
        service_name=region.apply(lambda name: f"com.amazonaws.{name}.s3"),
        vpc_endpoint_type="Gateway",
        route_table_ids=tables,
        tags=tags,
        opts=opts,
    )
    return Network(vpc.id, public, private, public_ready, [*public_ready, *private_ready])


def _more(
    tags: pulumi.Input[dict[str, pulumi.Input[str]]], more: Mapping[str, str] | None
) -> pulumi.Input[dict[str, pulumi.Input[str]]]:
    if not more:
        return tags
    return pulumi.Output.from_input(tags).apply(lambda known: {**known, **more})
