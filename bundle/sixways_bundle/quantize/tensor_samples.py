"""Random inputs for a model over tensors, and how near another variant of it comes to its outputs.

What random inputs can show: that a conversion computes the same function, that quantization keeps
near it wherever the inputs fall, that nothing becomes NaN. What they cannot show: how much of its
accuracy a quantized model loses on the inputs it was trained for, which cover a small part of what
is drawn here. So only variants that keep float32 are chosen without being asked for.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.quantize.base import Measured, Report, Speed
from sixways_bundle.quantize.cosine import cosines
from sixways_bundle.runtime import InputRefused, TensorRuntime, TensorSpec

Tensors = dict[str, NDArray[Any]]
_SEED = 20_261_124
_SAMPLES = 64
# Lengths for free axes behind the first, most usual ones first, until the model takes one.
_LENGTHS = (16, 1, 32, 64, 128, 224, 256, 512, 576, 1024, 16_000)
# Whole numbers are mostly indices into tables of unknown size: bytes first, then flags.
_LIMITS = (256, 16, 2)
_MOST_ATTEMPTS = 1500
_TEXTS = ("a quiet harbour", "42", "ünïcode", "")
_SAME = 1e-4  # relative to the largest number of a row
_ROUNDS, _SECONDS = 15, 20.0


@dataclass(frozen=True)
class Samples:
    """Inputs and the outputs of the unquantized model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    given: tuple[Tensors, ...]
    expected: tuple[Tensors, ...]

    def compare(self, runtime: TensorRuntime, report: Report) -> Measured:
        """Mean and smallest cosine of all numbers of all outputs, sample by sample."""
        found = []
        for index, tensors in enumerate(self.given):
            report(index / len(self.given), "comparing with the source in its own engine")
            found.append(_flat(runtime.infer(tensors)))
        expected = [_flat(one) for one in self.expected]
        if any(one.shape != other.shape for one, other in zip(expected, found, strict=True)):
            cosine = np.full(len(found), -1.0)
        else:
            cosine = cosines(np.stack(expected).astype(np.float32), np.stack(found))
            # Nothing but zeros has no direction; where both agree on that, they agree.
            cosine[[np.array_equal(a, b) for a, b in zip(expected, found, strict=True)]] = 1.0
        report(1.0, "compared")
        worst = int(cosine.argmin())
        return Measured(
            metric="cosine",
            value=float(cosine.mean()),
            worst=float(cosine[worst]),
            samples=len(cosine),
            worst_sample=f"random input {worst} of seed {_SEED}",
        )

    def rows_are_independent(self, runtime: TensorRuntime) -> bool:
        """Whether three inputs computed as one batch come out as they do alone.

        False where a first axis is fixed, and where rows meet in the model: in a normalization
        over the batch, a scale found for all of it at once, or because the axis is no batch.
        """
        if any(spec.shape[:1] != (-1,) for spec in (*runtime.inputs, *runtime.outputs)):
            return False
        alone = self.given[:3]
        together = {name: np.concatenate([one[name] for one in alone]) for name in alone[0]}
        try:
            answer = runtime.infer(together)
            rows = [runtime.infer(one) for one in alone]
        except InputRefused:
            return False
        start = 0
        for one, tensors in zip(rows, alone, strict=True):
            end = start + len(next(iter(tensors.values())))
            for name, array in one.items():
                if len(array) != end - start or not _same(answer[name][start:end], array):
                    return False
            start = end
        return all(len(array) == start for array in answer.values())


