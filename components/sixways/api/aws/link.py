"""The way into a VPC: a VPC link, and a load balancer that stands in two zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.checks import InputsRefused
from sixways_bundle import Problem


def create_link(
    name: str,
    link: Mapping[str, Any],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.apigatewayv2.VpcLink:
    """The link. AWS needs some minutes to make one, and it cannot be changed but for its name."""
    return aws.apigatewayv2.VpcLink(
        f"{name}-link",
        subnet_ids=link["subnet_ids"],
        security_group_ids=link["security_group_ids"],
        tags=dict(tags),
        opts=opts,
    )


def in_two_zones(
    what: str, arn: pulumi.Input[str], parent: pulumi.Resource, dev: bool
) -> pulumi.Output[str]:
    """The load balancer's ARN, once AWS has said that it stands in two zones.

    Raises:
        InputsRefused: in the update or preview: it stands in one, and `dev` is not set.
    """
    if dev:
        return pulumi.Output.from_input(arn)
    found = aws.lb.get_load_balancer_output(arn=arn, opts=pulumi.InvokeOutputOptions(parent=parent))
    return pulumi.Output.all(arn, found.subnet_mappings).apply(
        lambda known: _checked(what, known[0], known[1])
    )


def _checked(what: str, arn: str, mappings: Sequence[Any]) -> str:
    # One subnet is one zone, and a load balancer takes one subnet of a zone.
    if len(mappings) < 2:
        raise InputsRefused(
            what,
            [
                Problem(
                    "private_link.load_balancer_arn",
                    arn,
                    "a load balancer in at least 2 zones",
                    "give it a subnet in another zone, or dev: true",
                )
            ],
        )
    return arn
