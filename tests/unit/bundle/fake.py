"""A model family without an engine, so that the build itself can be tested in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sixways_bundle.quantize.base import Family, Measured, Recipe, Report, Speed

GOOD = Recipe("openvino-int8", "openvino", "int8", 0.99, (), ())
QUICK = Recipe("onnx-int8", "onnx", "int8", 0.99, (), ())
BAD = Recipe("onnx-int4", "onnx", "int4", 0.99, (), ())
MANUAL = Recipe("openvino-fp32", "openvino", "fp32", 0.99, (), (), auto=False)
RECIPES = (GOOD, QUICK, BAD, MANUAL)
_QUALITY = {GOOD.name: 0.999, QUICK.name: 0.995, BAD.name: 0.95, MANUAL.name: 1.0}
_MILLISECONDS = {GOOD.name: 4.0, QUICK.name: 2.0, MANUAL.name: 1.0}


class FakeFamily(Family):
    """Counts what it is asked to do."""

    task = "embeddings"
    architecture = "fake"
    max_tokens = 16
    dimensions = 4
    reference_size = 4000

    def __init__(self) -> None:
        self.made: list[str] = []

    def write_tokenizer(self, out: Path) -> None:
        (out / "tokenizer.json").write_text("{}")

    def make(
        self, recipe: Recipe, out: Path, work: Path, report: Report
    ) -> dict[str, str | int | float | bool]:
        self.made.append(recipe.name)
        report(0.5, "making")
        (out / "model.bin").write_bytes(recipe.name.encode() * 50)
        return {"threads": 2}

    def measure(
        self,
        recipe: Recipe,
        directory: Path,
        options: Mapping[str, str | int | float | bool],
        work: Path,
        report: Report,
    ) -> Measured:
        value = _QUALITY[recipe.name]
        return Measured("cosine", value, value - 0.01, 200, "the worst sentence of all")

    def time(
        self,
        candidates: Mapping[str, tuple[Recipe, Path, Mapping[str, str | int | float | bool]]],
        report: Report,
    ) -> dict[str, Speed]:
        return {n: Speed(_MILLISECONDS[n], {"batch 1": _MILLISECONDS[n]}) for n in candidates}
