"""Which engines this machine has, and what each could compute on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from sixways_bundle.runtime import telemetry
from sixways_server.choice import NEEDS
from sixways_server.hardware import cuda_gpus


@dataclass(frozen=True)
class EngineState:
    """One engine.

    Attributes:
        engine: its name in variants; language models on OpenVINO need more than encoders do.
        tasks: what it serves.
        version: of the library; empty if it is not installed.
        devices: what it could compute on here.
        missing: what it lacks to serve anything; empty if nothing.
    """

    engine: str
    tasks: tuple[str, ...]
    version: str
    devices: tuple[str, ...]
    missing: str


def engines() -> list[EngineState]:
    """Every engine that sixways knows; quick, since the slow ones are not imported."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (engine, task), needs in NEEDS.items():
        found.setdefault((engine, needs.modules), []).append(task)
    return [_state(engine, tuple(tasks)) for (engine, _), tasks in found.items()]


def _state(engine: str, tasks: tuple[str, ...]) -> EngineState:
    needs = NEEDS[engine, tasks[0]]
    absent = [module for module in needs.modules if find_spec(module) is None]
    missing = ""
    if absent:
        missing = f"pip install 'sixways[{needs.extra}]'"
    elif needs.gpu and not cuda_gpus():
        missing = "a CUDA GPU"
    devices: tuple[str, ...] = ()
    if not absent:
        try:
            devices = _DEVICES.get(engine, _cpu_and_cuda)()
        # An engine that cannot even say what it runs on must not hide the others.
        except Exception as error:
            missing = f"cannot be opened: {type(error).__name__}: {error}".splitlines()[0]
    return EngineState(engine, tasks, _version(needs.modules[0]), devices, missing)


def _version(module: str) -> str:
    for distribution in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""


_DISTRIBUTIONS = {
    "openvino_genai": ("openvino-genai",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "ai_edge_litert": ("ai-edge-litert",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
}


def _openvino() -> tuple[str, ...]:
    telemetry.switch_off()
    import openvino

    core = openvino.Core()
    return tuple(
        name if name == "CPU" else f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})"
        for name in core.available_devices
    )


def _onnx() -> tuple[str, ...]:
    telemetry.switch_off()
    import onnxruntime

    # Azure's provider sends requests elsewhere: it is no device.
    names = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    return tuple(name for name in names if name != "Azure")


def _torch() -> tuple[str, ...]:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    cpu, *gpus = _cpu_and_cuda()
    return (f"{cpu} ({'can' if compiler else 'cannot'} compile)", *gpus)


def _cpu_and_cuda() -> tuple[str, ...]:
    return ("CPU", *(f"CUDA ({name})" for name in cuda_gpus()))


def _cpu() -> tuple[str, ...]:
    return ("CPU",)


def _cuda() -> tuple[str, ...]:
    return tuple(f"CUDA ({name})" for name in cuda_gpus())


_DEVICES: dict[str, Callable[[], tuple[str, ...]]] = {
    "openvino": _openvino,
    "onnx": _onnx,
    "torch": _torch,
    "litert": _cpu,
    "vllm": _cuda,
}
