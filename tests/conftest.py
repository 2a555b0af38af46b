"""The tiers: what each needs, and whether a missing one skips its tests or fails them.

`SIXWAYS_REQUIRE=engine,...` makes the named tiers mandatory; CI sets it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def _missing_for_engine() -> str | None:
    absent = [name for name in ("pulumi", "pulumi-language-python") if not shutil.which(name)]
    return f"{' and '.join(absent)} not on PATH; run `make install`" if absent else None


# Each tier's question: what is missing here? None: nothing.
TIERS: dict[str, Callable[[], str | None]] = {"engine": _missing_for_engine}


def pytest_configure(config: pytest.Config) -> None:
    # The tools of the environment that runs the tests, whether or not it is activated.
    own = str(Path(sys.executable).parent)
    os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    unknown = _required() - TIERS.keys()
    if unknown:
        raise pytest.UsageError(
            f"SIXWAYS_REQUIRE names {', '.join(sorted(unknown))}; "
            f"the tiers are {', '.join(sorted(TIERS))}"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for tier, question in TIERS.items():
        if item.get_closest_marker(tier) is None:
            continue
        missing = question()
        if missing is None:
            continue
        if tier in _required():
            pytest.fail(f"tier {tier} is required: {missing}", pytrace=False)
        pytest.skip(f"tier {tier}: {missing}")


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get("SIXWAYS_REQUIRE", "").split(",")} - {""}
