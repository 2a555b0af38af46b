"""Instance types: what each has, and which variants of a bundle it can run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from botocore.loaders import Loader

SAGEMAKER_PREFIX = "ml."


@dataclass(frozen=True)
class Instance:
    """One instance type.

    Attributes:
        name: as EC2 calls it (`c6i.xlarge`).
        vcpus: virtual CPUs.
        memory_mib: main memory.
        architecture: `x86_64` or `arm64`.
        accelerator: its maker (`nvidia`, `amd`, `neuron` …), empty where there is none.
        accelerators: how many.
        accelerator_memory_mib: memory of all of them together.
    """

    name: str
    vcpus: int
    memory_mib: int
    architecture: str
    accelerator: str
    accelerators: int
    accelerator_memory_mib: int


@cache
def _table() -> dict[str, Instance]:
    text = (resources.files(__package__) / "data" / "instance_types.csv").read_text("utf-8")
    found = {}
    for name, vcpus, memory, architecture, maker, count, maker_memory in list(
        csv.reader(text.splitlines())
    )[1:]:
        found[name] = Instance(
            name, int(vcpus), int(memory), architecture, maker, int(count), int(maker_memory)
        )
    return found


def instance(name: str) -> Instance | None:
    """What is known of an instance type, with or without SageMaker's `ml.`; None: nothing."""
    return _table().get(name.removeprefix(SAGEMAKER_PREFIX))


@cache
def sagemaker_types() -> frozenset[str]:
    """The instance types that SageMaker hosts models on, by botocore's model of its API."""
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    return frozenset(shapes["ProductionVariantInstanceType"]["enum"])


def why_not(instance_type: str, variant: str, size: int | None = None) -> str | None:
    """Why an instance type cannot run a variant; None where it can, or nothing is known of it.

    Args:
        instance_type: EC2's or SageMaker's name.
        variant: the variant's name, which begins with its engine (`openvino-int8`).
        size: bytes of the variant's files.
    """
    machine = instance(instance_type)
    if machine is None:
        return None
    engine = variant.partition("-")[0]
    if engine == "vllm" and machine.accelerator != "nvidia":
        return f"vLLM needs an NVIDIA GPU, and {instance_type} has none"
    if machine.accelerator not in ("", "nvidia"):
        return f"{instance_type} has accelerators ({machine.accelerator}) that no engine here uses"
    if size is None:
        return None
    # The least that holds in any case: the weights themselves.
    gpu = engine == "vllm"
    have = (machine.accelerator_memory_mib if gpu else machine.memory_mib) * 2**20
    if size > have:
        where = "GPU memory" if gpu else "memory"
        return (
            f"the files of {variant} alone are {size / 1e9:.1f} GB, "
            f"and {instance_type} has {have / 1e9:.1f} GB of {where}"
        )
    return None
