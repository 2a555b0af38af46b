"""The variables and the state folder of stack dev."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from toolchain.environment import ensure_state, export_lines, full_environment, variables
from toolchain.paths import StateFiles

pytestmark = pytest.mark.unit

AWKWARD = "it's a $HOME `path` #1"


@pytest.fixture
def files(tmp_path: Path) -> StateFiles:
    return StateFiles.of(tmp_path / AWKWARD)


def test_the_passphrase_is_random_private_and_made_once(tmp_path: Path) -> None:
    files = StateFiles.of(tmp_path / "one")
    assert ensure_state(files)
    first = files.passphrase.read_text()
    assert len(first.strip()) >= 32
    assert stat.S_IMODE(files.passphrase.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.root.stat().st_mode) == 0o700
    assert not ensure_state(files)
    assert files.passphrase.read_text() == first
    other = StateFiles.of(tmp_path / "two")
    ensure_state(other)
    assert other.passphrase.read_text() != first


def test_every_line_is_an_export_that_a_shell_reads_back_exactly(
    files: StateFiles, tmp_path: Path
) -> None:
    ensure_state(files)
    bin_folder = tmp_path / AWKWARD / "bin"
    lines = export_lines(files, bin_folder)
    assert all(line.startswith("export ") for line in lines)
    script = "\n".join([*lines, 'for n in "$@"; do eval "printf \'%s\\n\' \\"\\$$n\\""; done'])
    expected = variables(files)
    done = subprocess.run(
        ["sh", "-c", script, "sh", *expected, "PATH"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == [*expected.values(), f"{bin_folder}:/usr/bin:/bin"]


def test_no_variable_holds_the_passphrase_itself(files: StateFiles, tmp_path: Path) -> None:
    ensure_state(files)
    secret = files.passphrase.read_text().strip()
    assert secret not in "\n".join(export_lines(files, tmp_path))
    assert variables(files)["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(files.passphrase)


def test_the_backend_is_a_url_even_for_an_awkward_path(files: StateFiles) -> None:
    url = variables(files)["PULUMI_BACKEND_URL"]
    assert url.startswith("file:///")
    assert " " not in url
    assert "#" not in url


def test_a_passphrase_or_stack_of_the_users_shell_does_not_win(
    files: StateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another project's")
    monkeypatch.setenv("PULUMI_STACK", "production")
    environment = full_environment(files, tmp_path / "bin")
    assert "PULUMI_CONFIG_PASSPHRASE" not in environment
    assert "PULUMI_STACK" not in environment
    assert environment["PATH"].startswith(f"{tmp_path / 'bin'}:")
