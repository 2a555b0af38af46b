"""What a machine may do: be reached through SSM, read its bundles and its keys, write its logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://BUCKET/PREFIX/`; the prefix without slashes at its ends."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def trust_policy(domain: str) -> str:
    """EC2 alone may take the role.

    Args:
        domain: the partition's, `amazonaws.com`; in China EC2 has its own name as a principal.
    """
    return _document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": f"ec2.{domain}"},
                "Action": "sts:AssumeRole",
            }
        ]
    )


def machine_policy(
    *,
    folders: Sequence[str],
    parameter_arn: str,
    log_group_arn: str,
    kms_key_arns: Sequence[str],
) -> str:
    """The rights of a machine.

    AWS's own AmazonSSMManagedInstanceCore is not used: it lets a machine read every parameter of
    the account (`ssm:GetParameter` on `*`). What Session Manager needs has no resource to name;
    AWS's "minimal Session Manager permissions" are the same five actions on `*`.

    Args:
        folders: `s3://` addresses that may be read, with all that lies below.
        parameter_arn: the parameter with the keys' hashes.
        log_group_arn: where logs go.
        kms_key_arns: keys that what is read is encrypted with.
    """
    _, partition, _, region, *_ = parameter_arn.split(":")
    places = sorted({split_uri(folder) for folder in folders})
    statements: list[dict[str, Any]] = [
        {
            "Sid": "SessionManager",
            "Effect": "Allow",
            "Action": [
                "ssm:UpdateInstanceInformation",
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            "Resource": "*",
        },
        {
            "Sid": "KeyHashes",
            "Effect": "Allow",
            "Action": "ssm:GetParameter",
            "Resource": parameter_arn,
        },
        {
            "Sid": "Logs",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            "Resource": f"{log_group_arn.removesuffix(':*')}:*",
        },
        {
            # A metric has no ARN; the condition leaves the one namespace.
            "Sid": "Memory",
            "Effect": "Allow",
            "Action": "cloudwatch:PutMetricData",
            "Resource": "*",
            "Condition": {"StringEquals": {"cloudwatch:namespace": "Sixways"}},
        },
        {
            # The agent finds the group's name, a dimension of its metrics, in the machine's tags;
            # it sends none before. Tags have no ARN.
            "Sid": "GroupName",
            "Effect": "Allow",
            "Action": "ec2:DescribeTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:Region": region}},
        },
        {
            "Sid": "ReadBundles",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": [f"arn:{partition}:s3:::{bucket}/{prefix}/*" for bucket, prefix in places],
        },
    ]
    for index, bucket in enumerate(sorted({bucket for bucket, _ in places})):
        prefixes = [prefix for owner, prefix in places if owner == bucket]
        statements.append(
            {
                "Sid": f"ListBundles{index}",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:{partition}:s3:::{bucket}",
                "Condition": {"StringLike": {"s3:prefix": [f"{p}/*" for p in prefixes]}},
            }
        )
    if kms_key_arns:
        statements.append(
            {
                "Sid": "Decrypt",
                "Effect": "Allow",
                "Action": "kms:Decrypt",
                "Resource": sorted(set(kms_key_arns)),
            }
        )
    return _document(statements)


def _document(statements: Sequence[dict[str, Any]]) -> str:
    return msgspec.json.encode({"Version": "2012-10-17", "Statement": statements}).decode()
