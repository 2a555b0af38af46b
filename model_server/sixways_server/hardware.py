"""What this machine computes with: processor, GPUs, NPUs. Reads files, imports no engine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from sixways_bundle.runtime.base import usable_threads
from sixways_bundle.runtime.llm import memory_available

# As Linux names them (arch/x86/include/asm/cpufeatures.h; arm64's hwcaps) and as people do.
_INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "AVX512-BF16", "avx512_fp16": "AVX512-FP16", "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16", "asimd": "NEON", "asimddp": "DOTPROD", "i8mm": "I8MM", "bf16": "BF16",
    "sve": "SVE",
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What there is.

    Attributes:
        processor: its name.
        instructions: vector and matrix instructions that engines make use of.
        threads: processors this process may use, by its affinity and cgroup.
        processors: processors of the machine.
        memory_bytes: memory this process may still take.
        gpus: names of CUDA GPUs.
        npus: device files of NPUs.
    """

    processor: str
    instructions: tuple[str, ...]
    threads: int
    processors: int
    memory_bytes: int
    gpus: tuple[str, ...]
    npus: tuple[str, ...]


def machine(root: Path = Path("/")) -> Machine:
    """Looks around; what cannot be read counts as absent. `root` stands before all paths."""
    name, flags = _processor(root / "proc/cpuinfo")
    try:
        memory = memory_available()
    except (OSError, ValueError):
        memory = 0
    return Machine(
        processor=name,
        instructions=tuple(text for flag, text in _INSTRUCTIONS.items() if flag in flags),
        threads=usable_threads(None),
        processors=os.cpu_count() or 1,
        memory_bytes=memory,
        gpus=cuda_gpus(root),
        npus=tuple(str(path) for path in sorted((root / "dev/accel").glob("accel*"))),
    )


def cuda_gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the NVIDIA GPUs this process can open; none where only the driver is there."""
    devices = sorted((root / "dev").glob("nvidia[0-9]*"))
    names = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        for line in _read(information).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.append(value.strip())
    # A container may be given fewer than the machine has, and then its list says too much.
    return tuple(names) if len(names) == len(devices) else tuple(path.name for path in devices)


def _processor(info: Path) -> tuple[str, set[str]]:
    first = _read(info).split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = fields.get("flags") or fields.get("Features") or ""
    name = fields.get("model name") or platform.processor() or platform.machine()
    return name, set(flags.split())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
