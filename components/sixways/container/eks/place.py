"""How a cluster's resources are made, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from sixways.cloud.surroundings import Surroundings


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


class Place(Surroundings):
    """Account, region and partition of the AWS provider in use, and what AWS itself has there."""

    def managed_policy(self, name: str) -> pulumi.Output[str]:
        """ARN of a policy of AWS's own."""
        return pulumi.Output.concat("arn:", self.partition, ":iam::aws:policy/", name)

    def access_policy(self, name: pulumi.Input[str]) -> pulumi.Output[str]:
        """ARN of an access policy of EKS."""
        return pulumi.Output.concat(
            "arn:", self.partition, ":eks::aws:cluster-access-policy/", name
        )
