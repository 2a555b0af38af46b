"""Opens a language model variant for continuous batching with OpenVINO GenAI."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.runtime import telemetry
from sixways_bundle.runtime.base import usable_threads

if TYPE_CHECKING:
    from openvino_genai import (  # type: ignore[import-untyped]
        ContinuousBatchingPipeline,
    )

MODEL = "openvino_model.xml"
MAX_RUNNING = 64
"""Requests that share a step; more wait."""
_BLOCK_TOKENS = 32  # OpenVINO's CPU plugin keeps keys and values in blocks of so many tokens
_SHARE = 0.25  # of the memory that is free, for keys and values
_MOST_GB = 4.0
_GB = 10**9
_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
# Version 2 and version 1 of control groups: where this process's group stands, its files, and
# the lines of its memory.stat that count file contents the kernel gives back when asked.
_CGROUPS = (
    (r"^0::/(.*)$", "/sys/fs/cgroup", "memory.max", "memory.current",
     ("inactive_file", "active_file")),
    (r"^\d+:memory:/(.*)$", "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
     "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)  # fmt: skip


def open_pipeline(
    directory: Path,
    *,
    threads: int | None = None,
    cache_gb: float | None = None,
    exact: bool = False,
) -> ContinuousBatchingPipeline:
    """Opens the variant in `directory`. It takes and gives token ids: it has no tokenizer.

    Args:
        directory: the variant's folder, already verified.
        threads: processor threads to use; None: all this process may run on.
        cache_gb: memory for keys and values in 10^9 bytes; None: a quarter of what is free,
            at most 4. It is taken only as it is used.
        exact: compute in float32 throughout: how a build measures its reference.

    Raises:
        MissingExtra: OpenVINO GenAI is not installed.
        BundleError: the variant cannot be opened.
    """
    telemetry.switch_off()
    try:
        import openvino_genai
    except ImportError:
        raise MissingExtra("serving a language model", "server") from None
    path = directory / MODEL
    if not path.is_file():
        raise BundleError(
            "the variant cannot be opened",
            [Problem("variant", str(directory), f"a folder with {MODEL}",
                     "build the bundle again")],
        )  # fmt: skip
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    scheduler.max_num_seqs = MAX_RUNNING
    if cache_gb is None:
        cache_gb = default_cache_gb()
    block = _bytes_of_a_block(path)
    if block:
        scheduler.num_kv_blocks = max(1, int(cache_gb * _GB / block))
    else:
        scheduler.cache_size = max(1, round(cache_gb))
    try:
        return openvino_genai.ContinuousBatchingPipeline(
            directory, scheduler, "CPU", dict(_EXACT) if exact else _properties(threads)
        )
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot open {directory}: {_last_line(error)}") from None


def default_cache_gb() -> float:
    """Memory for keys and values, in 10^9 bytes, where nobody says how much."""
    return min(_MOST_GB, _SHARE * memory_available() / _GB)


def _bytes_of_a_block(model: Path) -> int:
    """Memory of one block of keys and values over all layers; 0 if the graph does not say.

    With 8 bits, keys carry a float32 scale and zero point for each channel of a block, values
    for each token.
    """
    states = re.findall(r'variable_shape="\?,(\d+),\?,(\d+)"', model.read_text(encoding="utf-8"))
    total = 0.0
    for heads, size in states:  # keys and values in turn: the mean of both layouts is exact
        keys = (_BLOCK_TOKENS + 8) * int(size)
        values = _BLOCK_TOKENS * (int(size) + 8)
        total += int(heads) * (keys + values) / 2
    return int(total)


def memory_available() -> int:
    """Bytes this process may still take: the machine's, or less where a cgroup limits it."""
    available = 0
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    for pattern, root, limit_name, used_name, cached in _CGROUPS:
        found = re.search(pattern, own, re.MULTILINE)
        folder = Path(root) / (found.group(1) if found else "")
        for group in (folder, *folder.parents):
            limit, used = group / limit_name, group / used_name
            if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
                held = int(used.read_text()) - _cached(group / "memory.stat", cached)
                available = min(available, max(0, int(limit.read_text()) - held))
    return available


def _cached(stat: Path, names: Collection[str]) -> int:
    """Bytes of file contents: a model that was read a moment ago counts as used until then."""
    if not stat.is_file():
        return 0
    lines = (line.split() for line in stat.read_text(encoding="ascii").splitlines())
    return sum(int(value) for name, value in lines if name in names)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _properties(threads: int | None) -> dict[str, Any]:
    # 8-bit keys and values take half the memory of 16-bit ones. Conversions of float16 files ask
    # for 16 bits, so all variants are told. Where a processor has bfloat16 OpenVINO would compute
    # in it, and one bundle would answer differently from machine to machine. Float32 costs nothing
    # for one stream and up to a sixth of the speed for 32.
    chosen: dict[str, Any] = {"KV_CACHE_PRECISION": "u8", "INFERENCE_PRECISION_HINT": "f32"}
    # OpenVINO counts the host's processors; a container may use fewer of them.
    chosen["INFERENCE_NUM_THREADS"] = usable_threads(threads)
    return chosen
