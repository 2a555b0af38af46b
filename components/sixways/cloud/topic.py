"""A topic that a service of AWS writes to: encrypted with a key that it may use, TLS only.

A topic encrypted with `alias/aws/sns` gets no message of an alarm or a budget, since the policy of
that key cannot be changed (AWS: "Enable compatibility between event sources from AWS services and
encrypted topics", "Creating an Amazon SNS topic for budget notifications").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Writer:
    """A service that writes to a topic.

    Attributes:
        service: its principal.
        messages: what it writes, in one word.
        sources: whose messages, as the rest of an ARN behind the partition; `{account}` is the
            account. None: the account alone is checked.
    """

    service: str
    messages: str
    sources: str | None = None

    def only_ours(self, account: str, partition: str) -> dict[str, Any]:
        """The condition that lets it write for this account alone."""
        condition: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": account}}
        if self.sources is not None:
            source = self.sources.format(account=account)
            condition["ArnLike"] = {"aws:SourceArn": f"arn:{partition}:{source}"}
        return condition


ALARMS = Writer("cloudwatch.amazonaws.com", "Alarms")
BUDGETS = Writer("budgets.amazonaws.com", "Budgets", "budgets::{account}:*")


def create_topic(
    name: str,
    writer: Writer,
    tags: pulumi.Input[Mapping[str, pulumi.Input[str]]],
    parent: pulumi.Resource,
) -> pulumi.Output[str]:
    """A topic with its own key and policy.

    Args:
        name: the topic's resource name; the key's and policy's begin with it.
        writer: who writes to it.
        tags: tags of what can have them.
        parent: the component.

    Returns:
        The topic's ARN, known once the writer may publish to it.
    """
    invoke = pulumi.InvokeOptions(parent=parent)
    account = aws.get_caller_identity_output(opts=invoke).account_id
    partition = aws.get_partition_output(opts=invoke).partition
    opts = pulumi.ResourceOptions(parent=parent)
    key = aws.kms.Key(
        f"{name}-key",
        description=f"Messages of {writer.service}",
        enable_key_rotation=True,
        deletion_window_in_days=7,
        policy=pulumi.Output.json_dumps(
            pulumi.Output.all(account, partition).apply(lambda known: key_policy(writer, *known))
        ),
        tags=tags,
        opts=opts,
    )
    topic = aws.sns.Topic(name, kms_master_key_id=key.arn, tags=tags, opts=opts)
    policy = aws.sns.TopicPolicy(
        f"{name}-policy",
        arn=topic.arn,
        policy=pulumi.Output.json_dumps(
            pulumi.Output.all(topic.arn, account, partition).apply(
                lambda known: topic_policy(writer, *known)
            )
        ),
        opts=opts,
    )
    return policy.arn


def key_policy(writer: Writer, account: str, partition: str) -> dict[str, Any]:
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
                "Sid": f"Encrypt{writer.messages}",
                "Effect": "Allow",
                "Principal": {"Service": writer.service},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": writer.only_ours(account, partition),
            },
        ],
    }


def topic_policy(writer: Writer, topic_arn: str, account: str, partition: str) -> dict[str, Any]:
    """The topic's policy: the writer may publish for this account, and nobody without TLS."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": f"Publish{writer.messages}",
                "Effect": "Allow",
                "Principal": {"Service": writer.service},
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": writer.only_ours(account, partition),
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
