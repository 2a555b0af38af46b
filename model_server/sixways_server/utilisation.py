"""What the server takes of its machine, read when metrics are asked for.

prometheus_client's own collector sees one process. A server has more: workers, and a process
that decodes for each language model. So the figures here are of all of them together, under the
same names. Processors, memory, disks and accelerators are the machine's, whoever uses them; in a
container they are the node's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
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
_DISC_IMAGES = ("squashfs", "iso9660", "erofs")
"""Always full, and not to be written to."""
_GPU = ("hw_id", "hw_type", "hw_name")
_NPU = ("hw_id", "hw_type")


def collectors(board: Board) -> list[Collector]:
    """Those that have something to tell on this machine."""
    found: list[Collector] = [Processes(board), Machine()]
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


class Machine(Collector):
    """Processors, memory and disks, by OpenTelemetry's names (`system.cpu.time` …)."""

    def collect(self) -> Iterable[Metric]:
        """Reads them (called by the registry)."""
        import psutil

        families: list[Metric] = []
        # What a hardened host does not show is left out.
        for read in (_cpu, _memory, _disks, _filesystems):
            with contextlib.suppress(OSError, psutil.Error, NotImplementedError):
                families += read(psutil)
        return families


def _cpu(psutil: Any) -> list[Metric]:
    times = psutil.cpu_times()
    spent = CounterMetricFamily(
        "system_cpu_time_seconds", "Time that the machine's processors spent.", labels=["cpu_mode"]
    )
    for mode in ("user", "nice", "system", "idle", "iowait", "steal"):
        spent.add_metric([mode], getattr(times, mode))
    spent.add_metric(["interrupt"], times.irq + times.softirq)
    count = psutil.cpu_count() or 0
    return [spent, GaugeMetricFamily("system_cpu_logical_count", "Processors.", count)]


def _memory(psutil: Any) -> list[Metric]:
    memory = psutil.virtual_memory()
    return [
        GaugeMetricFamily("system_memory_limit_bytes", "The machine's memory.", memory.total),
        GaugeMetricFamily(
            "system_linux_memory_available_bytes",
            "Memory that programs can still have without swapping.",
            memory.available,
        ),
    ]


def _disks(psutil: Any) -> list[Metric]:
    done = psutil.disk_io_counters()
    if done is None:
        return []
    moved = CounterMetricFamily(
        "system_disk_io_bytes", "Bytes to and from the disks.", labels=["disk_io_direction"]
    )
    moved.add_metric(["read"], done.read_bytes)
    moved.add_metric(["write"], done.write_bytes)
    return [moved]


def _filesystems(psutil: Any) -> list[Metric]:
    """The one of `/`, and every other on a device, each once: a container, or a hardened unit, sees
    the same one at many places."""
    where = "system_filesystem_mountpoint"
    limit = GaugeMetricFamily(
        "system_filesystem_limit_bytes", "Size of a file system.", labels=[where]
    )
    usage = GaugeMetricFamily(
        "system_filesystem_usage_bytes",
        "Bytes of a file system; reserved: free for root alone.",
        labels=[where, "system_filesystem_state"],
    )
    mounts = [
        part.mountpoint
        for part in psutil.disk_partitions(all=False)
        if part.fstype not in _DISC_IMAGES
    ]
    seen = set()
    for mount in ["/", *sorted(mounts, key=lambda path: (len(path), path))]:
        try:
            device, found = Path(mount).stat().st_dev, os.statvfs(mount)
        except OSError:  # not for this user
            continue
        if device in seen or not found.f_blocks or not Path(mount).is_dir():
            continue
        seen.add(device)
        limit.add_metric([mount], found.f_blocks * found.f_frsize)
        states = {
            "used": found.f_blocks - found.f_bfree,
            "free": found.f_bavail,
            "reserved": found.f_bfree - found.f_bavail,
        }
        for state, blocks in states.items():
            usage.add_metric([mount, state], blocks * found.f_frsize)
    return [limit, usage]


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
