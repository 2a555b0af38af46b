"""`ContainerImage` and `BundleImage`: inputs that are refused, and whose registry is meant."""

from __future__ import annotations

from typing import Any, cast

import pulumi
import pytest

from sixways.container import bundle_image
from sixways.container.bundle_image import BundleImageArgs
from sixways.container.image import ContainerImageArgs, problems
from sixways.container.registry import host

_DIGEST = "sha256:" + "0" * 64
_BUNDLE = {"path": "/cache/minilm", "digest": _DIGEST, "repository": "ghcr.io/shop/bundles"}


def refused(**given: Any) -> list[str]:
    return [problem.field for problem in problems("server", cast(ContainerImageArgs, given))]


@pytest.mark.parametrize(
    "given",
    [
        {"image_uri": f"localhost:5000/server@{_DIGEST}"},
        {"image_uri": f"ghcr.io/shop/server:1.0@{_DIGEST}"},
        {"repository": "ghcr.io/shop/sixways-server", "username": "me", "password": "hush"},
        {"repository": "localhost:5000/a_b/c-d.e", "platforms": ["linux/amd64", "linux/arm64"]},
        {"repository": "shop/server", "extras": ["otel"], "build_args": {"BASE": "python:3.13"}},
        {"load": True, "platforms": ["linux/arm64"]},
    ],
)
def test_good_input_is_accepted(given: dict[str, Any]) -> None:
    assert refused(**given) == []


async def test_what_is_known_only_later_is_passed_over() -> None:
    later = pulumi.Output.from_input("later")
    assert refused(repository=later, username=later, password=later) == []
    assert refused(image_uri=later) == []


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["repository"]),
        ({"repository": "ghcr.io/a/b", "load": True}, ["repository"]),
        ({"repository": "ghcr.io/a/b:1.0"}, ["repository"]),
        ({"repository": "https://ghcr.io/a/b"}, ["repository"]),
        ({"repository": "ghcr.io/Shop/Server"}, ["repository"]),
        ({"image_uri": "ghcr.io/a/b:1.0"}, ["image_uri"]),
        ({"image_uri": f"ghcr.io/a/b@{_DIGEST}", "extras": ["gpu"], "load": True},
         ["load", "extras"]),
        ({"repository": "ghcr.io/a/b", "username": "me"}, ["password"]),
        ({"repository": "ghcr.io/a/b", "password": "hush"}, ["username"]),
        ({"load": "yes"}, ["load"]),
        ({"load": True, "platforms": ["linux/amd64", "linux/arm64"]}, ["platforms"]),
        ({"load": True, "package": "sixways", "repo": "x"}, ["repo", "package"]),
    ],
)  # fmt: skip
def test_bad_input_is_named(given: dict[str, Any], fields: list[str]) -> None:
    assert refused(**given) == fields


async def test_what_the_context_is_made_of_must_be_known() -> None:
    assert refused(load=True, package=pulumi.Output.from_input("sixways==1.0")) == ["package"]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"path": ""}, ["path"]),
        ({"digest": "sha256:1"}, ["digest"]),
        ({"repository": "ghcr.io/shop/bundles:1", "username": "me"}, ["repository", "password"]),
        ({"platforms": ["linux/arm"]}, ["platforms[0]"]),
        ({"tag": "1"}, ["tag"]),
    ],
)
def test_a_bundles_image_names_bad_input_too(changes: dict[str, Any], fields: list[str]) -> None:
    args = cast(BundleImageArgs, {**_BUNDLE, **changes})
    assert [problem.field for problem in bundle_image.problems("minilm", args)] == fields


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("ghcr.io/shop/server", "ghcr.io"),
        ("localhost/server", "localhost"),
        ("registry:5000/server", "registry:5000"),
        ("shop/server", "docker.io"),
        ("server", "docker.io"),
    ],
)
def test_a_repository_says_whose_login_is_meant(repository: str, registry: str) -> None:
    assert host(repository) == registry
