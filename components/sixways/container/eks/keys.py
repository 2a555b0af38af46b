"""The key that secrets and logs are encrypted with, and the control plane's log."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from sixways.container.eks import policies
from sixways.container.eks.place import Made, Place


def log_group_name(cluster_name: str) -> str:
    """Where EKS writes the control plane's log."""
    return f"/aws/eks/{cluster_name}/cluster"


def create_key(made: Made, place: Place, cluster_name: str, *, dev: bool) -> aws.kms.Key:
    """The cluster's own key, rotated each year."""
    known = pulumi.Output.all(
        account=place.account, partition=place.partition, region=place.region, domain=place.domain
    )
    return aws.kms.Key(
        f"{made.name}-key",
        description=f"EKS cluster {cluster_name}: secrets and control plane log",
        enable_key_rotation=True,
        deletion_window_in_days=7 if dev else 30,
        policy=known.apply(lambda where: policies.key_policy(where, log_group_name(cluster_name))),
        tags=made.tags,
        opts=made.opts(),
    )


def create_log_group(
    made: Made, cluster_name: str, days: pulumi.Input[int], key_arn: pulumi.Input[str]
) -> aws.cloudwatch.LogGroup:
    """The log, made before EKS makes one that is kept for ever."""
    return aws.cloudwatch.LogGroup(
        f"{made.name}-log",
        name=log_group_name(cluster_name),
        retention_in_days=days,
        kms_key_id=key_arn,
        tags=made.tags,
        opts=made.opts(),
    )
