"""`examples/server-in-your-repo` with the wheel alone: what it would make, without any host."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.aws.wheel import ROOT, build_wheel, environment_with
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.engine
_EXAMPLE = ROOT / "examples" / "server-in-your-repo"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA root"


def test_the_settings_of_its_readme_show_what_it_would_make_on_two_hosts(
    pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(_EXAMPLE, folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
    (requirement,) = (folder / "requirements.txt").read_text().splitlines()
    wheel = build_wheel(tmp_path)
    binaries = environment_with(folder / "venv", f"{requirement} @ {wheel.as_uri()}")
    environment = {name: value for name, value in pulumi_env.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{binaries}:{environment['PATH']}"
    with Stack(folder, environment, name="prod") as stack:
        for line in re.findall(r"^pulumi (config set .*)$", _readme(), flags=re.MULTILINE):
            *command, value = shlex.split(line)
            stack.run(*command, "--", value)
        said = stack.preview().stdout
    for kind, name in (("Host", "one"), ("Release", "one-release"), ("Site", "two-site")):
        assert f"sixways:server:{kind} search-{name} create" in said, said
    assert "search-certificate" not in said, "each host gets its own from the authority"


def _readme() -> str:
    """Its commands, with what they take from hosts and bundles filled in."""
    text = (_EXAMPLE / "README.md").read_text().replace("sha256:...", f"sha256:{'0' * 64}")
    return re.sub(r'"\$\(ssh [^)]*\)"', f'"{_KEY}"', text)
