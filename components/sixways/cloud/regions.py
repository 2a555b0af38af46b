"""Regions: which there are, and which one a program runs in."""

from __future__ import annotations

from functools import cache

import pulumi
from botocore.loaders import Loader
from botocore.regions import EndpointResolver

from sixways.checks import Checks


@cache
def regions(service: str) -> tuple[str, ...]:
    """The regions of all partitions that have the service, by botocore's own data."""
    # Without a session, whose import takes longer than all else here.
    loader = Loader()
    known = EndpointResolver(loader.load_data("endpoints"))
    prefix = loader.load_service_model(service, "service-2")["metadata"]["endpointPrefix"]
    found: set[str] = set()
    for partition in known.get_available_partitions():
        found.update(known.get_available_endpoints(prefix, partition_name=partition))
    return tuple(sorted(found))


def configured_region() -> str | None:
    """The region of the stack's AWS provider, as far as the stack's settings name it."""
    return pulumi.Config("aws").get("region")


def check_region(checks: Checks, region: object, service: str, field: str = "region") -> None:
    """The region, where it is given and plain, is one that has the service."""
    if isinstance(region, str) and region not in regions(service):
        near = [r for r in regions(service) if r.split("-")[0] == region.split("-")[0]]
        known = ", ".join(near or regions(service))
        checks.add(field, region, known, "pulumi config set aws:region REGION")
