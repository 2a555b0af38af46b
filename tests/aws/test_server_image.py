"""`ServerImage` against ECR: what stands there, what was pushed, what a change does.

The builds are real, of a small Dockerfile; `tests/image` runs the real one. moto's ECR takes no
pushes, so they go to a registry on this machine, as `DOCKER_BUILD_STANDIN_REGISTRY` tells the
docker-build plugin that stands in for Pulumi's.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import ACCOUNT, REGION, Aws
from tests.conftest import require
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
DIGEST = "sha256:" + "a" * 64
_DOCKERFILE = """
FROM python:3.12-slim-bookworm
ARG GREETING
COPY serve requirements.txt /
RUN echo "${GREETING}" > /greeting.txt
"""
_PROGRAM = """
import json
import pulumi
from sixways.cloud import ServerImage

for name, args in json.loads(pulumi.Config().require("images")).items():
    image = ServerImage(name, args)
    for output in ("image_uri", "digest", "repository_arn", "repository_name"):
        pulumi.export(f"{name}.{output}", getattr(image, output))
"""


@pytest.fixture
def registry() -> str:
    """host:port of the registry that takes the pushes."""
    known = os.environ.get("DOCKER_BUILD_STANDIN_REGISTRY")
    require("image", None if known else "DOCKER_BUILD_STANDIN_REGISTRY names no registry")
    return str(known)


@pytest.fixture
def dockerfile(project: Path) -> Path:
    (project / "__main__.py").write_text(_PROGRAM)
    path = project / "small.Dockerfile"
    path.write_text(_DOCKERFILE)
    return path


def images(stack: Stack, **given: dict[str, Any]) -> None:
    """Sets the components of the program and their inputs."""
    stack.config(images=json.dumps(given))


def pushed(registry: str, repository: str, reference: str) -> str | None:
    """The digest of what the registry has under a tag or a digest."""
    request = urllib.request.Request(
        f"http://{registry}/v2/{repository}/manifests/{reference}",
        method="HEAD",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:
        digest: str = answer.headers["Docker-Content-Digest"]
        return digest
    return None


def build(stack: Stack, name: str = "server") -> dict[str, Any]:
    """The build of a component, as the state has it."""
    parent = f"sixways:cloud:ServerImage$docker-build:index:Image::{name}-image"
    (found,) = [r for r in stack.resources() if r["urn"].endswith(parent)]
    return found


def test_an_image_is_pushed_by_digest_into_a_repository_that_keeps_tags_and_scans(
    aws: Aws, aws_env: dict[str, str], project: Path, dockerfile: Path, registry: str
) -> None:
    small = {"dockerfile": "small.Dockerfile", "repository_name": "shop/server"}
    with Stack(project, aws_env) as stack, contextlib.closing(aws.client("ecr")) as ecr:
        images(stack, server={**small, "build_args": {"GREETING": "hello"}, "keep_images": 7,
                              "tags": {"team": "search"}})  # fmt: skip
        stack.up("--skip-preview")
        first = stack.outputs()
        assert first["server.image_uri"] == f"{HOST}/shop/server@{first['server.digest']}"
        assert first["server.repository_name"] == "shop/server"
        assert pushed(registry, "shop/server", first["server.digest"]) == first["server.digest"]

        found = ecr.describe_repositories()["repositories"]
        server, cache = sorted(found, key=lambda one: one["imageTagMutability"])
        assert server["repositoryArn"] == first["server.repository_arn"]
        assert server["imageTagMutability"] == "IMMUTABLE"
        assert server["imageScanningConfiguration"] == {"scanOnPush": True}
        assert server["encryptionConfiguration"]["encryptionType"] == "KMS"
        assert cache["imageTagMutability"] == "MUTABLE"
        assert cache["repositoryName"].startswith("server-cache-")
        tags = ecr.list_tags_for_resource(resourceArn=server["repositoryArn"])["tags"]
        assert tags == [{"Key": "team", "Value": "search"}]
        policy = ecr.get_lifecycle_policy(repositoryName="shop/server")["lifecyclePolicyText"]
        selections = [rule["selection"] for rule in json.loads(policy)["rules"]]
        assert [(one["tagStatus"], one["countNumber"]) for one in selections] == [
            ("untagged", 14),
            ("any", 7),
        ]
        image = build(stack)
        assert "ciphertext" in image["inputs"]["registries"]
        ref = f"{cache['repositoryUri']}:cache"
        assert image["inputs"]["cacheFrom"] == [{"registry": {"ref": ref}}]
        assert image["inputs"]["cacheTo"][0]["registry"]["ref"] == ref
        assert image["inputs"]["platforms"] == ["linux/amd64"]

        # Nothing changed, though every file of the context was looked at again.
        stack.up("--expect-no-changes")

        # Another argument: the same resource, another image under another tag.
        images(stack, server={**small, "build_args": {"GREETING": "moin"}, "keep_images": 7,
                              "tags": {"team": "search"}})  # fmt: skip
        assert "1 to update" in stack.preview().stdout.replace("~ ", "")
        stack.up("--skip-preview")
        second, changed = stack.outputs(), build(stack)
        assert changed["urn"] == image["urn"]
        assert changed["created"] == image["created"]
        assert changed["inputs"]["tags"] != image["inputs"]["tags"]
        assert second["server.digest"] != first["server.digest"]
        tag = changed["inputs"]["tags"][0].rpartition(":")[2]
        assert pushed(registry, "shop/server", tag) == second["server.digest"]
        # What ran before can still be pulled.
        assert pushed(registry, "shop/server", first["server.digest"]) == first["server.digest"]

        # Another content and another name in one go: the old repository is gone, all is pushed.
        dockerfile.write_text(_DOCKERFILE + "LABEL more=yes\n")
        images(stack, server={**small, "repository_name": "shop/other"})
        stack.up("--skip-preview")
        third = stack.outputs()
        assert third["server.image_uri"] == f"{HOST}/shop/other@{third['server.digest']}"
        assert third["server.digest"] not in (first["server.digest"], second["server.digest"])
        assert pushed(registry, "shop/other", third["server.digest"]) == third["server.digest"]
        names = {one["repositoryName"] for one in ecr.describe_repositories()["repositories"]}
        assert names == {"shop/other", cache["repositoryName"]}
    assert aws.left() == []
    assert pushed(registry, "shop/other", third["server.digest"]) is None


def test_an_existing_repository_and_an_existing_image_are_used_and_not_owned(
    aws: Aws, aws_env: dict[str, str], project: Path, dockerfile: Path, registry: str
) -> None:
    # A program in a folder of its own: its relative paths start there, the context's too.
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\nmain: infra\n")
    (project / "infra").mkdir()
    for path in (dockerfile, project / "__main__.py"):
        path.rename(project / "infra" / path.name)
    with contextlib.closing(aws.client("ecr")) as ecr:
        mine = ecr.create_repository(repositoryName="mine")["repository"]
        native = {**aws_env, "DOCKER_BUILD_STANDIN_NATIVE_ONLY": "1"}
        with Stack(project, native) as stack:
            given = f"{HOST}/theirs/server:1.0@{DIGEST}"
            images(
                stack,
                pushed={"dockerfile": "small.Dockerfile", "existing_repository": "mine",
                        "cache": False},
                both={"dockerfile": "small.Dockerfile", "existing_repository": "mine",
                      "platforms": ["linux/amd64", "linux/arm64"]},
                given={"image_uri": given},
            )  # fmt: skip
            stack.up("--skip-preview")
            outputs = stack.outputs()
            assert outputs["pushed.image_uri"] == f"{HOST}/mine@{outputs['pushed.digest']}"
            assert outputs["pushed.repository_arn"] == mine["repositoryArn"]
            assert outputs["given.image_uri"] == given
            assert outputs["given.digest"] == DIGEST
            assert outputs["given.repository_name"] == "theirs/server"
            assert outputs["given.repository_arn"] == ""
            assert aws.left() == ["ecr repositories mine"]
            one, both = (build(stack, name)["inputs"] for name in ("pushed", "both"))
            assert one["context"]["location"] == "../.sixways/image/test/pushed"
            assert both["platforms"] == ["linux/amd64", "linux/arm64"]
            assert "cacheTo" not in both
            # One source, one repository, two images: their tags differ.
            assert one["tags"] != both["tags"]
            stack.up("--expect-no-changes")
        assert aws.left() == ["ecr repositories mine"]
        ecr.delete_repository(repositoryName="mine")


def test_wrong_inputs_are_refused_together_and_nothing_is_created(
    aws: Aws, aws_env: dict[str, str], project: Path, dockerfile: Path
) -> None:
    with Stack(project, aws_env) as stack:
        images(stack, server={"platforms": ["linux/arm"], "keep_images": 0, "repository_name": "A"})
        done = stack.up("--skip-preview", check=False)
        assert done.returncode != 0
        for field in ("platforms[0]", "keep_images", "repository_name"):
            assert f"- {field}: " in done.stdout
        assert "Traceback" not in done.stdout
        images(stack, server={"package": "absent.whl"})
        done = stack.up("--skip-preview", check=False)
        assert "package: 'absent.whl' is not accepted" in done.stdout
        assert aws.left() == []
