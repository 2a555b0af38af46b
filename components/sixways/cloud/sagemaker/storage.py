"""Where data rests: the instances' volumes, the key they are encrypted with, and the log."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker.policies import key_policy
from sixways.cloud.sagemaker.surroundings import Surroundings

_FAMILIES = ("g5", "g6", "g7", "p5", "p6", "trn1", "trn2", "dl1")


def has_own_storage(instance_type: str) -> bool:
    """Whether an instance type has NVMe storage, which its own hardware encrypts.

    SageMaker attaches no volume then: a volume's size is refused, and a key has no effect (API
    `CreateEndpointConfig`, `KmsKeyId`). Which types these are AWS's API does not tell; the rule is
    that of AWS's own SDK for SageMaker (`volume_size_supported`): a `d` in the family's name, or
    one of the families for accelerators that came with NVMe.
    """
    family = instance_type.removeprefix("ml.").partition(".")[0]
    return "d" in family or family.startswith(_FAMILIES)


def create_key(
    name: str,
    endpoint_name: str,
    around: Surroundings,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.kms.Key:
    """The endpoint's own key, rotated each year; the log of this endpoint may use it too."""
    return aws.kms.Key(
        f"{name}-key",
        description=f"SageMaker endpoint {endpoint_name}: volumes, captured data, answers, log",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=key_policy(around, endpoint_name),
        tags=dict(tags),
        opts=opts,
    )


def log_group_name(endpoint_name: str) -> str:
    """Where SageMaker writes what the containers of an endpoint print."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"


def create_log_group(
    name: str,
    endpoint_name: str,
    days: pulumi.Input[int],
    key_arn: pulumi.Input[str] | None,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.cloudwatch.LogGroup:
    """The log, made before SageMaker makes one that is kept for ever."""
    return aws.cloudwatch.LogGroup(
        f"{name}-log",
        name=log_group_name(endpoint_name),
        retention_in_days=days,
        kms_key_id=key_arn,
        tags=dict(tags),
        opts=opts,
    )
