"""`examples/server-in-your-repo`: what it would make, without any host."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.engine
_EXAMPLE = Path(__file__).parents[2] / "examples" / "server-in-your-repo"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def test_the_example_shows_what_it_would_make_on_two_hosts(
    pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(_EXAMPLE, folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
    (folder / "venv").symlink_to(Path(sys.prefix))
    with Stack(folder, pulumi_env, name="prod") as stack:
        for name, address in (("one", "192.0.2.11"), ("two", "192.0.2.12")):
            stack.run("config", "set", "--path", f"hosts.{name}", address)
            stack.run("config", "set", "--path", f"host_keys.{name}", _KEY)
        stack.config(domain="search.example.com", email="you@example.com", bundle="bundle",
                     digest=f"sha256:{'0' * 64}")  # fmt: skip
        said = stack.preview().stdout
        for kind, name in (("Host", "one"), ("Release", "one-release"), ("Site", "two-site")):
            assert f"sixways:server:{kind} search-{name} create" in said, said
        assert "search-certificate" not in said, "each host gets its own from the authority"
