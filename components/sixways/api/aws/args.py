"""The inputs of `ApiGateway`: the gateways' one vocabulary, and what AWS adds to it."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.api.args import KeyArgs, LogArgs, PlanArgs, RouteArgs, UpstreamArgs
from sixways.observability.slo import SloArgs


class PrivateLinkArgs(TypedDict):
    """A load balancer inside a VPC, reached through a VPC link (version 2)."""

    subnet_ids: pulumi.Input[list[pulumi.Input[str]]]
    """Private subnets of the VPC in at least 2 zones."""
    security_group_ids: pulumi.Input[list[pulumi.Input[str]]]
    """Security groups of the link; the load balancer must let them in."""
    load_balancer_arn: NotRequired[pulumi.Input[str]]
    """`kind: rest`: the ARN of an Application or Network Load Balancer. It must stand in 2 zones or
    more, which is asked of AWS before the API is made."""
    target_arn: NotRequired[pulumi.Input[str]]
    """`kind: http`: the ARN of the load balancer's listener, or of a Cloud Map service."""


class SageMakerTargetArgs(TypedDict):
    """A SageMaker endpoint as the target."""

    endpoint_name: pulumi.Input[str]
    """The endpoint's name; the gateway's role may call this one alone."""


class JwtArgs(TypedDict):
    """Who issues the tokens that callers of an HTTP API show in `Authorization`."""

    issuer: pulumi.Input[str]
    """`https://cognito-idp.REGION.amazonaws.com/POOL`, or another issuer's address."""
    audience: pulumi.Input[list[pulumi.Input[str]]]
    """Whom a token must be for; with Cognito the ids of the app clients."""
    scopes: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Scopes of which a token must have one. Default: none is asked for."""


class CognitoArgs(TypedDict):
    """User pools whose tokens callers of a REST API show in `Authorization`, beside their key."""

    user_pool_arns: pulumi.Input[list[pulumi.Input[str]]]
    """At least one."""
    scopes: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Scopes of which an access token must have one. Default: id tokens are taken."""


class DomainArgs(TypedDict):
    """A domain of yours. The API's own address is switched off then."""

    name: pulumi.Input[str]
    """`api.example.com`."""
    certificate_arn: pulumi.Input[str]
    """The certificate in ACM, in the API's region. TLS 1.2 is the least that is spoken."""
    hosted_zone_id: NotRequired[pulumi.Input[str]]
    """The zone in Route 53 that gets the record. Default: none is made; see `domain_target`."""
    base_path: NotRequired[pulumi.Input[str]]
    """First part of the path, which the API does not see: `models`. Default: none."""


class WafArgs(TypedDict):
    """The web ACL in front of a REST API."""

    requests_per_address: NotRequired[pulumi.Input[int]]
    """Requests of one address within `window_seconds`, 10 to 2,000,000,000; further ones get 403.
    Default: 2,000."""
    window_seconds: NotRequired[pulumi.Input[int]]
    """60, 120, 300 or 600. Default: 300."""
    managed_rules: NotRequired[pulumi.Input[bool]]
    """Whether AWS's common rules, known bad inputs and addresses of bad repute are refused. Rules
    that look for code in a body only count: prompts hold code. Default: true."""
    web_acl_arn: NotRequired[pulumi.Input[str]]
    """A web ACL of yours in place of all this."""


class CanaryArgs(TypedDict):
    """The newest deployment gets a part of the requests, the one before it all others."""

    percent: pulumi.Input[float]
    """Percent of the requests, above 0 and at most 50. Taking `canary` away promotes it."""


class ThrottleArgs(TypedDict):
    """How much all callers together may send to the stage."""

    requests_per_second: NotRequired[pulumi.Input[float]]
    """Default: 1,000."""
    burst: NotRequired[pulumi.Input[int]]
    """Default: 2,000."""


class MethodThrottleArgs(TypedDict):
    """How much all callers together may send to one method."""

    path: pulumi.Input[str]
    """A path of the API as it is written there: `/v1/chat/completions`, `/v1/{proxy+}`."""
    method: pulumi.Input[str]
    """`POST`."""
    requests_per_second: pulumi.Input[float]
    """Steady rate."""
    burst: pulumi.Input[int]
    """Requests at once; at least `requests_per_second`."""


