"""The one vocabulary of the gateways: what stands behind them, who may call, and how much.

`ApiGateway`, `KongGateway` and `NginxGateway` take these inputs and add their own. A field that one
of them cannot hold is refused there by name; none is ignored.
"""

from typing import NotRequired, TypedDict

import pulumi


class InstanceArgs(TypedDict):
    """One server behind the gateway."""

    url: pulumi.Input[str]
    """Where it answers: `http://10.0.0.5:5000`, without a path."""
    weight: NotRequired[pulumi.Input[int]]
    """Its share of the requests against the others', 1 to 100. Default: 1."""
    ca_certificate: NotRequired[pulumi.Input[str]]
    """PEM of who signed its certificate, for https. Default: the public authorities."""


class UpstreamArgs(TypedDict):
    """The servers behind the gateway: instances of one endpoint."""

    instances: pulumi.Input[list[InstanceArgs]]
    """At least one; two or more for a gateway that outlives one of them."""
    health_path: pulumi.Input[str]
    """Path that answers 200 while an instance may get requests: `/readyz` of Sixways' server."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that the instances ask for, a secret; the gateway sends it in place of the caller's.
    Default: none is sent."""
    tls_name: NotRequired[pulumi.Input[str]]
    """The name that the instances' certificates are for, with https. Default: each one's host."""
    request_seconds: NotRequired[pulumi.Input[float]]
    """Longest time from a request to the end of its answer. Default: 600."""


class PlanArgs(TypedDict):
    """What one key may use. At least one limit."""

    name: pulumi.Input[str]
    """Its name; keys refer to it."""
    requests_per_second: NotRequired[pulumi.Input[float]]
    """Steady rate of one key, above 0. Beyond it and the burst: 429 with Retry-After."""
    burst: NotRequired[pulumi.Input[int]]
    """Requests of one key that may come at once. At least `requests_per_second`, rounded up.
    Default: twice that."""
    quota: NotRequired[pulumi.Input[int]]
    """Requests of one key in a `quota_period`."""
    quota_period: NotRequired[pulumi.Input[str]]
    """`day`, `week` or `month`. Default: `month`."""
    tokens_per_minute: NotRequired[pulumi.Input[int]]
    """Tokens of one key a minute, by the `usage` of the answers."""


class KeyArgs(TypedDict):
    """One caller's key."""

    name: pulumi.Input[str]
    """Who calls; logs and metrics show it, never the key."""
    plan: pulumi.Input[str]
    """The name of the plan that bounds it."""
    key: NotRequired[pulumi.Input[str]]
    """The key, a secret: 20 to 128 letters, digits and `-._~+/`. Default: a random one."""
    previous_key: NotRequired[pulumi.Input[str]]
    """A key that stays valid beside `key`, a secret: a rotation sets it to the old one, and takes
    it away when every caller has the new one."""


class RouteArgs(TypedDict):
    """Paths that the gateway lets through. What no route names is 404."""

    path: pulumi.Input[str]
    """A path, or its beginning with `/*` at the end: `/v1/*`. Of several that fit, the longest
    counts, and a whole path before a beginning."""
    methods: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Default: `["GET", "POST"]`; `["GET"]` where it is `open`."""
    plans: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Names of the plans whose keys may call it. Default: all."""
    open: NotRequired[pulumi.Input[bool]]
    """Whether it needs no key: health and API documents. The instances see their own key, so GET,
    HEAD and OPTIONS are all that it may take. Default: false."""


class LogArgs(TypedDict):
    """Where the access log goes, a JSON object a request: no key, query or body."""

    kind: pulumi.Input[str]
    """`file`, `stdout`, `http` or `cloudwatch`; each gateway says which it has."""
    target: NotRequired[pulumi.Input[str]]
    """The file's path, the URL, or the log group's name. Default: the gateway's own."""
    retention_days: NotRequired[pulumi.Input[int]]
    """Days that it is kept. Default: 30."""


class GatewayArgs(TypedDict):
    """Inputs that every gateway takes."""

    upstream: pulumi.Input[UpstreamArgs]
    """The servers behind it."""
    plans: pulumi.Input[list[PlanArgs]]
    """At least one."""
    keys: pulumi.Input[list[KeyArgs]]
    """At least one; each name once."""
    routes: NotRequired[pulumi.Input[list[RouteArgs]]]
    """Default: the server's API with a key (`/v1/*`, `/v2`, `/v2/*`, `/invocations`);
    `/healthz`, `/readyz`, `/docs` and `/openapi.json` without one."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """A larger body is refused with 413. Default: 8 MiB."""
    log: NotRequired[pulumi.Input[LogArgs]]
    """Default: the gateway's own place, for 30 days."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels of all that can carry some."""
    dev: NotRequired[pulumi.Input[bool]]
    """Permits what production must not have, such as a single instance. Default: false."""
