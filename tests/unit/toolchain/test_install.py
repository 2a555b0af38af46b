"""What an install puts into the environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from toolchain import paths
from toolchain.install_pulumi import HOST_OF_CHECKOUT, install
from toolchain.routes import LANGUAGE_HOST, Cli

from tests.unit.toolchain import fakes

pytestmark = pytest.mark.unit

NEW = (3, 259, 0)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "an environment" / "bin"
    folder.mkdir(parents=True)
    return folder


def test_a_cli_with_its_own_host_is_linked_with_its_helpers(
    tmp_path: Path, environment: Path
) -> None:
    machine = tmp_path / "machine"
    pulumi = fakes.pulumi(machine, "v3.259.0")
    host = fakes.executable(machine, LANGUAGE_HOST, "exit 0")
    fakes.executable(machine, "pulumi-language-python-exec", "exit 0")
    install(Cli(pulumi, NEW, host), environment)
    assert (environment / "pulumi").resolve() == pulumi
    assert (environment / LANGUAGE_HOST).resolve() == host
    assert (environment / "pulumi-language-python-exec").exists()
    assert not (environment / HOST_OF_CHECKOUT).exists()


def test_a_built_cli_gets_our_host_beside_it(tmp_path: Path, environment: Path) -> None:
    pulumi = fakes.pulumi(tmp_path / "cache", "v3.259.0")
    install(Cli(pulumi, NEW, None), environment)
    # The engine warns unless the host on PATH is the file beside the CLI.
    assert (environment / LANGUAGE_HOST).resolve() == pulumi.parent / LANGUAGE_HOST
    script = (environment / HOST_OF_CHECKOUT).read_text()
    assert str(environment / "python") in script
    assert str(paths.CHECKOUT / "toolchain" / "language_host") in script


def test_two_environments_share_a_cli_and_each_starts_its_own_host(tmp_path: Path) -> None:
    pulumi = fakes.pulumi(tmp_path / "cache", "v3.259.0")
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        install(Cli(pulumi, NEW, None), folder)
        fakes.executable(folder, HOST_OF_CHECKOUT, f'echo {name} "$1"')
    for name in ("one", "two"):
        command = [str(tmp_path / name / LANGUAGE_HOST), "127.0.0.1:9"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [name, "127.0.0.1:9"]


def test_a_host_that_was_called_from_nowhere_says_what_is_missing(tmp_path: Path) -> None:
    pulumi = fakes.pulumi(tmp_path / "cache", "v3.259.0")
    (tmp_path / "bin").mkdir()
    install(Cli(pulumi, NEW, None), tmp_path / "bin")
    done = subprocess.run(
        [str(pulumi.parent / LANGUAGE_HOST)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath},
    )
    assert done.returncode == 1
    assert "no Python language host" in done.stderr


def test_installing_again_replaces_links_and_drops_helpers_that_are_gone(
    tmp_path: Path, environment: Path
) -> None:
    machine = tmp_path / "machine"
    host = fakes.executable(machine, LANGUAGE_HOST, "exit 0")
    helper = fakes.executable(machine, "pulumi-resource-pulumi-python", "exit 0")
    install(Cli(fakes.pulumi(machine, "v3.259.0"), NEW, host), environment)
    assert (environment / helper.name).exists()
    helper.unlink()
    install(Cli(machine / "pulumi", NEW, host), environment)
    assert not (environment / helper.name).is_symlink()
    assert [f.name for f in environment.iterdir() if f.name.startswith(".")] == []


def test_the_cache_follows_the_users_settings(tmp_path: Path) -> None:
    assert paths.cache_root({"SIXWAYS_CACHE": str(tmp_path)}) == tmp_path
    assert paths.cache_root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "sixways"
    assert paths.cache_root({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "sixways"
    expected = tmp_path / "pulumi" / paths.PULUMI_VERSION / "bin"
    assert paths.pulumi_cache({"SIXWAYS_CACHE": str(tmp_path)}) == expected
