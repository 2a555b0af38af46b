"""`build.json`: what the machine that built a bundle measured, and what it chose from."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from sixways_bundle import cache
from sixways_bundle.manifest import Quality
from sixways_bundle.verify import BUILD_REPORT


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table that a choice was made from; times in milliseconds."""

    variant: str
    megabytes: float
    times_smaller: float
    quality: Quality
    score_ms: float | None
    milliseconds: dict[str, float]
    chosen: bool
    reason: str


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """`build.json`: what this machine measured. No part of the bundle's content.

    `seconds` is the time the build took, `peak_memory_bytes` the most its process held.
    `not_made` gives the reason for each candidate of `auto` that could not be made or measured.
    """

    bundle_digest: str
    machine: str
    seconds: float
    peak_memory_bytes: int
    candidates: tuple[Candidate, ...]
    not_made: dict[str, str] = {}


def load_report(bundle: Path) -> BuildReport | None:
    """The build report beside a manifest; None where it is missing or damaged."""
    return cache.read_note(bundle / BUILD_REPORT, BuildReport)


def machine() -> str:
    """What decides how fast a variant runs here: processor, vector instructions, cores."""
    model, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        pairs = (line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        model = fields.get("model name", model)
        present = set(fields.get("flags", "").split())
        wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
        flags = " ".join(flag for flag in wanted if flag in present)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}; {flags or 'no known vector extension'}; {cores} cores"
