"""`examples/sagemaker-in-your-repo` with the wheel alone, in an environment of its own."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from sixways_bundle import Manifest
from sixways_bundle.build import Request, build
from tests.aws.sagemaker_memory import SageMakerMemory
from tests.aws.server import Aws
from tests.aws.wheel import ROOT, build_wheel, environment_with
from tests.engine.deployment import MINILM
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_EXAMPLE = ROOT / "examples" / "sagemaker-in-your-repo"
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sixways@sha256:{'2' * 64}"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the example with a `venv` that holds the wheel and what it asks for."""
    folder = tmp_path / "repository"
    shutil.copytree(_EXAMPLE, folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
    wheel = build_wheel(tmp_path)
    (requirement,) = (folder / "requirements.txt").read_text().splitlines()
    environment_with(folder / "venv", f"{requirement} @ {wheel.as_uri()}")
    return folder


def test_the_example_runs_from_the_wheel_alone(
    aws: Aws, memory: SageMakerMemory, aws_env: dict[str, str], repository: Path
) -> None:
    bundle = build(
        Request(name="minilm", source=MINILM["source"], variants=(MINILM["variant"],))
    ).path
    digest = Manifest.load(bundle).digest
    environment = {name: value for name, value in aws_env.items() if name != "PYTHONPATH"}
    # Our plugin comes from the wheel's environment; the stand-ins' packages from the tests' one.
    environment["PATH"] = f"{repository / 'venv' / 'bin'}:{environment['PATH']}"
    for name in ("PULUMI_AWS_PYTHON", "PULUMI_AWS_NATIVE_PYTHON"):
        environment.setdefault(name, sys.executable)
    environment["AWS_ENDPOINT_URL"] = memory.url
    with Stack(repository, environment, name="prod", timeout_s=600) as stack:
        stack.config(image=IMAGE, bundle=str(bundle), digest=digest, email="team@example.com")
        stack.up("--skip-preview")
        outputs = stack.outputs()
        assert outputs["endpoint_name"] == "search-prod-search"
        assert outputs["digest"] == digest
        found = aws.client("sagemaker").describe_endpoint(EndpointName="search-prod-search")
        assert found["EndpointStatus"] == "InService"
        stack.up("--expect-no-changes")
    assert aws.left() == []


def test_the_program_of_the_readme_is_accepted(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    program = next(block for block in blocks if "SageMakerEndpoint" in block)
    bundle = f'Bundle("minilm", {{"source": {MINILM["source"]!r}}})'
    (project / "__main__.py").write_text(
        f"from sixways import Bundle\nIMAGE = {IMAGE!r}\nbundle = {bundle}\n{program}"
    )
    with Stack(project, aws_env) as stack:
        assert "SageMakerEndpoint search create" in stack.preview().stdout
