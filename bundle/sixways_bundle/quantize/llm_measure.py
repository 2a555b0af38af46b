"""Perplexity and speed of language model variants."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import openvino
import openvino_genai  # type: ignore[import-untyped]

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.base import Report, Speed
from sixways_bundle.quantize.llm_losses import Losses
from sixways_bundle.runtime.llm import open_pipeline

STREAMS = (1, 8)
_TOKENS = 24  # a stream and round
_PROMPT = 16
_ROUNDS = 5
_FEWEST_ROUNDS = 3
_SECONDS = 25.0
_WARM = 4
_FIRST_ID, _SOME_IDS = 100, 20_000


def passages() -> list[str]:
    """The fixed text, in passages.

    Raises:
        BundleError: the file is missing or empty: the package was not installed whole.
    """
    file = resources.files("sixways_bundle.quantize").joinpath("data", "perplexity.txt")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = [part.strip() for part in text.split("\n\n") if part.strip()]
    if not found:
        raise BundleError("the passages of sixways are missing. Fix: install sixways again")
    return found


def losses(directory: Path, ids: Sequence[Sequence[int]], exact: bool, report: Report) -> Losses:
    """Reads every passage from its first token on and adds up how surprising the rest was.

    Runs the pipeline that serves, so that 8-bit keys and values, paged attention and whatever
    else it does to the numbers is part of the figure.

    Args:
        directory: folder with the IR.
        ids: token ids by passage, each of two or more.
        exact: in float32 throughout, as the reference; else as the variant is served.
        report: told after each passage.
    """
    pipeline = open_pipeline(directory, cache_gb=1.0, exact=exact)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = 1
    config.set_eos_token_id(0)
    config.ignore_eos = True
    config.echo = True  # the probabilities of the prompt's own tokens come back too
    config.logprobs = 1
    nats = []
    for index, passage in enumerate(ids):
        report(index / len(ids), f"perplexity, passage {index + 1} of {len(ids)}")
        prompt = openvino.Tensor(np.array([passage], dtype=np.int64))
        handle = pipeline.add_request(index, prompt, config)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        tokens: list[int] = []
        logs: list[float] = []
        while handle.can_read():
            for output in handle.read().values():
                tokens += output.generated_ids
                logs += output.generated_log_probs
        if tokens[: len(passage)] != list(passage) or len(logs) < len(passage):
            raise BundleError(
                f"OpenVINO GenAI gave probabilities of {len(logs)} tokens, not of the "
                f"{len(passage)} it was given. Fix: use the versions that sixways names"
            )
        nats.append(-sum(logs[1 : len(passage)]))  # nothing comes before the first token
    report(1.0, "perplexity measured")
    return Losses(np.array(nats), np.array([len(passage) - 1 for passage in ids], dtype=np.int64))


def time_variants(
    candidates: Mapping[str, Path], vocabulary: int, report: Report
) -> dict[str, Speed]:
    """Times decoding of all candidates in turns: A B C A B C.

    Args:
        candidates: by variant name: its folder.
        vocabulary: how many token ids the model has.
        report: told after each candidate and round.

    Returns:
        By variant name: median milliseconds a token at 1 and 8 streams (all streams together),
        and as score their geometric mean.
    """
    runs: dict[str, _Run] = {}
    for index, (name, directory) in enumerate(candidates.items()):
        report(0.3 * index / len(candidates), f"opening {name}")
        runs[name] = _Run(open_pipeline(directory, cache_gb=1.0), vocabulary)
        for streams in STREAMS:  # the first run of a shape also prepares for it
            runs[name].milliseconds(streams, _WARM)
    taken: dict[tuple[str, int], list[float]] = {
        (name, streams): [] for name in runs for streams in STREAMS
    }
    end = time.monotonic() + _SECONDS
    for turn in range(_ROUNDS):
        if turn >= _FEWEST_ROUNDS and time.monotonic() > end:
            break
        report(0.3 + 0.7 * turn / _ROUNDS, f"timing, round {turn + 1} of {_ROUNDS}")
        for streams in STREAMS:
            for name, run in runs.items():
                taken[name, streams].append(run.milliseconds(streams, _TOKENS))
    report(1.0, "timed")
    speeds = {}
    for name in runs:
        detail = {_label(n): statistics.median(taken[name, n]) for n in STREAMS}
        speeds[name] = Speed(statistics.geometric_mean(detail.values()), detail)
    return speeds


def _label(streams: int) -> str:
    return f"{streams} stream" + ("s" if streams > 1 else "") + ", a token"


class _Run:
    """One open candidate."""

    def __init__(
        self, pipeline: openvino_genai.ContinuousBatchingPipeline, vocabulary: int
    ) -> None:
        self._pipeline = pipeline
        self._ids = range(min(_FIRST_ID, vocabulary - 1), min(_SOME_IDS, vocabulary))
        self._requests = 0

    def milliseconds(self, streams: int, tokens: int) -> float:
        """Milliseconds a token while that many streams decode; their prompts are not counted."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens + 1
        config.set_eos_token_id(0)
        config.ignore_eos = True
        handles = []
        for _ in range(streams):
            self._requests += 1
            # A prompt of its own for each request: nothing comes from the prefix cache.
            generator = np.random.default_rng(self._requests)
            prompt = generator.integers(self._ids.start, self._ids.stop, (1, _PROMPT))
            tensor = openvino.Tensor(prompt.astype(np.int64))
            handles.append(self._pipeline.add_request(self._requests, tensor, config))
        while not all(handle.can_read() for handle in handles):
            self._pipeline.step()
        before = _read(handles)
        start = time.perf_counter()
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        elapsed = time.perf_counter() - start
        return 1000 * elapsed / max(1, streams * (tokens + 1) - before)


def _read(handles: Sequence[openvino_genai.GenerationHandle]) -> int:
    return sum(len(output.generated_ids) for handle in handles for output in handle.read().values())
