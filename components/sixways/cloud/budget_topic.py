"""The topic that AWS Budgets writes to: encrypted with a key that Budgets may use, TLS only.

The policy of `alias/aws/sns` cannot be changed, so a topic encrypted with it gets no message
(AWS: "Creating an Amazon SNS topic for budget notifications").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.cloud import alarm_topic

_BUDGETS = {"Service": "budgets.amazonaws.com"}


def create_topic(
    name: str, tags: pulumi.Input[Mapping[str, pulumi.Input[str]]], parent: pulumi.Resource
) -> pulumi.Output[str]:
    """A topic with its own key and policy.

    Args:
        name: the topic's resource name; the key's and policy's begin with it.
        tags: tags of what can have them.
        parent: the component.

    Returns:
        The topic's ARN, known once Budgets may publish to it.
    """
    invoke = pulumi.InvokeOptions(parent=parent)
    account = aws.get_caller_identity_output(opts=invoke).account_id
    partition = aws.get_partition_output(opts=invoke).partition
    opts = pulumi.ResourceOptions(parent=parent)
    key = aws.kms.Key(
        f"{name}-key",
        description="Messages of AWS Budgets",
        enable_key_rotation=True,
        deletion_window_in_days=7,
        policy=pulumi.Output.json_dumps(
            pulumi.Output.all(account, partition).apply(lambda known: key_policy(*known))
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
                lambda known: topic_policy(*known)
            )
        ),
        opts=opts,
    )
    return policy.arn


def key_policy(account: str, partition: str) -> dict[str, Any]:
    """The key's policy. A key policy speaks of its own key alone, which it calls `*`."""
    administer, _ = alarm_topic.key_policy(account, partition)["Statement"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            administer,
            {
                "Sid": "EncryptBudgets",
                "Effect": "Allow",
                "Principal": _BUDGETS,
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": _only_ours(account, partition),
            },
        ],
    }


def topic_policy(topic_arn: str, account: str, partition: str) -> dict[str, Any]:
    """The topic's policy: budgets of this account may publish, and nobody without TLS."""
    _, refuse = alarm_topic.topic_policy(topic_arn, account)["Statement"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "PublishBudgets",
                "Effect": "Allow",
                "Principal": _BUDGETS,
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": _only_ours(account, partition),
            },
            refuse,
        ],
    }


def _only_ours(account: str, partition: str) -> dict[str, Any]:
    return {
        "StringEquals": {"aws:SourceAccount": account},
        "ArnLike": {"aws:SourceArn": f"arn:{partition}:budgets::{account}:*"},
    }
