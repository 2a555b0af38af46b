"""What the tests on real hosts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.wheelhouse import make_wheelhouse


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every wheel of `sixways[server]` for a machine's Python; only to be read."""
    return make_wheelhouse(tmp_path_factory.mktemp("wheelhouse"))
