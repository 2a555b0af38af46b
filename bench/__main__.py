"""`python -m bench [PART …]`: runs measurements, prints tables, writes `docs/benchmarks/`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import results
from bench.processes import Pins
from sixways_bundle.report import machine

_SERVING = ("engine", "overload", "embeddings", "chat", "dialogue", "gateway")
_PARTS = ("quantization", "start", "preview", *_SERVING)
_GROUPS = {"serving": _SERVING}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the parts that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"{', '.join(_PARTS)}; serving is {', '.join(_SERVING)}; none: all",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="a round of embeddings takes (default 4)"
    )
    parser.add_argument(
        "--peer", action="append", default=[], help="of embeddings, only this one; may be repeated"
    )
    options = parser.parse_args(arguments)
    parts = [part for name in options.parts for part in _GROUPS.get(name, (name,))] or _PARTS
    for name in parts:
        if name not in _PARTS:
            parser.error(f"{name}: no such part; accepted: {', '.join((*_PARTS, *_GROUPS))}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds takes at least 1, --seconds more than 0")
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=200)
    console.print(f"machine: {machine()}", highlight=False)
    for name in _PARTS:
        if name in parts:
            console.rule(name)
            path = _RUN[name](console, options)
            console.print(f"written: {path.relative_to(path.parents[2])}", highlight=False)


def _quantization(console: Console, options: argparse.Namespace) -> Path:
    from bench.quantization import build_all, rows, table

    with tempfile.TemporaryDirectory(prefix="sixways-bench-") as folder:
        console.print("build every variant from nothing", highlight=False)
        built = build_all(Path(folder))
    for name, result in built.items():
        console.print(table(name, result))
    return results.write("quantization", {"variants": {n: rows(r) for n, r in built.items()}})


def _start(console: Console, options: argparse.Namespace) -> Path:
    from bench.quantization import build_auto
    from bench.start import start_to_ready, table

    starts = start_to_ready(build_auto(), options.rounds)
    console.print(table(starts))
    figures = {name: figure.as_dict() for name, figure in starts.items()}
    return results.write("start", {"start_to_ready_seconds": figures})


def _preview(console: Console, options: argparse.Namespace) -> Path:
    from bench.preview import previews, table

    found, resources = previews(options.rounds)
    console.print(table(found, resources))
    figures = {name: figure.as_dict() for name, figure in found.items()}
    return results.write("preview", {"preview_seconds": figures, "resources": resources})


def _serve(name: str, console: Console, compare: Callable[[], results.Outcome]) -> Path:
    from bench.plot import draw

    outcome = compare()
    outcome.show(console)
    (results.FOLDER / f"{name}.svg").write_text(draw(outcome))
    return results.write(name, outcome.as_dict())


def _engine(console: Console, options: argparse.Namespace) -> Path:
    from bench.engine import compare
    from bench.quantization import build_auto

    built = build_auto()
    return _serve(
        "engine",
        console,
        lambda: compare(
            built["minilm"], built["smollm2"], options.rounds, options.seconds, Pins.here()
        ),
    )


def _overload(console: Console, options: argparse.Namespace) -> Path:
    from bench.overload import compare
    from bench.quantization import build_auto

    bundle = build_auto()["minilm"]
    return _serve(
        "overload",
        console,
        lambda: compare(bundle, options.rounds, options.seconds, Pins.here()),
    )


def _embeddings(console: Console, options: argparse.Namespace) -> Path:
    from bench.embeddings import compare
    from bench.quantization import build_auto, source_of

    bundle, source = build_auto()["minilm"], source_of("minilm")
    return _serve(
        "embeddings",
        console,
        lambda: compare(bundle, source, options.rounds, options.seconds, Pins.here(), options.peer),
    )


def _chat(console: Console, options: argparse.Namespace) -> Path:
    from bench.chat import compare
    from bench.quantization import build_auto, source_of

    bundle, model = build_auto()["smollm2"], source_of("smollm2")
    return _serve("chat", console, lambda: compare(bundle, model, options.rounds, Pins.here()))


def _dialogue(console: Console, options: argparse.Namespace) -> Path:
    from bench.dialogue import compare
    from bench.quantization import build_auto

    bundle = build_auto()["smollm2"]
    return _serve("dialogue", console, lambda: compare(bundle, options.rounds, Pins.here()))


def _gateway(console: Console, options: argparse.Namespace) -> Path:
    from bench.gateway import compare
    from bench.quantization import build_auto

    bundle = build_auto()["minilm"]
    return _serve(
        "gateway",
        console,
        lambda: compare(bundle, options.rounds, options.seconds, Pins.here()),
    )


_RUN: dict[str, Callable[[Console, argparse.Namespace], Path]] = {
    "quantization": _quantization,
    "start": _start,
    "preview": _preview,
    "engine": _engine,
    "overload": _overload,
    "embeddings": _embeddings,
    "chat": _chat,
    "dialogue": _dialogue,
    "gateway": _gateway,
}


if __name__ == "__main__":
    main()
