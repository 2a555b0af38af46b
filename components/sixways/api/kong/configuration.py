"""Kong's declarative configuration, of its inputs once they are known.

Fields of entities: Kong's schema of the format (`kong_json_schema.json` of decK). Fields of
plugins: the plugins' pages of Kong Gateway 3.9.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from sixways.api import defaults
from sixways.api.kong.limits import share, windows

SERVICE = "sixways"
UPSTREAM = "sixways-upstream"
REDIS_PORT = 6379
TOKENS_PLUGIN = "sixways-tokens"
_HEADERS = ("x-api-key", "authorization")
# What a line of the log must not hold, or repeats of the configuration, and what stands there
# instead. The code runs in Kong's sandbox; nil takes a field away.
_LOGGED = {
    "request": "return nil",
    "upstream_uri": "return nil",
    "response": "return nil",
    "authenticated_entity": "return nil",
    "route": "return nil",
    "service": "return nil",
    "consumer": "return nil",
    "workspace": "return nil",
    "workspace_name": "return nil",
    "key": "local caller = kong.client.get_consumer() return caller and caller.username",
    "method": "return kong.request.get_method()",
    "path": "return kong.request.get_path()",
    "request_id": "return kong.request.get_header('x-request-id')",
    "status": "return kong.response.get_status()",
}


def render(args: Mapping[str, Any], *, pods: int) -> str:
    """The declarative configuration as JSON, which Kong reads as it does YAML.

    Args:
        args: `KongGatewayArgs` without outputs, every key with its value; a secret.
        pods: how many pods share each limit.
    """
    return json.dumps(declarative(args, pods=pods), indent=1)


def declarative(args: Mapping[str, Any], *, pods: int) -> dict[str, Any]:
    """The declarative configuration; see `render`."""
    upstream = args["upstream"]
    authorities = authority_certificates(upstream)
    counting = 1 if args.get("redis") else pods
    found: dict[str, Any] = {
        "_format_version": "3.0",
        "services": [_service(args, authorities)],
        "upstreams": [_upstream(upstream)],
        "consumers": _consumers(args, counting),
        "plugins": [
            _plugin("correlation-id", header_name="X-Request-Id", generator="uuid",
                    echo_downstream=True),
            _plugin("prometheus", per_consumer=True, status_code_metrics=True,
                    latency_metrics=True, bandwidth_metrics=True, upstream_health_metrics=True),
            _log(args.get("log") or {}),
        ],
    }  # fmt: skip
    if authorities:
        found["ca_certificates"] = [{"id": _id(pem), "cert": pem} for pem in authorities]
    return found


def authority_certificates(upstream: Mapping[str, Any]) -> list[str]:
    """Who signed the instances' certificates, each once; empty for the public authorities."""
    given = (one.get("ca_certificate") for one in upstream["instances"])
    return list(dict.fromkeys(pem for pem in given if pem))


def has_tokens(plans: list[Any]) -> bool:
    """Whether a plan counts tokens, for which Kong needs our plugin."""
    return any(plan.get("tokens_per_minute") is not None for plan in plans)


def _plugin(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "config": config}


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def _service(args: Mapping[str, Any], authorities: list[str]) -> dict[str, Any]:
    upstream = args["upstream"]
    scheme = _scheme(upstream)
    seconds = upstream.get("request_seconds") or defaults.REQUEST_SECONDS
    service: dict[str, Any] = {
        "name": SERVICE,
        "protocol": scheme,
        "host": UPSTREAM,
        "port": 443 if scheme == "https" else 80,
        "connect_timeout": 2000,
        "write_timeout": 60_000,
        "read_timeout": round(seconds * 1000),
        # Another instance takes what one did not: inference changes nothing.
        "retries": len(upstream["instances"]),
        "routes": list(_routes(args)),
        "plugins": [
            _plugin(
                "request-size-limiting",
                allowed_payload_size=args.get("max_body_bytes") or defaults.MAX_BODY_BYTES,
                size_unit="bytes",
                require_content_length=False,
            ),
            _own_key(upstream.get("api_key")),
        ],
    }
    if scheme == "https":
        service |= {"tls_verify": True, "tls_verify_depth": 3}
        if authorities:
            service["ca_certificates"] = [_id(pem) for pem in authorities]
    return service


def _own_key(key: str | None) -> dict[str, Any]:
    """No header with a caller's key goes on; the instances' own takes its place."""
    if key is None:
        return _plugin("request-transformer", remove={"headers": list(_HEADERS)})
    own = {"headers": [f"authorization:Bearer {key}"]}
    return _plugin("request-transformer", remove={"headers": ["x-api-key"]}, replace=own, add=own)


