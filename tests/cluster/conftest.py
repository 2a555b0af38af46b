"""A namespace a test, and a private Pulumi that is led to the cluster behind KUBECONFIG."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import kubectl


@pytest.fixture
def name() -> Iterator[str]:
    """A name for one deployment, which also names its namespace; what is left of it is removed."""
    unique = f"sixways-{secrets.token_hex(3)}"
    yield unique
    kubectl("delete", "namespace", unique, "--ignore-not-found", "--timeout=120s")


@pytest.fixture
def namespace() -> Iterator[str]:
    """An empty namespace of the test's own; its pods must be restricted ones."""
    unique = f"test-{secrets.token_hex(3)}"
    kubectl("create", "namespace", unique)
    kubectl("label", "namespace", unique, "pod-security.kubernetes.io/enforce=restricted")
    yield unique
    kubectl("delete", "namespace", unique, "--ignore-not-found", "--timeout=120s")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a Pulumi project whose program is `__main__.py`; the test writes that."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    return folder
