"""What the server takes of its machine."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.registry import Collector

from sixways_server import utilisation
from sixways_server.board import Board
from sixways_server.utilisation import Gpus, Machine, Npus, Processes
from tests.unit.server.conftest import Process

Launch = Callable[..., Process]


def samples(collector: Collector) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        family.name: [(one.labels, one.value) for one in family.samples]
        for family in collector.collect()
    }


def one(collector: Collector, name: str) -> float:
    ((_, value),) = samples(collector)[name]
    return value


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process below this one that holds 50 MB and has used some processor time."""
    code = "x = b'a' * 50_000_000; sum(range(10_000_000)); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_children_count_as_what_they_are_part_of_the_server(
    child: subprocess.Popen[bytes],
) -> None:
    alone, both = psutil.Process(), psutil.Process(child.pid)
    processes = Processes(Board())
    assert one(processes, "sixways_processes") >= 2
    memory = one(processes, "process_resident_memory_bytes")
    assert memory >= 0.9 * (alone.memory_info().rss + both.memory_info().rss)
    assert one(processes, "process_threads") >= alone.num_threads() + both.num_threads()
    assert one(processes, "process_open_fds") >= alone.num_fds() + both.num_fds() - 2
    times = both.cpu_times()
    assert one(processes, "process_cpu_seconds") >= times.user + times.system


def test_processor_time_does_not_fall_when_a_process_ends(child: subprocess.Popen[bytes]) -> None:
    board = Board()
    before = one(Processes(board), "process_cpu_seconds")
    child.kill()
    # Nobody waited for it yet, so its time is in no figure of the kernel's that we add up.
    assert one(Processes(board), "process_cpu_seconds") >= before
    board.seconds = before + 1000
    assert one(Processes(board), "process_cpu_seconds") == before + 1000


def test_the_process_that_decodes_is_in_the_servers_memory(launch: Launch) -> None:
    # A child as engines of language models have one, without such a model.
    prelude = """
import subprocess, sys, sixways_server.serving as s
real = s.open_model
def open_model(model, config):
    subprocess.Popen([sys.executable, "-c", "x = b'a' * 300_000_000; input()"], stdin=-1)
    return real(model, config)
s.open_model = open_model
"""
    process = launch(prelude, models=[{"name": "mini", "path": "dummy:embeddings"}])
    url = process.wait_for("ready")["url"]

    def memory() -> float:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        (line,) = [x for x in lines if x.startswith("process_resident_memory_bytes ")]
        return float(line.split()[1])

    for _ in range(100):
        if memory() > 300_000_000:
            break
    assert 300_000_000 < memory() < 600_000_000


class NVMLError(Exception):
    """As NVIDIA's module has one."""


def fake_nvml(**changes: Any) -> types.ModuleType:
    """NVIDIA's module with two devices, the second of which tells little."""
    module = types.ModuleType("pynvml")

    def unsupported(device: int) -> Any:
        raise NVMLError("Not Supported")

    def power(device: int) -> int:
        return 75_500 if device == 0 else unsupported(device)

    def rates(device: int) -> Any:
        return types.SimpleNamespace(gpu=42) if device == 0 else unsupported(device)

    functions: dict[str, Any] = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda device: f"GPU-{device}",
        "nvmlDeviceGetName": lambda device: "H100",
        "nvmlDeviceGetUtilizationRates": rates,
        "nvmlDeviceGetMemoryInfo": lambda device: types.SimpleNamespace(used=10, total=80),
        "nvmlDeviceGetTemperature": lambda device, kind: 61,
        "nvmlDeviceGetPowerUsage": power,
        **changes,
    }
    for name, value in functions.items():
        setattr(module, name, value)
    return module


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if NVIDIA's driver were installed: any library that can be opened will do."""
    monkeypatch.setattr(utilisation, "_NVML", None)


