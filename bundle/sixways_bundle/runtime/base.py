"""What every runtime offers."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_CGROUPS = Path("/sys/fs/cgroup")

NUMBERS = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
"""numpy's names of the types that tensors of models over tensors have, beside `str`."""


class InputRefused(Exception):
    """The engine itself does not compute these tensors, mostly because of their shapes.

    Carries the engine's own words: for a log, not for whoever sent the tensors.
    """


class EncoderRuntime(ABC):
    """An encoder that is open and can compute. Not thread-safe: one call at a time."""

    device: str = "CPU"
    """What computes, as its engine names it."""

    @abstractmethod
    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Sentence embeddings, pooled and normalized as the model was trained.

        Args:
            input_ids: token ids, shape (batch, length), padded at the right.
            attention_mask: 1 for a token, 0 for padding, same shape.

        Returns:
            One row of length 1 an input, shape (batch, dimensions).
        """

    @abstractmethod
    def close(self) -> None:
        """Gives the memory back. The runtime must not be used afterwards."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    Attributes:
        name: its name in the model.
        dtype: numpy's name of its type (`float32`, `int64`, `bool` …); `str` for texts.
        shape: its axes; -1 is any length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class TensorRuntime(ABC):
    """A model from tensors to tensors that is open and can compute. One call at a time."""

    device: str = "CPU"
    """What computes, as its engine names it."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @abstractmethod
    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name, from every input by name; they fit `inputs` (checked before).

        The arrays are the caller's: the next call does not change them.

        Raises:
            InputRefused: the engine does not compute these (axes that do not fit each other).
        """

    @abstractmethod
    def close(self) -> None:
        """Gives the memory back. The runtime must not be used afterwards."""


def usable_threads(threads: int | None) -> int:
    """`threads`, or as many as this process may use: its affinity and its cgroup's quota.

    A container with two of a host's 64 processors sees all 64; an engine that starts 64 threads
    there is stopped by the kernel most of the time.
    """
    if threads:
        return threads
    allowed = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _cgroup_quota(own: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> float | None:
    """Processors that cgroups grant this process (version 2: `cpu.max`, version 1:
    `cpu.cfs_quota_us`); None: no limit that we can see."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # another system
        return None
    granted = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        # Each group above may grant less. A container without a cgroup namespace reads its host's
        # path and sees only its own group, as the root.
        folder = mount / group.lstrip("/")
        for one in (folder, *folder.parents):
            if not one.is_relative_to(mount):
                break
            processors = _granted(one)
            if processors is not None:
                granted.append(processors)
    return min(granted, default=None)


def _granted(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # the root group, or "max": no limit
        return None


def model_file(directory: Path, name: str, *others: str) -> Path:
    """The path of `directory/name`, once it and `others` are there.

    Raises:
        BundleError: one is missing; names it.
    """
    for needed in (name, *others):
        if not (directory / needed).is_file():
            raise BundleError(
                f"{directory} holds no variant that can be opened",
                [Problem("directory", str(directory), f"a folder with {needed}",
                         "check it with: sixways bundle verify; then build the bundle again")],
            )  # fmt: skip
    return directory / name


def refuse_type(path: Path, tensor: str, kind: str) -> BundleError:
    """The error for a model with an input or output that nobody could send or read."""
    return BundleError(
        f"{path} cannot be served",
        [Problem(tensor, kind, "a tensor of numbers, booleans or texts",
                 "export the model with inputs and outputs of these types")],
    )  # fmt: skip
