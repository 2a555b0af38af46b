"""One AWS server a file of tests; a private Pulumi that is led to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.sagemaker_memory import SageMakerMemory, remembering
from tests.aws.server import Aws, serve_aws


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """An empty AWS on this machine, for the tests of one file."""
    with serve_aws(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(scope="module")
def memory(aws: Aws) -> Iterator[SageMakerMemory]:
    """The same AWS through a door that keeps what moto forgets of SageMaker."""
    with remembering(aws.url) as memory:
        yield memory


@pytest.fixture
def aws_env(aws: Aws, pulumi_env: dict[str, str]) -> dict[str, str]:
    """The environment of a `pulumi` whose AWS is `aws`."""
    return {**pulumi_env, **aws.environment}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a Pulumi project whose program is `__main__.py`; the test writes that."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    return folder
