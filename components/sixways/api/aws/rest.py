"""A REST API: imported from a document, deployed by the document's hash, served by one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.api.aws.document import fingerprint

STAGE = "live"
REQUESTS_PER_SECOND, BURST = 1_000.0, 2_000


@dataclass(frozen=True)
class RestStage:
    """The API and the stage that callers reach."""

    api: aws.apigateway.RestApi
    stage: aws.apigateway.Stage


def create_rest_api(
    name: str,
    body: pulumi.Output[str],
    args: Mapping[str, Any],
    access_log: Any,
    tags: Mapping[str, pulumi.Input[str]],
    *,
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource],
) -> RestStage:
    """The API, its deployments and its stage.

    A changed document changes the API, which no caller sees; then a new deployment is made, the
    stage is led to it, and the old one goes: the stage never points at nothing. With `canary` the
    old deployment stays for most of the callers.

    Args:
        name: the component's name.
        body: the document.
        args: see `ApiGatewayArgs`.
        access_log: `destination_arn` and `format`.
        tags: tags of what can have them.
        parent: the component.
        depends_on: what the stage waits for.
    """
    opts = pulumi.ResourceOptions(parent=parent)
    api = aws.apigateway.RestApi(
        f"{name}-api",
        description="Made by Sixways",
        body=body,
        endpoint_configuration={"types": "REGIONAL"},
        disable_execute_api_endpoint="domain" in args,
        tags=dict(tags),
        opts=opts,
    )
    triggers: dict[str, pulumi.Input[str]] = {
        # A hash of a secret, among much else, is none.
        "document": pulumi.Output.unsecret(body.apply(fingerprint)),
        # AWS: the API's own address is switched off, or on, with the next deployment.
        "own_address": str("domain" not in args),
    }
    canary = args.get("canary")
    deployment = aws.apigateway.Deployment(
        f"{name}-deployment",
        rest_api=api.id,
        triggers=triggers,
        opts=pulumi.ResourceOptions(
            parent=parent, depends_on=[api], ignore_changes=["triggers"] if canary else None
        ),
    )
    settings: Any = None
    if canary:
        newest = aws.apigateway.Deployment(
            f"{name}-canary",
            rest_api=api.id,
            triggers=triggers,
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[api, deployment]),
        )
        settings = {"deployment_id": newest.id, "percent_traffic": canary["percent"]}
    stage = aws.apigateway.Stage(
        f"{name}-stage",
        rest_api=api.id,
        stage_name=args.get("stage_name", STAGE),
        deployment=deployment.id,
        canary_settings=settings,
        access_log_settings=access_log,
        tags=dict(tags),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(depends_on)),
    )
    throttle = args.get("throttle") or {}
    limits = [("*/*", throttle.get("requests_per_second"), throttle.get("burst"))]
    limits += [
        (f"{one['path'].strip('/')}/{one['method']}", one["requests_per_second"], one["burst"])
        for one in args.get("method_throttles") or []
    ]
    for path, rate, burst in limits:
        aws.apigateway.MethodSettings(
            f"{name}-throttle-{'all' if path == '*/*' else path}",
            rest_api=api.id,
            stage_name=stage.stage_name,
            method_path=path,
            settings={
                "throttling_rate_limit": REQUESTS_PER_SECOND if rate is None else rate,
                "throttling_burst_limit": BURST if burst is None else burst,
                # The execution log would show headers and bodies.
                "logging_level": "OFF",
                "data_trace_enabled": False,
            },
            opts=opts,
        )
    return RestStage(api, stage)