def test_every_gpu_tells_what_it_can(monkeypatch: pytest.MonkeyPatch, driver: None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    gpus = Gpus.here()
    assert gpus is not None
    found = samples(gpus)
    first = {"hw_id": "GPU-0", "hw_type": "gpu", "hw_name": "H100"}
    second = {**first, "hw_id": "GPU-1"}
    assert found == {
        "hw_gpu_utilization_ratio": [(first, 0.42)],
        "hw_gpu_memory_usage_bytes": [(first, 10), (second, 10)],
        "hw_gpu_memory_limit_bytes": [(first, 80), (second, 80)],
        "hw_temperature_celsius": [(first, 61), (second, 61)],
        "hw_power_watts": [(first, 75.5)],
    }


def fails() -> None:
    raise NVMLError("Driver/library version mismatch")


@pytest.mark.parametrize(
    "module", [fake_nvml(nvmlInit=fails), fake_nvml(nvmlDeviceGetCount=lambda: 0), None]
)
def test_without_a_gpu_that_works_nothing_is_told_or_printed(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    driver: None,
    module: types.ModuleType | None,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert Gpus.here() is None
    assert capfd.readouterr() == ("", "")


def test_without_a_driver_its_module_is_not_even_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utilisation, "_NVML", "libnot-there.so.1")
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=lambda: pytest.fail("asked")))
    assert Gpus.here() is None


def test_npus_are_read_where_the_driver_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, files in {
        "accel0": {"npu_busy_time_us": "1500000\n", "npu_memory_utilization": "4096\n"},
        "accel1": {"npu_busy_time_us": "7\n"},  # an older driver
        "accel2": {"vendor": "0x1002\n"},  # another one
    }.items():
        (tmp_path / name / "device").mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / name / "device" / file).write_text(content)
    assert samples(Npus(tmp_path)) == {
        "sixways_npu_busy_seconds": [
            ({"hw_id": "accel0", "hw_type": "npu"}, 1.5),
            ({"hw_id": "accel1", "hw_type": "npu"}, 7e-6),
        ],
        "sixways_npu_memory_usage_bytes": [({"hw_id": "accel0", "hw_type": "npu"}, 4096)],
    }
    monkeypatch.setattr(utilisation, "_ACCELERATORS", tmp_path)
    assert any(isinstance(one, Npus) for one in utilisation.collectors(Board()))
    monkeypatch.setattr(utilisation, "_ACCELERATORS", tmp_path / "none")
    assert not any(isinstance(one, Npus) for one in utilisation.collectors(Board()))


def test_a_server_that_is_gone_tells_nothing() -> None:
    board = Board()
    board.pid = 2**22 + 1  # more than any process has
    assert samples(Processes(board)) == {}
    assert os.getpid() != board.pid


def test_the_machine_tells_processors_memory_and_each_file_system_once() -> None:
    found = samples(Machine())
    spent = {labels["cpu_mode"]: value for labels, value in found["system_cpu_time_seconds"]}
    assert spent["idle"] > 0
    assert spent["user"] > 0
    assert found["system_cpu_logical_count"] == [({}, psutil.cpu_count())]
    assert found["system_memory_limit_bytes"] == [({}, psutil.virtual_memory().total)]
    ((_, available),) = found["system_linux_memory_available_bytes"]
    assert 0 < available < psutil.virtual_memory().total

    places = [labels["system_filesystem_mountpoint"]
              for labels, _ in found["system_filesystem_limit_bytes"]]  # fmt: skip
    assert places[0] == "/"
    devices = [Path(place).stat().st_dev for place in places]
    assert len(set(devices)) == len(devices)
    limits = {labels["system_filesystem_mountpoint"]: value
              for labels, value in found["system_filesystem_limit_bytes"]}  # fmt: skip
    for place in places:
        states = [value for labels, value in found["system_filesystem_usage_bytes"]
                  if labels["system_filesystem_mountpoint"] == place]  # fmt: skip
        assert len(states) == 3
        assert sum(states) == limits[place]


def test_what_a_hardened_host_hides_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> Any:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", hidden)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    found = samples(Machine())
    assert "system_cpu_time_seconds" not in found
    assert "system_disk_io_bytes" not in found
    assert found["system_memory_limit_bytes"][0][1] > 0
