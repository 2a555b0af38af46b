"""What the server costs: our server against the engine in process, on the same processors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.chat import EACH, PATH, TIMEOUT, TOKENS, bodies_of, count_tokens, prompts_of
from bench.client import Tally
from bench.contenders import sixways, take_turns
from bench.figures import Target, ratio
from bench.processes import Pins, Process, at_work
from bench.results import Outcome, Row
from sixways_bundle.manifest import Manifest
from sixways_bundle.quantize.sentences import load

_BATCH, _CLIENTS, _BATCH_CLIENTS, _STREAMS = 32, 32, 4, 32
_TEXTS, _TOKENS = "texts_a_second", "tokens_a_second"


@contextmanager
def engine_alone(bundle: Path, pins: Pins) -> Iterator[Process]:
    """The bundle's engine without a server, open; spoken to in lines (`bench.in_process`)."""
    manifest = Manifest.load(bundle)
    told: dict[str, object] = {
        "directory": str(bundle / "variants" / manifest.variants[0].name),
        "threads": len(pins.servers),
    }
    if manifest.task == "embeddings":
        told |= {
            "kind": "encoder",
            "engine": manifest.variants[0].engine,
            "tokenizer": str(bundle / "tokenizer" / "tokenizer.json"),
        }
    else:
        told |= {
            "kind": "language model",
            "ends": list(manifest.eos_token_ids),
            "tokenizer": str(bundle / "tokenizer"),
        }
    command = [sys.executable, "-m", "bench.in_process", json.dumps(told)]
    process = Process(command, pins, pipes=True)
    try:
        process.read_line()
        yield process
    finally:
        process.close()


def compare(
    encoder: Path, language_model: Path, rounds: int, seconds: float, pins: Pins
) -> Outcome:
    """Throughput of both models, in process and over HTTP.

    Args:
        encoder, language_model: bundles with one variant each.
        rounds, seconds: of each measurement of the encoder.
        pins: the processors.
    """
    texts = load("evaluation")
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts) - _BATCH + 1, _BATCH)]
    encoder_rows = [
        Row("MiniLM, engine in process", f"tokenizer and runtime, batches of {_BATCH} texts"),
        Row(
            "MiniLM, server, 32 texts a request",
            f"{_BATCH_CLIENTS} clients, so that one is sent while another is computed",
            ours=True,
        ),
        Row("MiniLM, server, 1 text a request", f"{_CLIENTS} clients", ours=True),
    ]
    with ExitStack() as stack:
        alone = stack.enter_context(engine_alone(encoder, pins))
        alone.pause()
        server = stack.enter_context(sixways("minilm", encoder, "/v1/embeddings", pins))
        many = [json.dumps({"model": "minilm", "input": batch}) for batch in batches]
        single = [json.dumps({"model": "minilm", "input": text}) for text in texts]
        server.wait_ready(many[0])

        def in_process(number: int) -> float:
            order = {"do": "measure", "batches": batches, "seconds": seconds}
            return _figure(alone, order)

        def over_http(row: Row, bodies: Sequence[str], clients: int, inputs: int) -> float:
            job = server.job(bodies, clients, seconds=seconds, warm_up=1.0)
            tally = server.run(job, pins)
            row.count(tally.errors)
            return inputs * len(tally.samples) / tally.seconds

        figures = take_turns(
            rounds,
            [
                (encoder_rows[0].name, in_process),
                (
                    encoder_rows[1].name,
                    lambda _: over_http(encoder_rows[1], many, _BATCH_CLIENTS, _BATCH),
                ),
                (encoder_rows[2].name, lambda _: over_http(encoder_rows[2], single, _CLIENTS, 1)),
            ],
            "texts/s",
        )
        for row in encoder_rows:
            row.keep(_TEXTS, figures[row.name])
    text_rows = _text(language_model, rounds, pins)
    return Outcome(
        "our server against its engine in process",
        {
            "pins": str(pins),
            "rounds": rounds,
            "seconds_a_round": seconds,
            "texts": f"{len(texts)} sentences; batches of {_BATCH} in the file's order",
            "generation": f"{_STREAMS} streams, each {EACH} times {TOKENS} tokens, greedy",
        },
        [*encoder_rows, *text_rows],
        [
            _target(encoder_rows[1], encoder_rows[0], _TEXTS, 0.95),
            _target(encoder_rows[2], encoder_rows[0], _TEXTS, 0.80),
            _target(text_rows[1], text_rows[0], _TOKENS, 0.95),
        ],
    )


def _text(bundle: Path, rounds: int, pins: Pins) -> list[Row]:
    rows = [
        Row(f"SmolLM2, engine in process, {_STREAMS} streams", "OpenVINO GenAI driven directly"),
        Row(f"SmolLM2, server, {_STREAMS} streams", "chat completions, streamed", ours=True),
    ]
    with ExitStack() as stack:
        alone = stack.enter_context(engine_alone(bundle, pins))
        alone.pause()
        server = stack.enter_context(sixways("smollm2", bundle, PATH, pins))
        server.wait_ready(bodies_of(["Say hello."], 4)[0])

        def in_process(number: int) -> float:
            prompts = prompts_of(f"engine {number}", _STREAMS * EACH)
            return _figure(
                alone,
                {"do": "measure", "prompts": prompts, "streams": _STREAMS, "tokens": TOKENS},
            )

        def over_http(number: int) -> float:
            prompts = prompts_of(f"server {number}", _STREAMS * EACH)
            job = server.job(bodies_of(prompts), _STREAMS, each=EACH, timeout=TIMEOUT)
            tally: Tally = server.run(job, pins)
            rows[1].count(tally.errors)
            return count_tokens(tally) / tally.seconds

        turns = [(rows[0].name, in_process), (rows[1].name, over_http)]
        figures = take_turns(rounds, turns, "tokens/s")
    for row in rows:
        row.keep(_TOKENS, figures[row.name])
    return rows


def _figure(alone: Process, order: dict[str, object]) -> float:
    with at_work(alone):
        answer: dict[str, float] = json.loads(alone.ask(json.dumps(order)))
    return answer["figure"]


def _target(ours: Row, theirs: Row, figure: str, bound: float) -> Target:
    pair = None
    if figure in ours.rounds and figure in theirs.rounds:
        pair = ratio(ours.rounds[figure], theirs.rounds[figure])
    return Target(f"{ours.name} / {theirs.name}", bound, pair)
