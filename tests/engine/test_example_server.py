"""`examples/server-in-your-repo` with the wheel alone, in an environment of its own."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from sixways_bundle import Manifest
from sixways_bundle.build import Request
from sixways_bundle.worker import build_in_child
from tests.aws.wheel import ROOT, build_wheel, environment_with
from tests.engine.deployment import MINILM
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.engine
_EXAMPLE = ROOT / "examples" / "server-in-your-repo"
_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKPmBFdLGp3aDx+k7R1w0DKkfxBRDqZNSQr5JX0UzPUM root"


def test_the_settings_of_its_readme_are_a_plan_for_both_hosts(
    tmp_path: Path, pulumi_env: dict[str, str]
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(_EXAMPLE, folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
    (requirement,) = (folder / "requirements.txt").read_text().splitlines()
    wheel = build_wheel(tmp_path)
    binaries = environment_with(folder / "venv", f"{requirement} @ {wheel.as_uri()}")
    bundle = build_in_child(
        Request(name="minilm", source=MINILM["source"], variants=(MINILM["variant"],))
    ).path
    given = {"bundle": str(bundle), "digest": Manifest.load(bundle).digest}
    environment = {name: value for name, value in pulumi_env.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{binaries}:{environment['PATH']}"
    with Stack(folder, environment, name="prod") as stack:
        for line in re.findall(r"^pulumi (config set .*)$", _readme(), flags=re.MULTILINE):
            *command, key, value = shlex.split(line)
            stack.run(*command, key, "--", given.get(key, value))
        said = stack.preview().stdout
    assert "not looked at yet" in said  # nobody is at the addresses
    for name in ("search-one-release", "search-two-release", "search-two-site"):
        assert name in said


def _readme() -> str:
    """What it says, with the key of a host in the place of how it is read there."""
    text = (_EXAMPLE / "README.md").read_text()
    return re.sub(r'"\$\(ssh [^)]*\)"', f'"{_HOST_KEY}"', text)
