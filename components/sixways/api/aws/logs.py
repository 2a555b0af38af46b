"""The access log: JSON, one object a request, without key, query or body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.api.aws.policies import log_policy, trust_policy
from sixways.api.defaults import LOG_DAYS
from sixways.cloud.surroundings import Surroundings

# AWS: "Variables for access logging for API Gateway". identity.apiKey is the key itself: never.
_COMMON = {
    "api": "$context.apiId",
    "time": "$context.requestTimeEpoch",
    "request": "$context.requestId",
    "address": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "protocol": "$context.protocol",
    "bytes": "$context.responseLength",
    "ms": "$context.responseLatency",
    "upstream_ms": "$context.integrationLatency",
    "error": "$context.error.responseType",
}
_REST = {
    "key_id": "$context.identity.apiKeyId",
    "route": "$context.resourcePath",
    "upstream_status": "$context.integration.status",
    "waf": "$context.wafResponseCode",
    "canary": "$context.isCanaryRequest",
}
_HTTP = {
    "route": "$context.routeKey",
    "subject": "$context.authorizer.claims.sub",
    "upstream_status": "$context.integrationStatus",
}


def log_format(rest: bool) -> str:
    """The line that API Gateway fills in."""
    fields = {**_COMMON, **(_REST if rest else _HTTP)}
    return json.dumps(fields, separators=(",", ":"))


def create_log_group(
    name: str,
    log: Mapping[str, Any],
    kms_key_arn: pulumi.Input[str] | None,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.cloudwatch.LogGroup:
    """The group; see `LogArgs`."""
    return aws.cloudwatch.LogGroup(
        f"{name}-log",
        name=log.get("target"),
        retention_in_days=log.get("retention_days", LOG_DAYS),
        kms_key_id=kms_key_arn,
        tags=dict(tags),
        opts=opts,
    )


def create_account_role(
    name: str,
    around: Surroundings,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.apigateway.Account:
    """The role by which API Gateway writes logs, set for the account and region."""
    role = aws.iam.Role(
        f"{name}-logs",
        description="API Gateway writes the logs of this account's APIs",
        assume_role_policy=around.account.apply(trust_policy),
        tags=dict(tags),
        opts=opts,
    )
    policy = aws.iam.RolePolicy(
        f"{name}-logs",
        role=role.name,
        policy=pulumi.Output.all(around.partition, around.region, around.account).apply(
            lambda where: log_policy(*where)
        ),
        opts=opts,
    )
    return aws.apigateway.Account(
        f"{name}-account",
        cloudwatch_role_arn=role.arn,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[policy])),
    )
