"""Sixways: one verified model bundle, six ways to ship it.

Names are loaded when they are first used: `import sixways` loads neither Pulumi nor a cloud SDK,
which keeps the command line and the plugin quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixways.api_key import ApiKey, ApiKeyArgs
    from sixways.bundle import Bundle, BundleArgs
    from sixways.local.container import LocalContainer, LocalContainerArgs
    from sixways.local.endpoint import LocalEndpoint, LocalEndpointArgs, ServedModelArgs

__version__ = "0.1.0"

_WHERE = {
    "ApiKey": "sixways.api_key",
    "ApiKeyArgs": "sixways.api_key",
    "Bundle": "sixways.bundle",
    "BundleArgs": "sixways.bundle",
    "LocalContainer": "sixways.local.container",
    "LocalContainerArgs": "sixways.local.container",
    "LocalEndpoint": "sixways.local.endpoint",
    "LocalEndpointArgs": "sixways.local.endpoint",
    "ServedModelArgs": "sixways.local.endpoint",
}

__all__ = [
    "ApiKey",
    "ApiKeyArgs",
    "Bundle",
    "BundleArgs",
    "LocalContainer",
    "LocalContainerArgs",
    "LocalEndpoint",
    "LocalEndpointArgs",
    "ServedModelArgs",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sixways' has no attribute {name!r}")