class ApiGatewayArgs(TypedDict):
    """Inputs of an `ApiGateway`. Where it differs from the other gateways, it says so."""

    kind: NotRequired[pulumi.Input[str]]
    """`rest`: keys, plans, validation, WAF, canary and streaming. `http`: cheaper, with tokens of
    an issuer in place of all that. A change replaces the API. Default: `rest`."""
    upstream: NotRequired[pulumi.Input[UpstreamArgs]]
    """One public https address, or the one that a `private_link`'s load balancer answers to;
    several instances need a load balancer. Required without `sagemaker`. `request_seconds`: 1 to
    900 where answers are streamed (default 600), else at most 29 (`rest`) or 30 (`http`)."""
    private_link: NotRequired[pulumi.Input[PrivateLinkArgs]]
    """The load balancer of `upstream` stands inside a VPC. Default: it is public."""
    sagemaker: NotRequired[pulumi.Input[SageMakerTargetArgs]]
    """A SageMaker endpoint in place of `upstream`; `/invocations` is its only route."""
    plans: NotRequired[pulumi.Input[list[PlanArgs]]]
    """Usage plans; `kind: rest` needs one. `tokens_per_minute` is not to be had here."""
    keys: NotRequired[pulumi.Input[list[KeyArgs]]]
    """Callers' keys, shown as `x-api-key`; `kind: rest` needs one."""
    routes: NotRequired[pulumi.Input[list[RouteArgs]]]
    """Default: the server's API with a key (`/v1/*`, `/v2/*`, `/invocations`); `/healthz`,
    `/readyz`, `/docs` and `/openapi.json` without one. `plans` of a route is not to be had."""
    openapi: NotRequired[pulumi.Input[str]]
    """The server's own OpenAPI document as JSON text (its `/openapi.json`): bodies of requests are
    checked against it before they are sent on. `kind: rest`. Default: they are not checked."""
    openapi_file: NotRequired[str]
    """Path of a file with that document, in place of `openapi`."""
    stream: NotRequired[pulumi.Input[bool]]
    """Whether answers reach the caller piece by piece, also longer than 29 seconds and larger than
    10 MB. `kind: rest` with `upstream`. Default: true."""
    throttle: NotRequired[pulumi.Input[ThrottleArgs]]
    """Default: 1,000 requests a second, 2,000 at once."""
    method_throttles: NotRequired[pulumi.Input[list[MethodThrottleArgs]]]
    """Further limits of single methods. `kind: rest`. Default: none."""
    jwt: NotRequired[pulumi.Input[JwtArgs]]
    """Required with `kind: http`, and only there."""
    cognito: NotRequired[pulumi.Input[CognitoArgs]]
    """`kind: rest`: callers show a token of these user pools too. Default: a key is enough."""
    waf: NotRequired[pulumi.Input[WafArgs]]
    """`kind: rest`. Default: a web ACL with a rate rule and AWS's managed rules."""
    domain: NotRequired[pulumi.Input[DomainArgs]]
    """Default: the API's own address."""
    canary: NotRequired[pulumi.Input[CanaryArgs]]
    """`kind: rest`. Default: a change reaches all callers at once."""
    stage_name: NotRequired[pulumi.Input[str]]
    """`kind: rest`: up to 128 letters, digits, dashes and underscores. Default: `live`."""
    log: NotRequired[pulumi.Input[LogArgs]]
    """`kind` is `cloudwatch`, `target` a log group's name. Default: an own group for 30 days."""
    log_kms_key_arn: NotRequired[pulumi.Input[str]]
    """KMS key of the log group; its policy must let CloudWatch Logs use it. Default: CloudWatch's
    own encryption."""
    account_log_role: NotRequired[pulumi.Input[bool]]
    """Whether to make the role by which API Gateway writes logs, and set it for the account and
    region, which have only one. REST APIs need it; say true in one stack. Default: false."""
    slo: NotRequired[SloArgs]
    """The objective that alarms watch, measured at the gateway to the end of an answer. Default:
    see `SloArgs`."""
    client_error_rate: NotRequired[float]
    """An alarm fires above this share of 4xx, above 0 and below 1. Default: 0.2."""
    quota_percent: NotRequired[float]
    """An alarm fires when a key has used this part of a day's share of its quota (all of it, a
    seventh or a thirtieth) within a day. Default: 80 of a daily quota, else 200."""
    alarm_topic_arn: NotRequired[pulumi.Input[str]]
    """SNS topic that alarms tell. Default: an own one, encrypted."""
    bundle_digest: NotRequired[pulumi.Input[str]]
    """Digest of what the endpoint behind serves; it becomes an output. Default: empty."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """Not to be had here: API Gateway takes 10 MB, and the server's own limit counts."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Tags of all that can carry some."""
    dev: NotRequired[pulumi.Input[bool]]
    """Permits an http upstream and a load balancer in one zone. Default: false."""
