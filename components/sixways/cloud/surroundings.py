"""Where a component is: the account, region and partition of the AWS provider in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True)
class Surroundings:
    """What ARNs and addresses are made of.

    Attributes:
        account: the account's twelve digits.
        partition: `aws`, `aws-cn`, `aws-us-gov`.
        region: `eu-west-1`.
        domain: the end of AWS's host names: `amazonaws.com`, in China `amazonaws.com.cn`.
    """

    account: pulumi.Output[str]
    partition: pulumi.Output[str]
    region: pulumi.Output[str]
    domain: pulumi.Output[str]

    @classmethod
    def of(cls, parent: pulumi.Resource) -> Self:
        """Asks the provider that `parent` hands on to its children."""
        opts = pulumi.InvokeOutputOptions(parent=parent)
        partition = aws.get_partition_output(opts=opts)
        return cls(
            aws.get_caller_identity_output(opts=opts).account_id,
            partition.partition,
            aws.get_region_output(opts=opts).region,
            partition.dns_suffix,
        )
