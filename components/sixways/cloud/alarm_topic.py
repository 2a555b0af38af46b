"""The topic that alarms write to: encrypted with a key that CloudWatch may use, TLS only.

A topic encrypted with `alias/aws/sns` gets no message of an alarm, since the policy of that key
cannot be changed (AWS: "Enable compatibility between event sources from AWS services and encrypted
topics", and re:Post "Why didn't I receive an SNS notification for my CloudWatch alarm trigger").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

# What the account's own administrators need; each by name, so that none comes with a wildcard.
_ADMINISTER = [
    "kms:CancelKeyDeletion",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GenerateDataKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateKeyDescription",
]
_CLOUDWATCH = {"Service": "cloudwatch.amazonaws.com"}


def create_topic(
    name: str, tags: Mapping[str, pulumi.Input[str]], parent: pulumi.Resource
) -> aws.sns.Topic:
    """A topic with its own key and policy.

    Args:
        name: the topic's resource name; the key's and policy's begin with it.
        tags: tags of what can have them.
        parent: the component.
    """
    invoke = pulumi.InvokeOptions(parent=parent)
    account = aws.get_caller_identity_output(opts=invoke).account_id
    partition = aws.get_partition_output(opts=invoke).partition
    key = aws.kms.Key(
        f"{name}-key",
        description="Messages of CloudWatch's alarms",
        enable_key_rotation=True,
        deletion_window_in_days=7,
        policy=pulumi.Output.json_dumps(pulumi.Output.all(account, partition).apply(_unpack_key)),
        tags=dict(tags),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    topic = aws.sns.Topic(
        name,
        kms_master_key_id=key.arn,
        tags=dict(tags),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    aws.sns.TopicPolicy(
        f"{name}-policy",
        arn=topic.arn,
        policy=pulumi.Output.json_dumps(pulumi.Output.all(topic.arn, account).apply(_unpack_topic)),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    return topic


def key_policy(account: str, partition: str) -> dict[str, Any]:
    """The key's policy. A key policy speaks of its own key alone, which it calls `*`."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Administer",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
                "Action": _ADMINISTER,
                "Resource": "*",
            },
            {
                "Sid": "EncryptAlarms",
                "Effect": "Allow",
                "Principal": _CLOUDWATCH,
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": account}},
            },
        ],
    }


def topic_policy(topic_arn: str, account: str) -> dict[str, Any]:
    """The topic's policy: alarms of this account may publish, and nobody without TLS."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "PublishAlarms",
                "Effect": "Allow",
                "Principal": _CLOUDWATCH,
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": {"StringEquals": {"aws:SourceAccount": account}},
            },
            {
                "Sid": "RefuseWithoutTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }


def _unpack_key(values: list[str]) -> dict[str, Any]:
    return key_policy(*values)


def _unpack_topic(values: list[str]) -> dict[str, Any]:
    return topic_policy(*values)
