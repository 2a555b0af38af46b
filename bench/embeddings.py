"""How fast MiniLM answers over HTTP, from our server and from others."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from bench import environments
from bench.client import Tally
from bench.contenders import Server, free_port, sixways, take_turns
from bench.engine import engine_alone
from bench.figures import Target, best_of, percentile, ratio
from bench.peers.engine import VARIABLE, Peer
from bench.processes import CHECKOUT, NotStarted, Pins, Process
from bench.results import Outcome, Row
from sixways_bundle.manifest import Manifest
from sixways_bundle.quantize.sentences import load

_CLIENTS = 32
_MANY, _ONE = f"answers_a_second_at_{_CLIENTS}_clients", "p50_ms_at_1_client"
_CLOSE = 0.95
"""Cosine that every answer must have to the reference: int8 of any kind passes, a mix-up not."""
DOCUMENTED, SAME = "as documented", "same engine"

Vector = Callable[[str], Sequence[float]]
"""The vector in the text of an answer."""


@dataclass(frozen=True)
class _Kind:
    """A peer: how it is started and spoken to.

    Attributes:
        peer: its folder in `bench/peers`.
        package: of the Python package index.
        name: how people call it.
        setup: its batching settings.
        command: of its environment's bin folder and what it is told.
        path: of a request; `body` makes one of a text, `vector` reads the answer.
    """

    peer: str
    package: str
    name: str
    setup: str
    command: Callable[[Path, Peer], list[str]]
    path: str
    body: Callable[[str], object]
    vector: Callable[[object], Sequence[float]]


def _module(peer: str) -> Callable[[Path, Peer], list[str]]:
    return lambda bin_folder, told: [str(bin_folder / "python"), "-m", f"bench.peers.{peer}.serve"]


def _bentoml(bin_folder: Path, told: Peer) -> list[str]:
    return [
        *(str(bin_folder / "bentoml"), "serve", "bench.peers.bentoml.serve:MiniLM"),
        *("--host", "127.0.0.1", "--port", str(told.port)),
    ]


def _openai_vector(answer: object) -> Sequence[float]:
    vector: Sequence[float] = answer["data"][0]["embedding"]  # type: ignore[index]
    return vector


_FRAMEWORKS = (
    _Kind(
        "litserve",
        "litserve",
        "LitServe",
        "max_batch_size 32, batch_timeout 2 ms, fast_queue, no log line a request",
        _module("litserve"),
        "/predict",
        lambda text: {"input": text},
        lambda answer: answer["embedding"],  # type: ignore[index]
    ),
    _Kind(
        "bentoml",
        "bentoml",
        "BentoML",
        "batchable, max_batch_size 32, max_latency_ms 1000 (its window adapts), 1 worker",
        _bentoml,
        "/encode",
        lambda text: {"sentences": [text]},
        lambda answer: answer[0],  # type: ignore[index]
    ),
    _Kind(
        "ray_serve",
        "ray",
        "Ray Serve",
        "serve.batch with max_batch_size 32, batch_wait_timeout_s 0.002, throughput optimized",
        _module("ray_serve"),
        "/",
        lambda text: {"input": text},
        lambda answer: answer["embedding"],  # type: ignore[index]
    ),
    _Kind(
        "mlserver",
        "mlserver",
        "MLServer",
        "custom runtime, max_batch_size 32, max_batch_time 2 ms, parallel_workers 0",
        _module("mlserver"),
        "/v2/models/minilm/infer",
        lambda text: {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]
        },
        lambda answer: answer["outputs"][0]["data"],  # type: ignore[index]
    ),
)
_INFINITY = _Kind(
    "infinity",
    "infinity-emb",
    "infinity",
    "batch size 32",
    _module("infinity"),
    "/embeddings",
    lambda text: {"model": "minilm", "input": [text]},
    _openai_vector,
)


@dataclass
class Contender:
    row: Row
    setting: str
    server: Server
    bodies: list[str]
    vector: Callable[[object], Sequence[float]]
    answers: dict[int, str] = field(default_factory=dict)

    def run(self, clients: int, seconds: float, pins: Pins) -> Tally:
        job = self.server.job(self.bodies, clients, seconds=seconds, warm_up=min(1.0, seconds))
        tally = self.server.run(job, pins)
        self.row.count(tally.errors)
        self.answers.update(tally.answers)
        return tally

    def many(self, seconds: float, pins: Pins, number: int) -> float:
        """Answers a second at 32 clients."""
        tally = self.run(_CLIENTS, seconds, pins)
        return len(tally.samples) / tally.seconds

    def one(self, seconds: float, pins: Pins, number: int) -> float:
        """Median wait at one client, in milliseconds; half the time is enough."""
        tally = self.run(1, seconds / 2, pins)
        waits = [1000 * (s.ended - s.sent) for s in tally.samples]
        return percentile(waits, 0.5) if waits else float("inf")


def compare(
    bundle: Path, source: Path, rounds: int, seconds: float, pins: Pins, only: Collection[str] = ()
) -> Outcome:
    """Our server against its peers: throughput at 32 clients, latency at one.

    Args:
        bundle: what our server serves, with one variant.
        source: the same model's folder as its makers publish it.
        rounds, seconds: of each measurement.
        pins: the processors.
        only: the peers' folders to take; empty: all.
    """
    texts = load("evaluation")
    manifest = Manifest.load(bundle)
    rows: list[Row] = []
    contenders: list[Contender] = []
    with ExitStack() as stack:
        with engine_alone(bundle, pins) as engine:
            reference = json.loads(engine.ask(json.dumps({"do": "vectors", "texts": texts})))
        ours = _ours(stack, bundle, manifest, texts, pins)
        rows.append(ours.row)
        for kind, setting in peers():
            if only and kind.peer not in only:
                continue
            row = Row(f"{kind.name} {environments.pinned(kind.peer, kind.package)}, {setting}", "")
            rows.append(row)
            print(f"  starting {row.name}", flush=True)
            told = _told(setting, bundle, manifest, source, len(pins.servers))
            row.setup = f"{kind.setup}; {_computes(kind, setting, manifest)}"
            try:
                bin_folder = environments.environment(kind.peer)
                server = stack.enter_context(_start(kind, bin_folder, told, pins))
                bodies = [json.dumps(kind.body(text)) for text in texts]
                server.wait_ready(bodies[0])
            except NotStarted as reason:
                row.failed = str(reason)
                print(f"  {row.name} does not take part: {reason}", flush=True)
                continue
            contenders.append(Contender(row, setting, server, bodies, kind.vector))
        everybody = [ours, *contenders]
        for figure, unit, measure in (
            (_MANY, "answers/s", Contender.many),
            (_ONE, "ms", Contender.one),
        ):
            print(f"  {figure.replace('_', ' ')}", flush=True)
            turns = [(one.row.name, partial(measure, one, seconds, pins)) for one in everybody]
            for one, values in zip(
                everybody, take_turns(rounds, turns, unit).values(), strict=True
            ):
                one.row.keep(figure, values)
        for one in everybody:
            check(one, reference["vectors"])
    return Outcome(
        "MiniLM embeddings over HTTP, one text a request",
        {
            "pins": str(pins),
            "rounds": rounds,
            "seconds_a_round": {"32 clients": seconds, "1 client": seconds / 2},
            "texts": f"{len(texts)} sentences, one a request, vectors as JSON numbers",
            "idle_contenders": "stopped while it is not their turn",
        },
        rows,
        list(_targets(ours, contenders)),
    )


def peers() -> Iterator[tuple[_Kind, str]]:
    """Every peer in both settings."""
    for setting in (DOCUMENTED, SAME):
        for kind in (*_FRAMEWORKS, _INFINITY):
            yield kind, setting


def _computes(kind: _Kind, setting: str, manifest: Manifest) -> str:
    variant = manifest.variants[0]
    if kind is _INFINITY:
        return (
            "engine optimum (what it recommends on processors) with float32 ONNX"
            if setting == DOCUMENTED
            else "engine optimum with int8 ONNX (it runs no engine of others)"
        )
    if setting == DOCUMENTED:
        return "sentence-transformers in torch float32"
    return f"our runtime with variant {variant.name}"


def _told(setting: str, bundle: Path, manifest: Manifest, source: Path, threads: int) -> Peer:
    if setting == DOCUMENTED:
        return Peer(free_port(), threads, str(source))
    variant = manifest.variants[0]
    return Peer(
        free_port(),
        threads,
        str(source),
        engine=variant.engine,
        directory=str(bundle / "variants" / variant.name),
        tokenizer=str(bundle / "tokenizer" / "tokenizer.json"),
    )


@contextmanager
def _start(kind: _Kind, bin_folder: Path, told: Peer, pins: Pins) -> Iterator[Server]:
    environment = {
        VARIABLE: json.dumps(asdict(told)),
        "PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin",
        # The peers' programs and our runtime; nothing else of ours.
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'bundle'}",
        "VIRTUAL_ENV": str(bin_folder.parent),
    }
    process = Process(kind.command(bin_folder, told), pins, environment)
    try:
        yield Server(process, told.port, kind.path)
    finally:
        process.close()


def _ours(
    stack: ExitStack, bundle: Path, manifest: Manifest, texts: Sequence[str], pins: Pins
) -> Contender:
    variant = manifest.variants[0]
    setup = f"POST /v1/embeddings with a key; variant {variant.name}; its defaults"
    server = stack.enter_context(sixways("minilm", bundle, "/v1/embeddings", pins))
    bodies = [json.dumps({"model": "minilm", "input": text}) for text in texts]
    server.wait_ready(bodies[0])
    return Contender(Row("Sixways", setup, ours=True), "", server, bodies, _openai_vector)


def check(one: Contender, reference: Sequence[Sequence[float]]) -> None:
    """Compares the last answer to every text with what the engine alone makes of it."""
    import numpy as np

    cosines = []
    for index, answer in one.answers.items():
        mine, right = np.array(one.vector(json.loads(answer))), np.array(reference[index])
        cosines.append(float(mine @ right / np.linalg.norm(mine) / np.linalg.norm(right)))
    worst = min(cosines, default=0.0)
    one.row.checked = f"{len(cosines)} texts, cosine ≥ {worst:.4f}"
    if worst < _CLOSE:
        one.row.failed = f"its answers are not the model's: cosine {worst:.3f}"


def _targets(ours: Contender, contenders: Sequence[Contender]) -> Iterator[Target]:
    for setting in (DOCUMENTED, SAME):
        there = [c.row for c in contenders if c.setting == setting and not c.row.failed]
        if ours.row.failed:
            there = []
        for figure, bound, at_least, words in (
            (_MANY, 1.5, True, f"throughput at {_CLIENTS} clients"),
            (_ONE, 1.0, False, "p50 at 1 client"),
        ):
            for row in there:
                pair = ratio(ours.row.rounds[figure], row.rounds[figure])
                yield Target(f"{words}: ours / {row.name}", bound, pair, at_least)
            best = best_of([row.rounds[figure] for row in there], lower_is_better=not at_least)
            figures = ratio(ours.row.rounds[figure], best) if there else None
            yield Target(f"{words}: ours / best of all {setting}", bound, figures, at_least)
