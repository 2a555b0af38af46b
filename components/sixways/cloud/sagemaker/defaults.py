"""What an input means that was left out; each default stands here once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pulumi

from sixways.cloud.sagemaker.args import SageMakerEndpointArgs, SageMakerVariantArgs
from sixways.cloud.sagemaker.modes import REAL_TIME, SERVERLESS, TO_ZERO

SHARED = "shared"
"""The one production variant of an endpoint whose components share instances."""

LONGEST_NAME = 63
"""Characters of a name in SageMaker's API."""

VPC_CIDR = "10.60.0.0/16"
FOR_CALLERS = ("sagemaker.runtime", "sts")
"""What callers in the VPC need: the endpoint itself, and credentials of their roles."""
FOR_CONTAINERS = ("logs", "monitoring", "kms")
"""What a container without isolation may call. Images, bundles and logs need no interface endpoint:
SageMaker pulls and writes them outside of the VPC, but for S3, which has its gateway."""

LOG_RETENTION_DAYS = 30
STARTUP_SECONDS = 600
DOWNLOAD_SECONDS = 900
MEMORY_MB = 4096
MAX_CONCURRENCY = 20


def mode(args: SageMakerEndpointArgs) -> str:
    """How the endpoint is called."""
    return args.get("mode", REAL_TIME)


def endpoint_name(name: str, args: SageMakerEndpointArgs) -> str:
    """The endpoint's name in AWS, known before it exists."""
    given = args.get("endpoint_name")
    if given is not None:
        return given
    whole = re.sub(r"[^A-Za-z0-9]+", "-", f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}")
    return whole.strip("-")[:LONGEST_NAME].strip("-")


def component_name(endpoint_name: str, model: str) -> str:
    """The inference component's name, unique in the account and region, at most 63 characters."""
    name = f"{endpoint_name}-{model}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].rstrip('-')}-{digest}"


def log_groups(name: str, args: SageMakerEndpointArgs) -> dict[str, str]:
    """Where SageMaker writes what the containers print, each under the name of its resource.

    The endpoint's own comes first. An inference component's containers write to a group of their
    own.
    """
    called = endpoint_name(name, args)
    groups = {f"{name}-log": f"/aws/sagemaker/Endpoints/{called}"}
    if mode(args) == TO_ZERO:
        for variant in map(variant_name, args["variants"]):
            component = component_name(called, variant)
            groups[f"{name}-{variant}-log"] = f"/aws/sagemaker/InferenceComponents/{component}"
    return groups


def variant_name(variant: SageMakerVariantArgs) -> str:
    """The variant's name in the endpoint."""
    return variant.get("name", "main")


def is_shadow(variant: SageMakerVariantArgs) -> bool:
    """Whether it only gets copies of requests."""
    return variant.get("shadow", False)


def in_production(variants: Sequence[SageMakerVariantArgs]) -> list[SageMakerVariantArgs]:
    """The variants whose answers reach the callers."""
    return [variant for variant in variants if not is_shadow(variant)]


def instance_count(variant: SageMakerVariantArgs, args: SageMakerEndpointArgs) -> pulumi.Input[int]:
    """Instances at the start: one that fails must leave another."""
    return variant.get("instance_count", 1 if args.get("dev") else 2)


def isolation(args: SageMakerEndpointArgs) -> bool:
    """Whether the containers have no network."""
    return args.get("network_isolation", mode(args) != SERVERLESS)


def in_vpc(args: SageMakerEndpointArgs) -> bool:
    """Whether the containers stand in a VPC of the account."""
    return bool(args.get("create_vpc")) or args.get("vpc_id") is not None


def interface_endpoints(args: SageMakerEndpointArgs) -> tuple[str, ...]:
    """The AWS services that are reached from inside a VPC of the endpoint's own."""
    given = args.get("interface_endpoints")
    if given is not None:
        return tuple(given)
    return FOR_CALLERS if isolation(args) else (*FOR_CALLERS, *FOR_CONTAINERS)
