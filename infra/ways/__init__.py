"""One file a way; each is about a screen and shows how its component is used."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

import pulumi

from settings import Settings


class Endpoint(Protocol):
    """What every way ends in."""

    url: pulumi.Output[str]
    health_url: pulumi.Output[str]
    api_key: pulumi.Output[str]
    bundle_digest: pulumi.Output[str]
    dashboard: pulumi.Output[str]


def deploy(settings: Settings) -> Endpoint:
    """Deploys the stack's way. Only that way's file, and its SDK, is loaded."""
    return cast(Endpoint, import_module(f"ways.{settings.way}").deploy(settings))
