"""How long `pulumi preview` of stack `cloud` takes, from the start of the command to its end.

Against the AWS server and the plugins that the tests of tier `aws` use; the bundle is built before.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.table import Table
from tests.aws.server import serve_aws
from tests.conftest import private_pulumi
from tests.engine.pulumi_stack import Stack

from bench.figures import Figure

_ROOT = Path(__file__).parents[1]
# The build of the image is measured by nobody here: a preview with it builds the image.
_IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sixways@sha256:{'1' * 64}"


def previews(rounds: int = 5) -> tuple[dict[str, Figure], int]:
    """Seconds of a preview, by endpoint, and the number of resources of the larger stack."""
    endpoints = {
        "sagemaker": {"variants": [{"instanceType": "ml.c6i.xlarge"}]},
        "ec2": {
            "instanceType": "c6i.xlarge",
            "certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/"
            "12345678-1234-1234-1234-123456789012",
            "allowedCidrs": ["203.0.113.0/24"],
            "amiId": "ami-0123456789abcdef0",  # the local AWS has none of Debian
        },
    }
    seconds: dict[str, list[float]] = {name: [] for name in endpoints}
    resources = 0
    with tempfile.TemporaryDirectory() as folder, serve_aws(Path(folder)) as aws:
        work = Path(folder) / "checkout"
        shutil.copytree(_ROOT / "infra", work / "infra")
        shutil.copy(_ROOT / "Pulumi.yaml", work)
        (work / ".venv").symlink_to(sys.prefix)
        environment = {**private_pulumi(Path(folder) / "pulumi"), **aws.environment}
        stacks = {name: Stack(work, environment, name=name) for name in endpoints}
        for name, stack in stacks.items():
            stack.run("stack", "init", name)
            _use(stack, {name: endpoints[name]})
        for turn in range(rounds + 1):
            for name, stack in stacks.items():
                began = time.perf_counter()
                done = stack.preview()
                if turn:  # the first one builds the bundle and reads everything from disk
                    seconds[name].append(time.perf_counter() - began)
                resources = max(resources, done.stdout.count(" create"))
    return {name: Figure.of(values) for name, values in seconds.items()}, resources


def table(found: dict[str, Figure], resources: int) -> Table:
    """The figures, for people."""
    shown = Table("stack cloud", "seconds, median (min to max)", title="pulumi preview")
    for name, figure in found.items():
        shown.add_row(name, str(figure))
    shown.caption = f"up to {resources} resources"
    return shown


def _use(stack: Stack, endpoint: dict[str, object]) -> None:
    config = yaml.safe_load((_ROOT / "infra" / "stacks" / "cloud.yaml").read_text())["config"]
    own = {k: v for k, v in config["sixways:cloud"].items() if k not in ("sagemaker", "image")}
    if "sagemaker" in endpoint:
        own["image"] = {"imageUri": _IMAGE}
    config["sixways:cloud"] = {**own, **endpoint}
    (stack.project / f"Pulumi.{stack.name}.yaml").write_text(yaml.safe_dump({"config": config}))
