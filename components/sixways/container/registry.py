"""Repositories of a registry that the user names: how one is written, and who may push to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_docker_build as docker_build

from sixways.checks import Checks

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# "Repository names" of the OCI distribution specification, and a registry's host before it.
_REPOSITORY = re.compile(rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*")
_DOCKER_HUB = "docker.io"


def check_repository(checks: Checks, args: Mapping[str, Any]) -> None:
    """Notes what is wrong with `repository`, `username` and `password`."""
    repository = args.get("repository")
    if isinstance(repository, str) and repository and not _REPOSITORY.fullmatch(repository):
        checks.add("repository", repository, "HOST/PATH without a tag: ghcr.io/shop/server",
                   "use small letters, and remove what follows ':' or '@'")  # fmt: skip
    for field, other in (("username", "password"), ("password", "username")):
        if args.get(field) is None and args.get(other) is not None:
            checks.add(field, None, f"a value beside {other}",
                       f"add it, or remove {other} to use the login of `docker login`")  # fmt: skip


def host(repository: str) -> str:
    """The registry of a repository; a name without one is Docker Hub's."""
    first, slash, _ = repository.partition("/")
    has_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if has_host else _DOCKER_HUB


def logins(args: Mapping[str, Any]) -> list[docker_build.RegistryArgs] | None:
    """The login for pushes; None: that of `docker login` on the machine that builds."""
    if args.get("username") is None:
        return None
    repository: pulumi.Output[str] = pulumi.Output.from_input(args["repository"])
    return [
        docker_build.RegistryArgs(
            address=repository.apply(host),
            username=args["username"],
            password=pulumi.Output.secret(args["password"]),
        )
    ]
