"""A private Pulumi for each test: own state, own home, own passphrase."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toolchain.environment import ensure_state, full_environment
from toolchain.paths import StateFiles, venv_bin


@pytest.fixture
def pulumi_env(tmp_path: Path) -> dict[str, str]:
    """The environment of `pulumi` for this test: what `make -s env` gives, below `tmp_path`."""
    files = StateFiles(tmp_path / "pulumi")
    ensure_state(files)
    environment = full_environment(files, venv_bin())
    # Neither a debugger nor tracing that a developer has switched on may change what is asserted.
    for name in [name for name in os.environ if name.startswith("PULUMI_DEBUG")]:
        environment.pop(name, None)
    return environment
