"""One file a way; each is about a screen and shows how its component is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pulumi

from settings import Settings
from ways import local


class Endpoint(Protocol):
    """What every way ends in."""

    url: pulumi.Output[str]
    health_url: pulumi.Output[str]
    api_key: pulumi.Output[str]
    bundle_digest: pulumi.Output[str]
    dashboard: pulumi.Output[str]


WAYS: dict[str, Callable[[Settings], Endpoint]] = {"local": local.deploy}
