"""The wheel carries the chart, and the component finds it there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sixways.container.chart import chart_folder
from tests.aws.wheel import build_wheel

pytestmark = pytest.mark.cluster


def test_the_chart_of_the_wheel_is_the_repositorys(tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        wheel.extractall(site)
    code = "from sixways.container.chart import chart_folder; print(chart_folder())"
    found = Path(
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True,
            env={"PYTHONPATH": str(site)},
        ).stdout.strip()
    )  # fmt: skip
    assert found == site / "sixways" / "container" / "chart"
    ours = chart_folder()
    files = {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()}
    assert {path.relative_to(found) for path in found.rglob("*") if path.is_file()} == files
    for path in files:
        assert (found / path).read_bytes() == (ours / path).read_bytes()
    subprocess.run(["helm", "lint", "--strict", str(found)], check=True, capture_output=True)
