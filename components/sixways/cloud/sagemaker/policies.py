"""Every policy document of the endpoint, as plain functions of plain values.

No action is a wildcard. Where the resource is `*`, AWS knows none to name, and a condition narrows
it as far as AWS offers one. What SageMaker's role needs is AWS's list on the page "How to use
SageMaker AI execution roles" (CreateModel API), cut down to this endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from sixways.cloud.sagemaker.modes import ASYNC, SERVERLESS
from sixways.cloud.surroundings import Surroundings

_ADMINISTER = (
    "CancelKeyDeletion", "DescribeKey", "DisableKey", "DisableKeyRotation", "EnableKey",
    "EnableKeyRotation", "GetKeyPolicy", "GetKeyRotationStatus", "ListGrants", "ListKeyPolicies",
    "ListResourceTags", "ListRetirableGrants", "PutKeyPolicy", "RevokeGrant", "ScheduleKeyDeletion",
    "TagResource", "UntagResource", "UpdateKeyDescription",
)  # fmt: skip
_USE = (
    "CreateGrant", "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom", "ReEncryptTo",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the endpoint's role must be able to do.

    Attributes:
        partition, region, account: where it is.
        log_groups: the logs it writes.
        image_uri: the image it pulls from ECR.
        bundles: S3 addresses it reads models from.
        reads: S3 addresses it reads requests from.
        writes: S3 addresses it writes to.
        read_keys: KMS keys of what it reads.
        write_keys: KMS keys of what it writes.
        volume_keys: KMS keys of its volumes.
        topics: SNS topics it tells.
        alarms: names of the CloudWatch alarms that undo an update.
        subnets, security_groups: where its network interfaces are; empty without a VPC.
    """

    partition: str
    region: str
    account: str
    log_groups: Sequence[str]
    image_uri: str
    bundles: Sequence[str]
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    read_keys: Sequence[str] = ()
    write_keys: Sequence[str] = ()
    volume_keys: Sequence[str] = ()
    topics: Sequence[str] = ()
    alarms: Sequence[str] = ()
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()


def trust_policy(account: str) -> str:
    """SageMaker may take the role, and only for this account's sake."""
    return _document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
    )


def execution_policy(needs: Needs) -> str:
    """What the endpoint's role may do."""
    arn = f"arn:{needs.partition}"
    here = f"{needs.region}:{needs.account}"
    logs = [f"{arn}:logs:{here}:log-group:{group}" for group in needs.log_groups]
    statements = [
        *_read_s3("Bundles", arn, needs.bundles),
        _allow(
            "Image",
            ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            (repository_arn(needs.partition, needs.image_uri),),
        ),
        # A login to the registry is of no repository.
        _allow("ImageLogin", ("ecr:GetAuthorizationToken",), ("*",)),
        _allow(
            "Log",
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            [one for log in logs for one in (log, f"{log}:log-stream:*")],
        ),
        # Metrics have no ARN; the namespaces are those that SageMaker writes for endpoints.
        _allow("Metrics", ("cloudwatch:PutMetricData",), ("*",), {
            "StringEquals": {
                "cloudwatch:namespace": [
                    "/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents",
                    "AWS/SageMaker",
                ]
            }
        }),
    ]  # fmt: skip
    if needs.reads:
        statements += _read_s3("Requests", arn, needs.reads)
    if needs.writes:
        places = tuple(f"{arn}:s3:::{uri.removeprefix('s3://')}*" for uri in _once(needs.writes))
        statements.append(_allow("Answers", ("s3:AbortMultipartUpload", "s3:PutObject"), places))
    if needs.read_keys:
        statements.append(_allow("Decrypt", ("kms:Decrypt",), _once(needs.read_keys)))
    if needs.write_keys:
        actions = ("kms:Decrypt", "kms:GenerateDataKey")
        statements.append(_allow("Encrypt", actions, _once(needs.write_keys)))
    if needs.volume_keys:
        statements += [
            _allow("Volumes", ("kms:DescribeKey",), _once(needs.volume_keys)),
            # The grant is what lets the volume be attached; only an AWS service may ask for it.
            _allow("VolumeGrants", ("kms:CreateGrant",), _once(needs.volume_keys), {
                "Bool": {"kms:GrantIsForAWSResource": "true"}
            }),
        ]  # fmt: skip
    if needs.topics:
        statements.append(_allow("Tell", ("sns:Publish",), _once(needs.topics)))
    if needs.alarms:
        # SageMaker asks for their state with this role (AWS: "Auto-Rollback Configuration and
        # Monitoring"); without it an update is never undone.
        alarms = tuple(f"{arn}:cloudwatch:{here}:alarm:{alarm}" for alarm in _once(needs.alarms))
        statements.append(_allow("Alarms", ("cloudwatch:DescribeAlarms",), alarms))
    if needs.subnets:
        statements += _network(arn, here, needs)
    return _document(*statements)