def _routes(args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    protocol = "https" if args.get("tls") else "http"
    every = [plan["name"] for plan in args["plans"]]
    for index, route in enumerate(defaults.routes(args)):
        path = route["path"]
        # A whole path is a pattern: Kong takes what is none for a beginning.
        dotless = path.replace(".", r"\.").replace("+", r"\+")
        plugins = []
        if not route.get("open"):
            plugins = [
                _plugin(
                    "key-auth",
                    key_names=list(_HEADERS),
                    key_in_header=True,
                    key_in_query=False,
                    key_in_body=False,
                    hide_credentials=True,
                ),
                _plugin("acl", allow=list(route.get("plans") or every), hide_groups_header=True),
            ]
        yield {
            "name": f"route-{index}",
            "paths": [path.removesuffix("*") if path.endswith("/*") else f"~{dotless}$"],
            "methods": list(defaults.methods(route)),
            "protocols": [protocol],
            "strip_path": False,
            "preserve_host": False,
            # Tokens pass as they come; a request is kept, so that another instance can take it.
            "request_buffering": True,
            "response_buffering": False,
            "plugins": plugins,
        }


def _scheme(upstream: Mapping[str, Any]) -> str:
    url: str = upstream["instances"][0]["url"]
    return urlsplit(url).scheme


def _upstream(upstream: Mapping[str, Any]) -> dict[str, Any]:
    scheme = _scheme(upstream)
    active: dict[str, Any] = {
        "type": scheme,
        "http_path": upstream["health_path"],
        "timeout": 3,
        "concurrency": 10,
        "healthy": {"interval": 2, "successes": 2, "http_statuses": [200]},
        "unhealthy": {
            "interval": 2,
            "http_failures": 2,
            "tcp_failures": 2,
            "timeouts": 2,
            "http_statuses": [404, 429, 500, 501, 502, 503, 504, 505],
        },
    }
    found: dict[str, Any] = {
        "name": UPSTREAM,
        "algorithm": "least-connections",
        "targets": [
            {"target": _target(one["url"]), "weight": 100 * (one.get("weight") or defaults.WEIGHT)}
            for one in upstream["instances"]
        ],
        "healthchecks": {
            "active": active,
            # 429 and 504 say that there is much to do, not that the instance is ill.
            "passive": {
                "type": scheme,
                "healthy": {"successes": 1, "http_statuses": [200]},
                "unhealthy": {
                    "http_failures": 5,
                    "tcp_failures": 2,
                    "timeouts": 2,
                    "http_statuses": [502, 503],
                },
            },
        },
    }
    if scheme == "https":
        active["https_verify_certificate"] = True
        name = upstream.get("tls_name")
        if name:
            active["https_sni"] = found["host_header"] = name
    return found


def _target(url: str) -> str:
    found = urlsplit(url)
    host = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
    return f"{host}:{found.port or (443 if found.scheme == 'https' else 80)}"


def _consumers(args: Mapping[str, Any], counting: int) -> list[dict[str, Any]]:
    plans = {plan["name"]: plan for plan in args["plans"]}
    redis = _redis(args["redis"]) if args.get("redis") else None
    found = []
    for key in args["keys"]:
        plan, values = plans[key["plan"]], [key["key"], key.get("previous_key")]
        consumer: dict[str, Any] = {
            "username": key["name"],
            "acls": [{"group": plan["name"]}],
            # As X-API-Key: KEY, and as Authorization: Bearer KEY, whose value Kong takes whole.
            "keyauth_credentials": [
                {"key": form} for value in values if value for form in (value, f"Bearer {value}")
            ],
        }
        plugins = []
        where = {"policy": "redis", "redis": redis} if redis else {"policy": "local"}
        limits = windows(plan, counting)
        if limits:
            plugins.append(_plugin("rate-limiting", limit_by="consumer", fault_tolerant=True,
                                   **limits, **where))  # fmt: skip
        tokens = plan.get("tokens_per_minute")
        if tokens is not None:
            plugins.append(_plugin(TOKENS_PLUGIN, minute=share(tokens, counting), **where))
        found.append({**consumer, "plugins": plugins})
    return found


def _redis(redis: Mapping[str, Any]) -> dict[str, Any]:
    tls = redis.get("tls", True)
    found = {
        "host": redis["host"],
        "port": redis.get("port") or REDIS_PORT,
        "database": redis.get("database") or 0,
        "timeout": 1000,
        "ssl": tls,
        "ssl_verify": tls,
    }
    if tls:
        found["server_name"] = redis["host"]
    return found | {k: redis[k] for k in ("username", "password") if redis.get(k) is not None}


def _log(log: Mapping[str, Any]) -> dict[str, Any]:
    if log.get("kind") == "http":
        return _plugin("http-log", http_endpoint=log["target"], method="POST", timeout=10_000,
                       custom_fields_by_lua=_LOGGED)  # fmt: skip
    return _plugin("file-log", path="/dev/stdout", custom_fields_by_lua=_LOGGED)
