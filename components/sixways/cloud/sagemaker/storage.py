"""Where data rests: the instances' volumes, the key they are encrypted with, and the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker.policies import key_policy
from sixways.cloud.surroundings import Surroundings

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
    log_groups: Sequence[str],
    around: Surroundings,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.kms.Key:
    """The endpoint's own key, rotated each year; the logs of this endpoint may use it too."""
    return aws.kms.Key(
        f"{name}-key",
        description=f"SageMaker endpoint {endpoint_name}: volumes, captured data, answers, log",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=key_policy(around, log_groups),
        tags=dict(tags),
        opts=opts,
    )


def create_log_groups(
    groups: Mapping[str, str],
    days: pulumi.Input[int],
    key_arn: pulumi.Input[str] | None,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> list[aws.cloudwatch.LogGroup]:
    """The logs, made before SageMaker makes some that are kept for ever.

    Args:
        groups: the names of the resources, and those of the groups.
        days: how long they are kept.
        key_arn: what they are encrypted with; None: by CloudWatch.
        tags: tags of each.
        opts: the usual resource options.
    """
    return [
        aws.cloudwatch.LogGroup(
            name,
            name=group,
            retention_in_days=days,
            kms_key_id=key_arn,
            tags=dict(tags),
            opts=opts,
        )
        for name, group in groups.items()
    ]
