"""What stands in front of the machines: security groups, load balancer, target group, listeners."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from sixways.cloud.network import Network

HEALTH_PATH = "/readyz"
MOST_IDLE_SECONDS = 4000
"""Limit of a load balancer's `idle_timeout.timeout_seconds` (`LoadBalancerAttribute`)."""
MOST_DELAY_SECONDS = 3600
"""Limit of `deregistration_delay.timeout_seconds` (`TargetGroupAttribute`)."""


def idle_seconds(request_seconds: float) -> int:
    """How long a connection may be silent: a request that is computed and not streamed is."""
    return min(MOST_IDLE_SECONDS, math.ceil(request_seconds) + 10)


@dataclass(frozen=True)
class Balancer:
    """The load balancer and what belongs to it."""

    load_balancer: aws.lb.LoadBalancer
    target_group: aws.lb.TargetGroup
    listener: aws.lb.Listener
    instance_group: aws.ec2.SecurityGroup


def create_balancer(
    name: str,
    network: Network,
    *,
    parent: pulumi.Resource,
    tags: pulumi.Input[dict[str, pulumi.Input[str]]],
    allowed_cidrs: Sequence[pulumi.Input[str]],
    certificate_arn: pulumi.Input[str],
    ssl_policy: pulumi.Input[str],
    internal: pulumi.Input[bool],
    in_public_subnets: bool,
    deletion_protection: pulumi.Input[bool],
    access_logs_bucket: pulumi.Input[str] | None,
    request_seconds: pulumi.Output[float],
    drain_seconds: float,
) -> Balancer:
    """Makes everything in front of the machines; see `Ec2EndpointArgs` for the words."""
    opts = pulumi.ResourceOptions(parent=parent)
    front, back = _groups(name, network, allowed_cidrs, tags, opts)
    load_balancer = aws.lb.LoadBalancer(
        f"{name}-lb",
        load_balancer_type="application",
        internal=internal,
        subnets=network.public_subnet_ids if in_public_subnets else network.private_subnet_ids,
        security_groups=[front.id],
        idle_timeout=request_seconds.apply(idle_seconds),
        drop_invalid_header_fields=True,
        desync_mitigation_mode="strictest",
        enable_deletion_protection=deletion_protection,
        access_logs={"bucket": access_logs_bucket, "enabled": True, "prefix": name}
        if access_logs_bucket
        else None,
        tags=tags,
        # AWS refuses one that faces the internet in a VPC that has no way there yet.
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(network.public_ready)),
    )
    target_group = aws.lb.TargetGroup(
        f"{name}-tg",
        vpc_id=network.vpc_id,
        target_type="instance",
        port=443,
        protocol="HTTPS",
        # Requests differ a hundredfold in length: the machine with the fewest gets the next.
        load_balancing_algorithm_type="least_outstanding_requests",
        deregistration_delay=request_seconds.apply(
            lambda longest: min(MOST_DELAY_SECONDS, math.ceil(max(longest, drain_seconds)))
        ),
        health_check={
            "path": HEALTH_PATH,
            "protocol": "HTTPS",
            "matcher": "200",
            "interval": 10,
            "timeout": 5,
            "healthy_threshold": 2,
            "unhealthy_threshold": 3,
        },
        tags=tags,
        opts=opts,
    )
    listener = aws.lb.Listener(
        f"{name}-https",
        load_balancer_arn=load_balancer.arn,
        port=443,
        protocol="HTTPS",
        certificate_arn=certificate_arn,
        ssl_policy=ssl_policy,
        default_actions=[{"type": "forward", "target_group_arn": target_group.arn}],
        tags=tags,
        opts=opts,
    )
    aws.lb.Listener(
        f"{name}-http",
        load_balancer_arn=load_balancer.arn,
        port=80,
        protocol="HTTP",
        default_actions=[
            {
                "type": "redirect",
                "redirect": {"port": "443", "protocol": "HTTPS", "status_code": "HTTP_301"},
            }
        ],
        tags=tags,
        opts=opts,
    )
    return Balancer(load_balancer, target_group, listener, back)


def _groups(
    name: str,
    network: Network,
    allowed_cidrs: Sequence[pulumi.Input[str]],
    tags: pulumi.Input[dict[str, pulumi.Input[str]]],
    opts: pulumi.ResourceOptions,
) -> tuple[aws.ec2.SecurityGroup, aws.ec2.SecurityGroup]:
    """Clients reach the load balancer, it alone reaches the machines, and they reach TLS ports."""
    front = aws.ec2.SecurityGroup(
        f"{name}-balancer",
        description="Sixways load balancer: HTTPS from the allowed networks",
        vpc_id=network.vpc_id,
        tags=tags,
        opts=opts,
    )
    back = aws.ec2.SecurityGroup(
        f"{name}-instance",
        description="Sixways machines: HTTPS from the load balancer",
        vpc_id=network.vpc_id,
        tags=tags,
        opts=opts,
    )
    for index, cidr in enumerate(allowed_cidrs):
        given = pulumi.Output.from_input(cidr)
        for port in (80, 443):
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-allowed-{index}-{port}",
                security_group_id=front.id,
                cidr_ipv4=given.apply(lambda value: None if ":" in value else value),
                cidr_ipv6=given.apply(lambda value: value if ":" in value else None),
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                tags=tags,
                opts=opts,
            )
    aws.vpc.SecurityGroupEgressRule(
        f"{name}-to-instance",
        security_group_id=front.id,
        referenced_security_group_id=back.id,
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        tags=tags,
        opts=opts,
    )
    aws.vpc.SecurityGroupIngressRule(
        f"{name}-from-balancer",
        security_group_id=back.id,
        referenced_security_group_id=front.id,
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        tags=tags,
        opts=opts,
    )
    aws.vpc.SecurityGroupEgressRule(
        f"{name}-out",
        security_group_id=back.id,
        cidr_ipv4="0.0.0.0/0",
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        tags=tags,
        opts=opts,
    )
    return front, back
