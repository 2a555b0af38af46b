"""What is found of a machine, from the files of one that is not this one."""

from __future__ import annotations

from pathlib import Path

from sixways_server.hardware import cuda_gpus, machine
from sixways_server.inventory import engines


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_instructions_gpus_and_npus_are_named(tmp_path: Path) -> None:
    write(
        tmp_path / "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Good CPU\nflags\t\t: fpu avx2 amx_int8 avx512f\n\n"
        "processor\t: 1\nmodel name\t: Other\n",
    )
    write(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t Big GPU\n")
    write(tmp_path / "dev/nvidia0")
    write(tmp_path / "dev/accel/accel0")
    here = machine(tmp_path)
    assert here.processor == "Good CPU"
    assert here.instructions == ("AVX2", "AVX512", "AMX-INT8")
    assert here.gpus == ("Big GPU",)
    assert here.npus == (str(tmp_path / "dev/accel/accel0"),)
    assert 1 <= here.threads <= here.processors


def test_a_machine_that_shows_nothing_is_described_all_the_same(tmp_path: Path) -> None:
    here = machine(tmp_path)
    assert here.processor
    assert (here.instructions, here.gpus, here.npus) == ((), (), ())


def test_a_driver_without_a_device_is_no_gpu(tmp_path: Path) -> None:
    write(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: Big GPU\n")
    write(tmp_path / "dev/nvidiactl")
    assert cuda_gpus(tmp_path) == ()
    write(tmp_path / "dev/nvidia3")
    write(tmp_path / "dev/nvidia5")
    assert cuda_gpus(tmp_path) == ("nvidia3", "nvidia5")


def test_every_engine_is_listed_with_version_and_device() -> None:
    states = {(state.engine, state.tasks): state for state in engines()}
    onnx = states["onnx", ("embeddings", "tensor")]
    assert (onnx.missing, "CPU" in onnx.devices) == ("", True)
    assert onnx.version.startswith("1.")
    for state in states.values():
        assert state.missing or (state.version and state.devices)
