"""Way `api`: a gateway with keys, plans and logs, in front of any endpoint.

`sixways:api` says which gateway, and holds its inputs (`api_settings.py`). With `sixways:models`
the stack also serves them on this machine, and the gateway stands in front of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pulumi

from settings import Settings
from ways import local
from ways.api_settings import Parts


@dataclass(frozen=True)
class Gateway:
    """What callers see."""

    url: pulumi.Output[str]
    health_url: pulumi.Output[str]
    api_key: pulumi.Output[str]
    bundle_digest: pulumi.Output[str]
    dashboard: pulumi.Output[str]


def deploy(settings: Settings) -> Gateway:
    """The endpoint, where this stack has one, and the gateway.

    Raises:
        InputsRefused: settings are wrong; carries every problem, and nothing was created.
    """
    parts = Parts(settings)
    parts.refuse()

    behind = local.deploy(replace(settings, own={}, api_key=None)) if settings.models else None
    upstream = (behind.url, behind.api_key) if behind else None
    gateway: Any = parts.component("gateway", parts.gateway(upstream))
    pulumi.export("api_keys", gateway.api_keys)
    if parts.certificate:
        pulumi.export("certificate", gateway.certificate)
    none = pulumi.Output.from_input("")
    return Gateway(
        gateway.url,
        gateway.health_url,
        gateway.api_key,
        behind.bundle_digest if behind else getattr(gateway, "bundle_digest", none),
        gateway.dashboard,
    )
