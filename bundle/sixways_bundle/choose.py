"""Chooses among the variants that were made: thresholds first, then the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import FileEntry, Quality
from sixways_bundle.quantize.base import Family, Recipe, Report, Speed
from sixways_bundle.report import Candidate

AUTO = "auto"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to build.

    `variants` are variant names; `auto` stands for the fastest candidate on this machine that
    holds its threshold. `quality_threshold` replaces the recipes' own (a mean cosine for
    encoders, a perplexity ratio for LLMs).
    """

    name: str
    source: str
    variants: tuple[str, ...] = (AUTO,)
    quality_threshold: float | None = None


Progress = Callable[[str, float, str], None]
"""Told the step (`openvino-int8`), how far it is (0 to 1) and what it is doing."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A made and measured variant in the cache, before a threshold is applied."""

    metric: str
    value: float
    worst: float
    samples: int
    worst_sample: str
    options: dict[str, str | int | float | bool]
    tools: dict[str, str]
    files: tuple[FileEntry, ...]


def choose(
    request: Request,
    family: Family,
    chosen: Sequence[Recipe],
    artifacts: dict[str, tuple[Path, Artifact]],
    failed: dict[str, str],
    tell: Progress,
) -> list[Candidate]:
    """Applies thresholds, and lets the clock decide where `auto` was asked for.

    `failed` gives the reason for each candidate of `auto` that has no artifact.
    """
    explicit = set(request.variants)
    quality = {recipe.name: _quality(request, recipe, artifacts[recipe.name][1])
               for recipe in chosen}  # fmt: skip
    under = [r for r in chosen if r.name in explicit and not quality[r.name].holds]
    if under:
        raise BundleError(
            f"bundle {request.name} was not built: quality under the threshold",
            [_quality_problem(quality[r.name], r, artifacts[r.name][1]) for r in under],
        )
    holding = {r.name: (r, artifacts[r.name][0], artifacts[r.name][1].options)
               for r in chosen if quality[r.name].holds}  # fmt: skip
    speeds: dict[str, Speed] = {}
    fastest = ""
    if AUTO in explicit:
        if not any(r.auto for r, _, _ in holding.values()):
            raise BundleError(
                f"bundle {request.name} was not built: no candidate holds the threshold",
                [_quality_problem(quality[r.name], r, artifacts[r.name][1]) for r in chosen]
                + [Problem("variant", name, f"one that can be made ({reason})",
                           "name the variant to see the whole error")
                   for name, reason in failed.items()],
            )  # fmt: skip
        speeds = family.time(holding, step_report(tell, AUTO, 0.0, 1.0))
        fastest = min(
            (name for name in speeds if holding[name][0].auto),
            key=lambda name: speeds[name].score_ms,
        )
        tell(AUTO, 1.0, f"{fastest} is the fastest that holds its threshold")
    rows = []
    for recipe in chosen:
        size = size_of(artifacts[recipe.name][0])
        speed = speeds.get(recipe.name)
        if recipe.name == fastest:
            reason = "fastest that holds the threshold"
        elif recipe.name in explicit:
            reason = "asked for by name"
        elif not quality[recipe.name].holds:
            reason = "quality under the threshold"
        else:
            reason = "slower"
        rows.append(
            Candidate(
                variant=recipe.name,
                megabytes=round(size / 1e6, 2),
                times_smaller=round(family.reference_size / size, 2),
                quality=quality[recipe.name],
                score_ms=round(speed.score_ms, 3) if speed else None,
                milliseconds={k: round(v, 3) for k, v in speed.detail.items()} if speed else {},
                chosen=recipe.name == fastest or recipe.name in explicit,
                reason=reason,
            )
        )
    return rows


def _quality(request: Request, recipe: Recipe, artifact: Artifact) -> Quality:
    threshold = request.quality_threshold
    return msgspec.convert(
        {
            "metric": artifact.metric,
            "value": artifact.value,
            "worst": artifact.worst,
            "threshold": recipe.threshold if threshold is None else threshold,
            "samples": artifact.samples,
        },
        Quality,
    )


def _quality_problem(quality: Quality, recipe: Recipe, artifact: Artifact) -> Problem:
    relation = "at least" if quality.metric == "cosine" else "at most"
    return Problem(
        f"quality_threshold of {recipe.name}",
        f"{quality.metric} {quality.value:.4f}",
        f"{relation} {quality.threshold:g} over {quality.samples} samples "
        f"(worst {quality.worst:.4f}: {artifact.worst_sample!r})",
        "choose another variant, or lower quality_threshold if that is good enough for you",
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_of(folder))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def step_report(tell: Progress, step: str, start: float, end: float) -> Report:
    return lambda fraction, message: tell(step, start + (end - start) * fraction, message)