def _network(arn: str, here: str, needs: Needs) -> list[dict[str, Any]]:
    subnets = [f"{arn}:ec2:{here}:subnet/{subnet}" for subnet in needs.subnets]
    groups = [f"{arn}:ec2:{here}:security-group/{group}" for group in needs.security_groups]
    interfaces = f"{arn}:ec2:{here}:network-interface/*"
    return [
        _allow("Interfaces", ("ec2:CreateNetworkInterface",), (*subnets, *groups, interfaces)),
        _allow(
            "OwnInterfaces",
            ("ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"),
            (interfaces,),
            {"ArnEquals": {"ec2:Subnet": subnets}},
        ),
        # These know no resource.
        _allow(
            "LookAtNetwork",
            (
                "ec2:DeleteNetworkInterfacePermission",
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ),
            ("*",),
            {"StringEquals": {"ec2:Region": needs.region}},
        ),
    ]


def repository_arn(partition: str, image_uri: str) -> str:
    """The ARN of an image's repository, from `ACCOUNT.dkr.ecr.REGION.DOMAIN/NAME@DIGEST`."""
    host, _, path = image_uri.partition("/")
    account, _, _, region, *_ = f"{host}....".split(".")
    return f"arn:{partition}:ecr:{region}:{account}:repository/{path.partition('@')[0]}"


def invoke_policy(
    endpoint_arn: str,
    *,
    mode: str,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> str:
    """What a caller of the endpoint must be able to do, and no more.

    Args:
        endpoint_arn: the endpoint.
        mode: `real-time`, `async`, `serverless` or `scale-to-zero`.
        reads: S3 addresses of asynchronous answers.
        writes: S3 addresses of asynchronous requests.
        keys: the KMS keys of the answers.
    """
    actions = {
        ASYNC: ("sagemaker:InvokeEndpointAsync",),
        SERVERLESS: ("sagemaker:InvokeEndpoint",),
    }.get(mode, ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"))
    arn = ":".join(endpoint_arn.split(":")[:2])
    statements = [_allow("Invoke", actions, (endpoint_arn,))]
    if writes:
        places = tuple(f"{arn}:s3:::{uri.removeprefix('s3://')}*" for uri in _once(writes))
        statements.append(_allow("Ask", ("s3:PutObject",), places))
    if reads:
        statements += _read_s3("Fetch", arn, reads)
    if keys:
        statements.append(_allow("Decrypt", ("kms:Decrypt",), _once(keys)))
    return _document(*statements)


def key_policy(around: Surroundings, log_groups: Sequence[str]) -> pulumi.Output[str]:
    """The policy of the endpoint's own key: the account's IAM rules it, and the logs may use it."""

    def render(values: dict[str, str]) -> str:
        partition, region, account = values["partition"], values["region"], values["account"]
        here = f"arn:{partition}:logs:{region}:{account}:log-group"
        context = {
            "kms:EncryptionContext:aws:logs:arn": [f"{here}:{group}" for group in log_groups]
        }
        return _document(
            {
                "Sid": "Account",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
                "Action": [f"kms:{action}" for action in (*_ADMINISTER, *_USE)],
                # In a key's policy this is the key itself.
                "Resource": "*",
            },
            {
                "Sid": "Log",
                "Effect": "Allow",
                "Principal": {"Service": f"logs.{region}.{values['domain']}"},
                "Action": [f"kms:{action}" for action in ("DescribeKey", *_USE[1:])],
                "Resource": "*",
                "Condition": {"ArnEquals": context},
            },
        )

    return pulumi.Output.all(
        partition=around.partition,
        region=around.region,
        account=around.account,
        domain=around.domain,
    ).apply(render)


def _read_s3(what: str, arn: str, uris: Sequence[str]) -> list[dict[str, Any]]:
    """Reads what lies under these addresses, and lists nothing else."""
    statements = [
        _allow(
            what,
            ("s3:GetObject",),
            tuple(
                f"{arn}:s3:::{uri.removeprefix('s3://')}{'*' if uri.endswith('/') else ''}"
                for uri in _once(uris)
            ),
        )
    ]
    below: dict[str, list[str]] = {}
    for uri in _once(uris):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        below.setdefault(bucket, []).append(f"{prefix}*" if uri.endswith("/") else prefix)
    statements += [
        _allow(f"List{what}{index or ''}", ("s3:ListBucket",), (f"{arn}:s3:::{bucket}",), {
            "StringLike": {"s3:prefix": prefixes}
        })
        for index, (bucket, prefixes) in enumerate(below.items())
    ]  # fmt: skip
    return statements


def _allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    condition: dict[str, Any] | None = None,
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources),
    }  # fmt: skip
    return {**statement, "Condition": condition} if condition else statement


def _once(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
