"""What the server takes of its machine, read when metrics are asked for.

prometheus_client's own collector sees one process. A server has more: workers, and a process
that decodes for each language model. So the figures here are of all of them together, under the
same names. Accelerators are the machine's, whoever uses them.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sixways_server.board import Board

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_NVML = "libnvidia-ml.so.1"
_ACCELERATORS = Path("/sys/class/accel")
_GPU = ("hw_id", "hw_type", "hw_name")
_NPU = ("hw_id", "hw_type")


def collectors(board: Board) -> list[Collector]:
    """Those that have something to tell on this machine."""
    found: list[Collector] = [Processes(board)]
    gpus = Gpus.here()
    if gpus is not None:
        found.append(gpus)
    if _ACCELERATORS.is_dir():
        found.append(Npus(_ACCELERATORS))
    return found


class Processes(Collector):
    """Processor time, memory, threads and open files of all processes of the server.

    Args:
        board: knows the first process, whose descendants the others are.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """Reads them (called by the registry)."""
        import psutil

        seconds = 0.0
        resident = virtual = threads = files = count = 0
        try:
            main = psutil.Process(self._board.pid)
            processes = [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        for process in processes:
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    here = process.num_threads(), process.num_fds()
            except psutil.Error:  # ended since
                continue
            # Those of children that ended count as well: the sum does not fall with them.
            seconds += times.user + times.system + times.children_user + times.children_system
            resident += memory.rss
            virtual += memory.vms
            threads += here[0]
            files += here[1]
            count += 1
        self._board.seconds = seconds = max(seconds, self._board.seconds)
        return [
            CounterMetricFamily(
                "process_cpu_seconds", "Processor time of all processes of the server.", seconds
            ),
            GaugeMetricFamily(
                "process_resident_memory_bytes",
                "Memory of all processes of the server; what they share counts for each.",
                resident,
            ),
            GaugeMetricFamily(
                "process_virtual_memory_bytes", "Address space of all processes.", virtual
            ),
            GaugeMetricFamily("process_open_fds", "Open files of all processes.", files),
            GaugeMetricFamily("process_threads", "Threads of all processes.", threads),
            GaugeMetricFamily(
                "process_start_time_seconds",
                "When the server started (Unix time).",
                self._board.started,
            ),
            GaugeMetricFamily(
                "sixways_processes", "Processes of the server: workers, decoding.", count
            ),
        ]


class Gpus(Collector):
    """NVIDIA's devices that this process may see, through NVML.

    Args:
        nvml: NVIDIA's module `pynvml`, initialized.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    @classmethod
    def here(cls) -> Gpus | None:
        """None where there is no such device, no driver, or no `pynvml` (extra `gpu`)."""
        try:
            # Where there is no driver its large module need not be imported.
            ctypes.CDLL(_NVML)
            import pynvml
        except (OSError, ImportError):
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml) if pynvml.nvmlDeviceGetCount() else None
        except pynvml.NVMLError:
            return None

    def collect(self) -> Iterable[Metric]:
        """Reads them (called by the registry)."""
        nvml = self._nvml
        families = [GaugeMetricFamily(name, text, labels=_GPU) for name, text, _ in _READINGS]
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            labels = (nvml.nvmlDeviceGetUUID(device), "gpu", nvml.nvmlDeviceGetName(device))
            for family, (_, _, read) in zip(families, _READINGS, strict=True):
                # Not every device tells everything: a part of one (MIG) has no power of its own.
                with contextlib.suppress(nvml.NVMLError):
                    family.add_metric(labels, read(nvml, device))
        return families


_READINGS: tuple[tuple[str, str, Callable[[Any, Any], float]], ...] = (
    (
        "hw_gpu_utilization_ratio",
        "Share of the time in which the GPU computed.",
        lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
    ),
    (
        "hw_gpu_memory_usage_bytes",
        "Memory of the GPU that is in use.",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).used,
    ),
    (
        "hw_gpu_memory_limit_bytes",
        "Memory of the GPU.",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).total,
    ),
    (
        "hw_temperature_celsius",
        "Temperature of the GPU.",
        lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    ),
    (
        "hw_power_watts",
        "Power that the GPU takes.",
        lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
    ),
)


class Npus(Collector):
    """Neural processors as Linux shows them: attributes of Intel's driver ivpu.

    Args:
        folder: `/sys/class/accel`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Reads them (called by the registry)."""
        busy = CounterMetricFamily(
            "sixways_npu_busy_seconds", "Time in which the NPU computed.", labels=_NPU
        )
        memory = GaugeMetricFamily(
            "sixways_npu_memory_usage_bytes", "Memory that the NPU's jobs take.", labels=_NPU
        )
        for device in sorted(self._folder.glob("accel*/device")):
            labels = (device.parent.name, "npu")
            microseconds = _number(device / "npu_busy_time_us")
            if microseconds is not None:
                busy.add_metric(labels, microseconds / 1e6)
            size = _number(device / "npu_memory_utilization")
            if size is not None:
                memory.add_metric(labels, size)
        return [family for family in (busy, memory) if family.samples]


def _number(path: Path) -> int | None:
    """None where the driver does not tell: another one, or an older one."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
