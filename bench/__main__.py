"""Runs all measurements, prints tables and writes `docs/benchmarks/local.json`."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.quantization import build_all, build_auto
from bench.start import start_to_ready
from sixways_bundle.build import Result
from sixways_bundle.report import machine

_OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "local.json"
_TOOLS = ("openvino", "openvino-genai", "onnxruntime", "nncf", "torch", "torchao")


def main() -> None:
    """Builds, measures, prints, writes."""
    console = Console(width=160)
    console.print(f"machine: {machine()}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="sixways-bench-") as folder:
        console.print("build every variant from nothing", highlight=False)
        results = build_all(Path(folder))
        for name, result in results.items():
            console.print(_quantization_table(name, result))
        console.print("start to ready", highlight=False)
        starts = start_to_ready(build_auto(Path(folder)))
        table = Table("model", "seconds, median (min to max)", title="process start to ready")
        for name, figure in starts.items():
            table.add_row(name, str(figure))
        console.print(table)
        _OUT.parent.mkdir(parents=True, exist_ok=True)
        _OUT.write_text(
            json.dumps(
                {
                    "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
                    "machine": machine(),
                    "tools": {tool: version(tool) for tool in _TOOLS},
                    "start_to_ready_seconds": {n: f.as_dict() for n, f in starts.items()},
                    "variants": {n: _rows(r) for n, r in results.items()},
                },
                indent=2,
            )
            + "\n"
        )
    console.print(f"written: {_OUT.relative_to(_OUT.parents[2])}", highlight=False)


def _rows(result: Result) -> list[dict[str, object]]:
    return [
        {
            "variant": row.variant,
            "megabytes": row.megabytes,
            "times_smaller": row.times_smaller,
            "metric": row.quality.metric,
            "quality": row.quality.value,
            "worst": row.quality.worst,
            "samples": row.quality.samples,
            "milliseconds": row.milliseconds,
            "chosen_by_auto": row.reason.startswith("fastest"),
        }
        for row in result.report.candidates
    ]


def _quantization_table(name: str, result: Result) -> Table:
    rows = result.report.candidates
    shapes = list(dict.fromkeys(shape for row in rows for shape in row.milliseconds))
    peak = result.report.peak_memory_bytes / 1e9
    table = Table(title=f"{name}: built in {result.report.seconds:.0f} s, peak {peak:.1f} GB")
    for column in ("variant", "MB", "times smaller", "quality", "worst", *shapes, ""):
        table.add_column(column, justify="left" if column in {"variant", ""} else "right")
    for row in rows:
        table.add_row(
            row.variant,
            f"{row.megabytes:.1f}",
            f"{row.times_smaller:.2f}",
            f"{row.quality.metric} {row.quality.value:.4f}",
            f"{row.quality.worst:.4f}",
            *(f"{row.milliseconds.get(shape, float('nan')):.2f}" for shape in shapes),
            "auto" if row.reason.startswith("fastest") else "",
        )
    return table


if __name__ == "__main__":
    main()
