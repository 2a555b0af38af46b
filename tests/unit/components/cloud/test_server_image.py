"""What `ServerImage` accepts, its lifecycle rules and its tags."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest

from sixways.cloud.server_image import ServerImageArgs, image_tag, lifecycle, problems
from sixways.image import BuildContext

URI = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/server"
DIGEST = "sha256:" + "0" * 64
CONTEXT = BuildContext(Path(), {}, "f" * 64, "1.2+local")


def found(name: str = "server", **given: Any) -> list[str]:
    return [str(problem) for problem in problems(name, cast(ServerImageArgs, given))]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"image_uri": f"{URI}@{DIGEST}", "dev": True, "tags": {"a": "b"}},
        {"image_uri": f"{URI}:1.0@{DIGEST}"},
        {"image_uri": f"localhost:5000/server@{DIGEST}"},
        {"repository_name": "team/a-b_c.d", "encryption": "AES256", "keep_images": 2},
        {"kms_key_arn": "arn:aws:kms:eu-central-1:123456789012:key/0a"},
        {"existing_repository": "mine", "cache": False, "build_args": {"BASE": "python:3.13"}},
    ],
)
def test_right_inputs_have_no_problems(given: dict[str, Any]) -> None:
    assert found(**given) == []


@pytest.mark.parametrize("uri", [URI, f"{URI}:1.0", f"{URI}@sha256:0", DIGEST, f"server@{DIGEST}"])
def test_an_image_without_a_digest_is_refused_with_the_command_that_tells_it(uri: str) -> None:
    (problem,) = found(image_uri=uri)
    assert problem.startswith(f"image_uri: '{uri}' is not accepted")
    assert "aws ecr describe-images" in problem


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep_images": 1}, "keep_images: '1' is not accepted"),
        ({"keep_images": 2.5}, "a whole number from 2"),
        ({"untagged_days": 0}, "untagged_days: '0'"),
        ({"encryption": "NONE"}, "encryption: 'NONE' is not accepted; accepted: KMS, AES256"),
        ({"encryption": "AES256", "kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/a"},
         "no key beside encryption AES256"),
        ({"kms_key_arn": "a"}, "kms_key_arn: 'a' is not accepted"),
        ({"repository_name": "Server"}, "repository_name: 'Server' is not accepted"),
        ({"repository_name": "a"}, "2 to 256"),
        ({"existing_repository": "mine", "keep_images": 3}, "remove existing_repository or"),
        ({"image_uri": f"{URI}@{DIGEST}", "platforms": ["linux/arm64"]}, "remove image_uri or"),
        ({"platform": []}, "platform: 'platform' is not accepted"),
        ({"platforms": ["windows/amd64"]}, "platforms[0]: 'windows/amd64'"),
        ({"name": "Server"}, "call the resource server"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_named(given: dict[str, Any], words: str) -> None:
    (problem,) = found(**given)
    assert words in problem


def test_all_problems_are_told_at_once() -> None:
    given = {"image_uri": "a:1", "package": "x", "keep_images": 0, "plattforms": []}
    fields = {problem.partition(":")[0] for problem in found(**given)}
    assert fields == {"image_uri", "package", "keep_images", "plattforms"}


async def test_outputs_are_left_to_the_provider_where_the_build_does_not_need_them() -> None:
    output = pulumi.Output.from_input("x")
    assert found(image_uri=output) == []
    assert found(repository_name=output, kms_key_arn=output, keep_images=output) == []
    (problem,) = found(package=output)
    assert problem.startswith("package: 'an output' is not accepted; accepted: a plain value")


def test_the_lifecycle_policy_removes_what_has_no_tag_first() -> None:
    rules = json.loads(lifecycle(14, 20))["rules"]
    assert [rule["rulePriority"] for rule in rules] == [1, 2]
    assert [rule["selection"] for rule in rules] == [
        {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": 14,
        },
        {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 20},
    ]
    assert {rule["action"]["type"] for rule in rules} == {"expire"}


def test_a_tag_names_one_build() -> None:
    def tag(name: str = "server", **changes: Any) -> str:
        given = {"context": CONTEXT, "build_args": {"A": "1"}, "platforms": ["linux/amd64"]}
        return image_tag(name, **{**given, **changes})

    assert re.fullmatch(r"1\.2-local-[0-9a-f]{16}", tag())
    assert tag() == tag()
    other = BuildContext(Path(), {}, "e" * 64, "1.2+local")
    tags = {
        tag(),
        tag(name="other"),
        tag(context=other),
        tag(build_args={"A": "2"}),
        tag(platforms=["linux/arm64"]),
    }
    assert len(tags) == 5
