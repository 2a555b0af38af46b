"""How fast encoder variants are on this machine, against each other."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from sixways_bundle.quantize.base import Report, Speed
from sixways_bundle.quantize.encoder_model import Texts, pad
from sixways_bundle.runtime import EncoderRuntime, open_encoder

Options = Mapping[str, str | int | float | bool]
BATCHES = (1, 8, 32)
_TOKENS = 26
_ROUNDS = 11
_FEWEST_ROUNDS = 7
_SECONDS = 20.0


def time_encoders(
    candidates: Mapping[str, tuple[str, Path, Options]],
    texts: Texts,
    longest: int,
    report: Report,
) -> dict[str, Speed]:
    """Times all candidates in turns: A B C A B C, so that a drifting machine is fair to all.

    Args:
        candidates: by variant name: engine, folder and options.
        texts: sentences to run; those of about 26 tokens are taken.
        longest: tokens that the model takes at most.
        report: told after each round.

    Returns:
        By variant name: median milliseconds of each batch, and as score the geometric mean of
        the milliseconds a sentence.
    """
    batches = {size: pad(texts.closest_to(_TOKENS, size)) for size in BATCHES}
    seconds: dict[tuple[str, int], list[float]] = {
        (name, size): [] for name in candidates for size in BATCHES
    }
    runtimes: dict[str, EncoderRuntime] = {}
    try:
        for index, (name, (engine, directory, options)) in enumerate(candidates.items()):
            report(0.2 * index / len(candidates), f"opening {name}")
            runtimes[name] = open_encoder(engine, directory, longest=longest, options=options)
            for size in BATCHES:  # the first run of a shape also prepares for it
                runtimes[name].embed(*batches[size])
        end = time.monotonic() + _SECONDS
        for turn in range(_ROUNDS):
            if turn >= _FEWEST_ROUNDS and time.monotonic() > end:
                break
            report(0.2 + 0.8 * turn / _ROUNDS, f"timing, round {turn + 1} of {_ROUNDS}")
            for size in BATCHES:
                for name, runtime in runtimes.items():
                    # A server has one model and its threads and caches are warm; the candidate
                    # before this one has just cooled them down.
                    runtime.embed(*batches[1])
                    start = time.perf_counter()
                    runtime.embed(*batches[size])
                    seconds[name, size].append(time.perf_counter() - start)
    finally:
        for runtime in runtimes.values():
            runtime.close()
    report(1.0, "timed")
    speeds = {}
    for name in candidates:
        median = {size: 1000 * statistics.median(seconds[name, size]) for size in BATCHES}
        score = math.exp(statistics.fmean(math.log(ms / size) for size, ms in median.items()))
        detail = {f"batch {size}": round(ms, 3) for size, ms in median.items()}
        speeds[name] = Speed(score_ms=score, detail=detail)
    return speeds
