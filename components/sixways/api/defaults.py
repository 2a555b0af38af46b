"""What an input of a gateway means that was left out; each default stands here once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pulumi

from sixways.api.args import RouteArgs

WEIGHT = 1
REQUEST_SECONDS = 600.0
QUOTA_PERIOD = "month"
METHODS, OPEN_METHODS = ("GET", "POST"), ("GET",)
MAX_BODY_BYTES = 8 * 1024 * 1024
LOG_DAYS = 30
PORTS = {(True, True): 443, (True, False): 80, (False, True): 8443, (False, False): 8080}
"""Where Nginx listens: by whether on a host, and whether with TLS."""

ROUTES: tuple[RouteArgs, ...] = (
    {"path": "/v1/*"},
    {"path": "/v2", "methods": ["GET"]},
    {"path": "/v2/*"},
    {"path": "/invocations"},
    *(
        RouteArgs(path=path, methods=["GET"], open=True)
        for path in ("/healthz", "/readyz", "/docs", "/docs/*", "/openapi.json")
    ),
)
"""The server's API with a key; its health and API documents without one."""


def methods(route: Mapping[str, Any]) -> tuple[str, ...]:
    """What a route lets through; one without a key only reads."""
    return tuple(route.get("methods") or (OPEN_METHODS if route.get("open") else METHODS))


def routes(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The routes, and one to the health path without a key where none of them is it."""
    found = [dict(route) for route in args.get("routes") or ROUTES]
    health = args["upstream"]["health_path"]
    if all(route["path"] != health for route in found):
        found.append({"path": health, "methods": ["GET"], "open": True})
    return found


def burst(plan: Mapping[str, Any]) -> pulumi.Output[int] | int:
    """Requests that may come at once under a plan with `requests_per_second`: twice that."""
    given = plan.get("burst")
    rate = plan["requests_per_second"]
    if given is not None:
        return given  # type: ignore[no-any-return]
    return rate.apply(_twice) if isinstance(rate, pulumi.Output) else _twice(rate)


def _twice(rate: float) -> int:
    return math.ceil(2 * rate)
