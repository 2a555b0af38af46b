"""Routes as API Gateway wants them: a resource's path, and the methods on it.

`/v1/*` becomes the greedy `/v1/{proxy+}`. Where the server's own document names paths below it,
those stand beside it, and API Gateway takes the most specific one; only they can have a model that
bodies are checked against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sixways.api.defaults import ROUTES, methods

GREEDY = "{proxy+}"
_VARIABLE = re.compile(r"\{(\w+)\+?\}")
SAGEMAKER_ROUTES: tuple[Mapping[str, Any], ...] = ({"path": "/invocations", "methods": ["POST"]},)


@dataclass(frozen=True)
class Operation:
    """One method on one path.

    Attributes:
        path: the resource's path: `/v1/{proxy+}`.
        method: `POST`.
        open: whether it needs no key.
        described: the operation of the server's document, where that names it.
    """

    path: str
    method: str
    open: bool
    described: Mapping[str, Any] | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the path's variables: `("proxy",)`."""
        return tuple(_VARIABLE.findall(self.path))

    @property
    def target(self) -> str:
        """The path behind the gateway, with its variables: `/v1/{proxy}`."""
        return self.path.replace("+}", "}")


def default_routes(sagemaker: bool) -> Sequence[Mapping[str, Any]]:
    """The routes where none are given."""
    return SAGEMAKER_ROUTES if sagemaker else ROUTES


def operations(
    routes: Sequence[Mapping[str, Any]], paths: Mapping[str, Any] | None = None
) -> list[Operation]:
    """Every method of every route, sorted.

    Args:
        routes: see `RouteArgs`; of several that fit, the longest counts.
        paths: `paths` of the server's document.
    """
    found: dict[tuple[str, str], Operation] = {}
    for route in routes:
        path = _greedy(route["path"])
        for method in methods(route):
            found[path, method] = Operation(path, method, route.get("open") is True)
    for path, described in (paths or {}).items():
        holder = _route_of(path, routes)
        if holder is None or not isinstance(described, Mapping):
            continue
        for method in methods(holder):
            operation = described.get(method.lower())
            if operation is not None:
                found[path, method] = Operation(path, method, holder.get("open") is True, operation)
    return sorted(found.values(), key=lambda one: (one.path, one.method))


def is_open(path: str, routes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a GET of the path passes without a key."""
    holder = _route_of(path, routes)
    return holder is not None and holder.get("open") is True and "GET" in methods(holder)


def _greedy(path: str) -> str:
    return f"{path[:-1]}{GREEDY}" if path.endswith("/*") else path


def _route_of(path: str, routes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """A whole path before a beginning, and of beginnings the longest."""
    fitting = [
        route
        for route in routes
        if route["path"] == path
        or (route["path"].endswith("/*") and path.startswith(route["path"][:-1]))
    ]
    exact = [route for route in fitting if route["path"] == path]
    return max(exact or fitting, key=lambda route: len(route["path"]), default=None)
