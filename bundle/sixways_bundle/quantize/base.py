"""What the build asks of a model family, and how a variant is described before it exists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sixways_bundle.manifest import Engine

Report = Callable[[float, str], None]
"""Told how far a step is (0 to 1) and what it is doing, in a few words."""


@dataclass(frozen=True)
class Recipe:
    """How one variant is made. Plain facts: describing a variant imports no engine.

    Attributes:
        name: the variant's name, `<engine>-<precision>`.
        engine: the engine that serves it.
        precision: what weights and activations become, in a few words.
        threshold: the quality it must reach unless the user says otherwise (see `Quality`).
        modules: import names of the libraries that make and measure it.
        tools: distributions whose versions decide the result; recorded in the manifest.
        auto: whether `auto` considers it.
        extra: the extra of `sixways` that brings the modules.
    """

    name: str
    engine: Engine
    precision: str
    threshold: float
    modules: tuple[str, ...]
    tools: tuple[str, ...]
    auto: bool = True
    extra: str = "quantize"


@dataclass(frozen=True)
class Measured:
    """Quality as measured, before a threshold is applied; `worst_sample` is a text to show."""

    metric: Literal["cosine", "perplexity_ratio"]
    value: float
    worst: float
    samples: int
    worst_sample: str


@dataclass(frozen=True)
class Speed:
    """Time of one variant on this machine; `score_ms` decides (smaller is faster).

    `detail` holds the single figures in milliseconds by what was run, e.g. `batch 8`.
    """

    score_ms: float
    detail: Mapping[str, float]


class Family(ABC):
    """One model, opened from its source for a build: makes, measures and times its variants.

    Intermediate results (an export that several recipes start from) go below `work`, which the
    build removes at the end.
    """

    task: str
    architecture: str
    max_tokens: int
    dimensions: int
    eos_token_ids: tuple[int, ...] = ()
    reference_size: int
    """Bytes of the source's weights."""

    @abstractmethod
    def write_tokenizer(self, out: Path) -> None:
        """Writes `tokenizer.json` and, for chat, `chat_template.jinja` into `out`.

        A model over tensors has none and writes nothing.
        """

    @abstractmethod
    def make(
        self, recipe: Recipe, out: Path, work: Path, report: Report
    ) -> dict[str, str | int | float | bool]:
        """Writes the variant's files into `out` and returns what the runtime must be told."""

    @abstractmethod
    def measure(
        self,
        recipe: Recipe,
        directory: Path,
        options: Mapping[str, str | int | float | bool],
        work: Path,
        report: Report,
    ) -> Measured:
        """Compares the variant in `directory` with the unquantized model."""

    @abstractmethod
    def time(
        self,
        candidates: Mapping[str, tuple[Recipe, Path, Mapping[str, str | int | float | bool]]],
        report: Report,
    ) -> dict[str, Speed]:
        """Runs all candidates in turns (A B C A B C …) so that a drifting machine is fair to all.

        Args:
            candidates: by variant name: its recipe, folder and options.
        """
