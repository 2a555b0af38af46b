"""The program of the stacks, as Pulumi runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def program_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program's modules are found as they are when Pulumi runs it; no test leaves any."""
    monkeypatch.syspath_prepend(str(ROOT / "infra"))
    yield
    pulumi.runtime.set_all_config({})
    for name in [n for n in sys.modules if n == "settings" or n.partition(".")[0] == "ways"]:
        sys.modules.pop(name)
