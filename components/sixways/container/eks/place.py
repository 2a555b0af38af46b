"""How a cluster's resources are made, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True)
class Made:
    """What all resources of one cluster have in common.

    Attributes:
        name: the component's name; those of its resources begin with it.
        parent: the component.
        tags: tags of everything.
    """

    name: str
    parent: pulumi.Resource
    tags: dict[str, pulumi.Input[str]]

    def opts(self, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Options of a child that waits for others."""
        return pulumi.ResourceOptions(parent=self.parent, depends_on=list(after))


@dataclass(frozen=True)
class Place:
    """Account, region and partition of the AWS provider in use.

    Attributes:
        account: the account's twelve digits.
        partition: `aws`, `aws-cn`, `aws-us-gov`.
        region: `eu-west-1`.
        domain: the end of AWS's host names.
    """

    account: pulumi.Output[str]
    partition: pulumi.Output[str]
    region: pulumi.Output[str]
    domain: pulumi.Output[str]

    @classmethod
    def of(cls, parent: pulumi.Resource) -> Place:
        """Asks the provider that `parent` hands on to its children."""
        opts = pulumi.InvokeOutputOptions(parent=parent)
        partition = aws.get_partition_output(opts=opts)
        return cls(
            aws.get_caller_identity_output(opts=opts).account_id,
            partition.partition,
            aws.get_region_output(opts=opts).region,
            partition.dns_suffix,
        )

    def managed_policy(self, name: str) -> pulumi.Output[str]:
        """ARN of a policy of AWS's own."""
        return pulumi.Output.concat("arn:", self.partition, ":iam::aws:policy/", name)

    def access_policy(self, name: pulumi.Input[str]) -> pulumi.Output[str]:
        """ARN of an access policy of EKS."""
        return pulumi.Output.concat(
            "arn:", self.partition, ":eks::aws:cluster-access-policy/", name
        )