def find_samples(runtime: TensorRuntime) -> Samples:
    """Seeded random inputs that the model takes, with its outputs.

    Raises:
        BundleError: it takes none of the shapes tried, has no output of numbers, or answers one
            input in two ways.
    """
    reason = ""
    for lengths, limit in _attempts(runtime.inputs):
        try:
            first = _flat(runtime.infer(_random(runtime.inputs, lengths, limit, 0)))
            given = [_random(runtime.inputs, lengths, limit, index) for index in range(_SAMPLES)]
            expected = [runtime.infer(tensors) for tensors in given]
            again = _flat(runtime.infer(given[0]))
        except InputRefused as error:
            reason = str(error)
            continue
        if not first.size:
            raise BundleError(
                "the model cannot be measured",
                [Problem("outputs", ", ".join(spec.name for spec in runtime.outputs),
                         "at least one output of numbers", "export it with its scores")],
            )  # fmt: skip
        if not all(np.isfinite(_flat(one)).all() for one in expected):
            reason = "its outputs are not finite"
            continue
        if not _same(again, first):
            raise BundleError(
                "the model answers one input in two ways",
                [Problem("source", "", "a model without a state between calls and without chance: "
                         "requests of many clients would share its state",
                         "export it with its state as input and output")],
            )  # fmt: skip
        return Samples(runtime.inputs, runtime.outputs, tuple(given), tuple(expected))
    raise BundleError(
        "no random input could be found that the model takes",
        [Problem("inputs", ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in runtime.inputs),
                 f"inputs whose free axes take one of the lengths {_LENGTHS} (last refusal: "
                 f"{reason.strip().splitlines()[0] if reason else 'none'})",
                 "export it with the free axes fixed that have one right length")],
    )  # fmt: skip


def _attempts(specs: Sequence[TensorSpec]) -> Iterator[tuple[Mapping[str, int], int]]:
    """Lengths by input for its free axes, and bounds of whole numbers: the likely ones first."""
    free = [spec.name for spec in specs if -1 in spec.shape[1:]]
    together = [dict.fromkeys(free, length) for length in _LENGTHS]
    apart = (
        dict(zip(free, lengths, strict=True))
        for lengths in itertools.product(_LENGTHS, repeat=len(free))
    )
    tried = itertools.chain(together, apart) if len(free) > 1 else together[: None if free else 1]
    for lengths in itertools.islice(tried, _MOST_ATTEMPTS):
        yield from ((lengths, limit) for limit in _LIMITS)


def time_tensors(
    runtimes: Mapping[str, TensorRuntime], samples: Samples, report: Report
) -> dict[str, Speed]:
    """Times all in turns, one input at a time."""
    one = samples.given[0]
    for runtime in runtimes.values():
        runtime.infer(one)
    taken: dict[str, list[float]] = {name: [] for name in runtimes}
    end = time.monotonic() + _SECONDS
    for turn in range(_ROUNDS):
        if turn >= _ROUNDS // 3 and time.monotonic() > end:
            break
        report(turn / _ROUNDS, f"timing, round {turn + 1} of {_ROUNDS}")
        for name, runtime in runtimes.items():
            runtime.infer(one)  # its caches are warm again
            start = time.perf_counter()
            runtime.infer(one)
            taken[name].append(1000 * (time.perf_counter() - start))
    report(1.0, "timed")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {name: Speed(score_ms=ms, detail={"batch 1": ms}) for name, ms in medians.items()}


def _random(
    specs: Sequence[TensorSpec], lengths: Mapping[str, int], limit: int, index: int
) -> Tensors:
    generator = np.random.default_rng((_SEED, index))
    return {spec.name: _one(spec, lengths.get(spec.name, 1), limit, generator) for spec in specs}


def _one(spec: TensorSpec, length: int, limit: int, generator: np.random.Generator) -> NDArray[Any]:
    # A free first axis is a batch more often than not: of one.
    shape = tuple(
        (1 if place == 0 else length) if axis < 0 else axis for place, axis in enumerate(spec.shape)
    )
    if spec.dtype == "str":
        return np.array(generator.choice(_TEXTS, shape), dtype=object)
    kind = np.dtype(spec.dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    if kind.itemsize == 1:  # pixels and quantized numbers use all of it
        bounds = np.iinfo(kind)
        return generator.integers(bounds.min, bounds.max + 1, shape).astype(kind)
    return generator.integers(0, limit, shape).astype(kind)


def _flat(outputs: Tensors) -> NDArray[np.float64]:
    parts = [
        outputs[name].astype(np.float64).reshape(-1)
        for name in sorted(outputs)
        if outputs[name].dtype.kind in "fiub"
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    largest = float(np.abs(other).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0, atol=_SAME * max(largest, 1e-30)))
