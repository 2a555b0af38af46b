"""The Makefile and the install script: what a newcomer meets first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toolchain.paths import CHECKOUT

from tests.unit.toolchain import fakes

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is a stand-in, so that nothing is installed."""
    root = tmp_path / "check out"
    shutil.copytree(
        CHECKOUT / "toolchain", root / "toolchain", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, root / name)
    return root


def make(checkout: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": path or os.environ["PATH"],
        "HOME": str(checkout.parent),
        "LC_ALL": "C",
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def installed(checkout: Path) -> None:
    venv_bin = checkout / ".venv" / "bin"
    venv_bin.mkdir(parents=True)
    # Run our modules with a real Python that believes to live in this environment.
    code = (
        "import runpy, sys; sys.executable = sys.argv[1]; sys.argv = sys.argv[3:]; "
        'sys.path.insert(0, ""); runpy.run_module(sys.argv[0], run_name="__main__")'
    )
    real = shutil.which("python3")
    fakes.executable(venv_bin, "python", f'exec {real} -c \'{code}\' "$0" "$@"')
    fakes.pulumi(venv_bin, "v3.259.0")
    (checkout / ".venv" / ".installed").touch()


def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    listed = make(checkout).stdout
    for target in ("install", "up", "down", "env", "check", "test", "bench", "clean-help"):
        assert re.search(rf"make {target} ", listed)


def test_env_prints_nothing_but_export_lines(checkout: Path) -> None:
    installed(checkout)
    done = make(checkout, "-s", "env")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    assert str(checkout / ".sixways" / "passphrase") in done.stdout


def test_an_install_that_is_current_is_not_repeated(checkout: Path) -> None:
    installed(checkout)
    assert "install.sh" not in make(checkout, "-n", "up").stdout
    (checkout / ".venv" / "bin" / "pulumi").unlink()
    assert "install.sh" in make(checkout, "-n", "up").stdout


def test_a_failed_install_leaves_no_stamp_and_prints_nothing_to_stdout(checkout: Path) -> None:
    fakes.executable(checkout / "old", "python3", '[ "$2" ] && case "$2" in *exit*) exit 1;; esac')
    done = make(checkout, "-s", "env", path=f"{checkout / 'old'}:/usr/bin:/bin")
    assert done.returncode != 0
    assert "3.11 or newer" in done.stderr
    assert done.stdout == ""
    assert not (checkout / ".venv" / ".installed").exists()


def test_a_missing_python_is_named(checkout: Path) -> None:
    done = make(checkout, "install", "PYTHON=python-of-nowhere")
    assert "python-of-nowhere is not on PATH" in done.stderr


def test_a_python_without_venv_says_which_package_has_it(checkout: Path) -> None:
    fakes.executable(checkout / "bare", "python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = make(checkout, "install", path=f"{checkout / 'bare'}:/usr/bin:/bin")
    assert "python3-venv" in done.stderr


def test_down_before_any_install_installs_nothing(checkout: Path) -> None:
    done = make(checkout, "down")
    assert done.returncode == 0, done.stderr
    assert "Nothing is up" in done.stdout
    assert not (checkout / ".venv").exists()


def test_constraints_pin_everything_and_name_no_registry() -> None:
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
