"""An HTTP API: routes guarded by tokens of an issuer, and a stage that follows them by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pulumi
import pulumi_aws as aws

from sixways.api.aws.problems import HTTP_SECONDS
from sixways.api.aws.rest import BURST, REQUESTS_PER_SECOND
from sixways.api.aws.routes import Operation

STAGE = "$default"


@dataclass(frozen=True)
class HttpStage:
    """The API and the stage that callers reach."""

    api: aws.apigatewayv2.Api
    stage: aws.apigatewayv2.Stage


def create_http_api(
    name: str,
    operations: Sequence[Operation],
    upstream: pulumi.Output[dict[str, Any]],
    link: aws.apigatewayv2.VpcLink | None,
    args: Mapping[str, Any],
    access_log: Any,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> HttpStage:
    """The API, its routes and its stage.

    Args:
        name: the component's name.
        operations: every method of every route.
        upstream: see `UpstreamArgs`.
        link: the VPC link of a private integration.
        args: see `ApiGatewayArgs`.
        access_log: `destination_arn` and `format`.
        tags: tags of what can have them.
        opts: the usual resource options.
    """
    api = aws.apigatewayv2.Api(
        f"{name}-api",
        protocol_type="HTTP",
        description="Made by Sixways",
        disable_execute_api_endpoint="domain" in args,
        tags=dict(tags),
        opts=opts,
    )
    jwt = args["jwt"]
    authorizer = aws.apigatewayv2.Authorizer(
        f"{name}-jwt",
        api_id=api.id,
        authorizer_type="JWT",
        identity_sources=["$request.header.Authorization"],
        jwt_configuration={"issuer": jwt["issuer"], "audiences": jwt["audience"]},
        opts=opts,
    )
    seconds = upstream.apply(lambda given: min(given.get("request_seconds") or 30.0, HTTP_SECONDS))
    made: dict[str, aws.apigatewayv2.Integration] = {}
    for one in operations:
        # Behind a link the path is passed on as it is; over the internet it is part of the address.
        path = "" if link else one.target
        if path not in made:
            made[path] = aws.apigatewayv2.Integration(
                f"{name}-to{path}",
                api_id=api.id,
                integration_type="HTTP_PROXY",
                integration_method="ANY",
                payload_format_version="1.0",
                timeout_milliseconds=seconds.apply(lambda value: round(value * 1000)),
                opts=opts,
                **_target(upstream, path, link, args),
            )
        aws.apigatewayv2.Route(
            f"{name}-{one.method}{one.path}",
            api_id=api.id,
            route_key=f"{one.method} {one.path}",
            target=pulumi.Output.concat("integrations/", made[path].id),
            authorization_type="NONE" if one.open else "JWT",
            authorizer_id=None if one.open else authorizer.id,
            authorization_scopes=None if one.open else jwt.get("scopes"),
            opts=opts,
        )
    throttle = args.get("throttle") or {}
    stage = aws.apigatewayv2.Stage(
        f"{name}-stage",
        api_id=api.id,
        name=STAGE,
        auto_deploy=True,
        access_log_settings=access_log,
        default_route_settings={
            "throttling_rate_limit": throttle.get("requests_per_second", REQUESTS_PER_SECOND),
            "throttling_burst_limit": throttle.get("burst", BURST),
        },
        tags=dict(tags),
        opts=opts,
    )
    return HttpStage(api, stage)


def _target(
    upstream: pulumi.Output[dict[str, Any]],
    path: str,
    link: aws.apigatewayv2.VpcLink | None,
    args: Mapping[str, Any],
) -> dict[str, Any]:
    if link is None:
        return {"integration_uri": upstream.apply(lambda given: address(given) + path)}
    host = upstream.apply(tls_host)
    return {
        "connection_type": "VPC_LINK",
        "connection_id": link.id,
        "integration_uri": args["private_link"]["target_arn"],
        "tls_config": host.apply(lambda known: {"server_name_to_verify": known} if known else None),
    }


def address(upstream: Mapping[str, Any]) -> str:
    """Where the upstream answers; with `tls_name` under that name."""
    url = str(upstream["instances"][0]["url"]).rstrip("/")
    name = upstream.get("tls_name")
    if not name:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")


def tls_host(upstream: Mapping[str, Any]) -> str:
    """The name on the upstream's certificate; empty without TLS."""
    parts = urlsplit(address(upstream))
    return parts.hostname or "" if parts.scheme == "https" else ""
