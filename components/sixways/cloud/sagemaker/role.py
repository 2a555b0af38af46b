"""The role the endpoint runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker.policies import Needs, execution_policy, trust_policy
from sixways.cloud.surroundings import Surroundings


def create_role(
    name: str,
    around: Surroundings,
    needs: Mapping[str, pulumi.Input[str] | Sequence[pulumi.Input[str]]],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
    """Makes the role and its policy; what uses the role waits for both.

    Args:
        name: the component's name.
        around: where it is.
        needs: the fields of `Needs`, but for where it is.
        tags: the role's tags.
        opts: the usual resource options.
    """
    role = aws.iam.Role(
        f"{name}-role",
        description="Runs a SageMaker endpoint",
        assume_role_policy=around.account.apply(trust_policy),
        tags=dict(tags),
        opts=opts,
    )
    known: pulumi.Output[dict[str, Any]] = pulumi.Output.all(
        partition=around.partition, region=around.region, account=around.account, **needs
    )
    policy = aws.iam.RolePolicy(
        f"{name}-policy",
        role=role.name,
        policy=known.apply(lambda values: execution_policy(Needs(**values))),
        # A changed policy is a second one: while an update moves the traffic, old instances may
        # still have to fetch the old bundle. The old policy goes when the update is done.
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(replace_on_changes=["policy"])
        ),
    )
    return role, policy
