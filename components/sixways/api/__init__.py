"""Way `api`: a model as an API with keys, plans, limits and logs, in front of any other way.

Three gateways with one vocabulary (`args.py`, checked by `problems.py`): `NginxGateway` needs this
machine or a host of yours, `KongGateway` Kubernetes, `ApiGateway` AWS.

Names are loaded when they are first used, since the SDKs of Kubernetes and AWS take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixways.api.api_gateway import ApiGateway, ApiGatewayArgs
    from sixways.api.kong_gateway import KongGateway, KongGatewayArgs
    from sixways.api.nginx_gateway import NginxGateway, NginxGatewayArgs

_WHERE = {
    "ApiGateway": "api_gateway",
    "KongGateway": "kong_gateway",
    "NginxGateway": "nginx_gateway",
}
_WHERE |= {f"{name}Args": module for name, module in _WHERE.items()}

__all__ = [
    "ApiGateway",
    "ApiGatewayArgs",
    "KongGateway",
    "KongGatewayArgs",
    "NginxGateway",
    "NginxGatewayArgs",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
