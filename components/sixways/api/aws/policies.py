"""The policies of the gateway's roles, as plain functions. No action is a wildcard."""

from __future__ import annotations

import json
from typing import Any


def trust_policy(account: str) -> str:
    """API Gateway may take the role, and only for this account's sake."""
    return _document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "apigateway.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
    )


def invoke_policy(endpoint_arn: str) -> str:
    """The role may call one SageMaker endpoint."""
    return _document(
        {
            "Sid": "Invoke",
            "Effect": "Allow",
            "Action": "sagemaker:InvokeEndpoint",
            "Resource": endpoint_arn,
        }
    )


def endpoint_arn(partition: str, region: str, account: str, name: str) -> str:
    """The ARN of a SageMaker endpoint, whose name IAM writes in small letters."""
    return f"arn:{partition}:sagemaker:{region}:{account}:endpoint/{name.lower()}"


def runtime_uri(partition: str, region: str, name: str) -> str:
    """The integration URI of a SageMaker endpoint (AWS: `Integration.uri`, path of a service)."""
    return (
        f"arn:{partition}:apigateway:{region}:runtime.sagemaker:path/endpoints/{name}/invocations"
    )


def log_policy(partition: str, region: str, account: str) -> str:
    """What API Gateway needs to write logs of the account's APIs in this region.

    It is AWS's managed policy `AmazonAPIGatewayPushToCloudWatchLogs`, cut down from `*` to log
    groups of this account and region: the role is the account's, so no single group can be named.
    """
    groups = f"arn:{partition}:logs:{region}:{account}:log-group:*"
    return _document(
        {
            "Sid": "Groups",
            "Effect": "Allow",
            "Action": ["logs:CreateLogGroup", "logs:DescribeLogGroups", "logs:DescribeLogStreams"],
            "Resource": groups,
        },
        {
            "Sid": "Streams",
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogStream",
                "logs:FilterLogEvents",
                "logs:GetLogEvents",
                "logs:PutLogEvents",
            ],
            "Resource": [groups, f"{groups}:log-stream:*"],
        },
    )


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
