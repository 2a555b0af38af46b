"""The life of an EKS cluster: made, found unchanged, scaled, upgraded, renamed, gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.eks_memory import EksMemory, remembering
from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

_PROGRAM = """
import json

import pulumi

from sixways.container import EksCluster

cluster = EksCluster("models", json.loads(pulumi.Config().require("args")))
for field in EksCluster.__annotations__:
    pulumi.export(field, getattr(cluster, field))
"""
ROLE = "arn:aws:iam::123456789012:role/team"
KEY = f"arn:aws:kms:us-east-1:123456789012:key/{'1' * 8}-1111-1111-1111-{'1' * 12}"
CPU = {"name": "cpu", "instance_types": ["m7i.large", "m6i.large"], "max_size": 6}
GPU = {"name": "gpu", "instance_types": ["g6.xlarge"], "min_size": 0, "max_size": 4}
READER = {
    "namespace": "models",
    "service_account": "sixways",
    "bucket_arn": "arn:aws:s3:::shop-bundles",
    "kms_key_arn": KEY,
}
ENTRY = {
    "name": "team", "principal_arn": ROLE, "policy": "AmazonEKSEditPolicy", "namespaces": ["models"]
}  # fmt: skip


@pytest.fixture(scope="module")
def memory(aws: Aws) -> Iterator[EksMemory]:
    with remembering(aws.url) as memory:
        yield memory


@pytest.fixture
def stack(memory: EksMemory, aws: Aws, aws_env: dict[str, str], project: Path) -> Iterator[Stack]:
    """A stack whose EKS remembers; at the end nothing of it may be left."""
    (project / "__main__.py").write_text(_PROGRAM)
    memory.calls.clear()
    with Stack(project, aws_env) as stack:
        stack.run("config", "set", "--stack", stack.name, "--path", "aws:endpoints[0].eks",
                  memory.url)  # fmt: skip
        yield stack
    assert aws.left() + memory.left() == []


def arguments(**more: Any) -> dict[str, Any]:
    return {
        "version": "1.33", "node_groups": [CPU, GPU], "access_entries": [ENTRY],
        "bundle_readers": [READER], "tags": {"team": "ml"}, **more,
    }  # fmt: skip


def give(stack: Stack, args: dict[str, Any]) -> None:
    stack.config(args=json.dumps(args))


def test_a_cluster_lives_through_updates(aws: Aws, memory: EksMemory, stack: Stack) -> None:
    give(stack, arguments())
    print(stack.up("--skip-preview").stdout)
    print(stack.outputs())
    print(stack.up("--expect-no-changes").stdout)
