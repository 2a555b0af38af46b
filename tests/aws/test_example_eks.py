"""`examples/eks-in-your-repo` with the wheel alone, in an environment of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.aws.eks_memory import remembering
from tests.aws.server import Aws
from tests.aws.wheel import ROOT, build_wheel, environment_with
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_EXAMPLE = ROOT / "examples" / "eks-in-your-repo"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the example with a `venv` that holds the wheel and what it asks for."""
    folder = tmp_path / "repository"
    shutil.copytree(_EXAMPLE, folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
    wheel = build_wheel(tmp_path)
    (requirement,) = (folder / "requirements.txt").read_text().splitlines()
    environment_with(folder / "venv", f"{requirement} @ {wheel.as_uri()}")
    return folder


def test_the_examples_cluster_runs_from_the_wheel_alone(
    aws: Aws, aws_env: dict[str, str], repository: Path
) -> None:
    environment = {name: value for name, value in aws_env.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{repository / 'venv' / 'bin'}:{environment['PATH']}"
    # The stand-in's packages come from the tests' environment.
    environment.setdefault("PULUMI_AWS_PYTHON", sys.executable)
    with remembering(aws.url) as memory:
        with Stack(repository, environment, name="prod") as stack:
            stack.run("config", "set", "--stack", "prod", "--path", "aws:endpoints[0].eks",
                      memory.url)  # fmt: skip
            stack.config(
                deploy_from="203.0.113.0/24",
                administrator="arn:aws:iam::123456789012:role/administrators",
                bucket_arn="arn:aws:s3:::bundles",
            )
            stack.up("--skip-preview")
            assert stack.outputs()["cluster_name"] == "models-prod-models"
            assert aws.client("eks").list_clusters()["clusters"] == ["models-prod-models"]
        assert aws.left() + memory.left() == []
