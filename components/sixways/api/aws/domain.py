"""A domain in front of the API, with TLS 1.2 as the least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

TLS = "TLS_1_2"


def create_rest_domain(
    name: str,
    domain: Mapping[str, Any],
    api: aws.apigateway.RestApi,
    stage_name: pulumi.Input[str],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """The domain of a REST API; returns the name that its record points to."""
    made = aws.apigateway.DomainName(
        f"{name}-domain",
        domain_name=domain["name"],
        regional_certificate_arn=domain["certificate_arn"],
        endpoint_configuration={"types": "REGIONAL"},
        security_policy=TLS,
        tags=dict(tags),
        opts=opts,
    )
    aws.apigateway.BasePathMapping(
        f"{name}-domain",
        domain_name=made.domain_name,
        rest_api=api.id,
        stage_name=stage_name,
        base_path=domain.get("base_path"),
        opts=opts,
    )
    _record(name, domain, made.regional_domain_name, made.regional_zone_id, opts)
    return made.regional_domain_name


def create_http_domain(
    name: str,
    domain: Mapping[str, Any],
    api: aws.apigatewayv2.Api,
    stage: aws.apigatewayv2.Stage,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """The domain of an HTTP API; returns the name that its record points to."""
    made = aws.apigatewayv2.DomainName(
        f"{name}-domain",
        domain_name=domain["name"],
        domain_name_configuration={
            "certificate_arn": domain["certificate_arn"],
            "endpoint_type": "REGIONAL",
            "security_policy": TLS,
        },
        tags=dict(tags),
        opts=opts,
    )
    aws.apigatewayv2.ApiMapping(
        f"{name}-domain",
        api_id=api.id,
        domain_name=made.id,
        stage=stage.id,
        api_mapping_key=domain.get("base_path"),
        opts=opts,
    )
    target = made.domain_name_configuration
    _record(name, domain, target.target_domain_name, target.hosted_zone_id, opts)
    return target.target_domain_name


def address(domain: Mapping[str, Any]) -> pulumi.Output[str]:
    """The base URL behind the domain."""
    known = pulumi.Output.all(domain["name"], domain.get("base_path"))
    return known.apply(lambda parts: "https://" + "/".join(part for part in parts if part))


def _record(
    name: str,
    domain: Mapping[str, Any],
    target: pulumi.Input[str],
    zone: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> None:
    if "hosted_zone_id" not in domain:
        return
    aws.route53.Record(
        f"{name}-domain",
        zone_id=domain["hosted_zone_id"],
        name=domain["name"],
        type="A",
        aliases=[{"name": target, "zone_id": zone, "evaluate_target_health": False}],
        opts=opts,
    )
