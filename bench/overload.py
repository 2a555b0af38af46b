"""Four times as much as our server can do: how long what it accepts takes, and the rest is 429."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from bench.client import Tally
from bench.contenders import Server, sixways
from bench.figures import Target, percentile, ratio
from bench.processes import Pins
from bench.results import Outcome, Row
from sixways_bundle.quantize.sentences import load

_TEXTS = 8
"""Of a request. With one text each the load itself would take most of two processors."""
_CLIENTS, _TIMES = 64, 4
_BUSY = 16
"""Clients that keep the server busy, for its capacity."""
_P99, _CAPACITY = "p99_ms_of_what_is_answered", "answers_a_second"
_FULL = "status 429"


def compare(encoder: Path, rounds: int, seconds: float, pins: Pins) -> Outcome:
    """Latency of one client alone, and of what is accepted at four times the capacity.

    Args:
        encoder: a bundle with one variant.
        rounds, seconds: of each measurement.
        pins: the processors.
    """
    texts = load("evaluation")
    batches = [texts[i : i + _TEXTS] for i in range(0, len(texts) - _TEXTS + 1, _TEXTS)]
    bodies = [json.dumps({"model": "minilm", "input": batch}) for batch in batches]
    with ExitStack() as stack:
        plain = stack.enter_context(sixways("minilm", encoder, "/v1/embeddings", pins))
        plain.wait_ready(bodies[0])
        # What one request takes alone is what another may have to wait for it.
        first = plain.run(plain.job(bodies, 1, seconds=seconds, warm_up=1.0), pins)
        patience = round(percentile(_latencies(first), 0.5) / 1000, 4)
        bounded = stack.enter_context(
            sixways("minilm", encoder, "/v1/embeddings", pins, queue_seconds=patience)
        )
        bounded.wait_ready(bodies[0])
        rows = [
            Row("one client alone", f"requests of {_TEXTS} texts", ours=True),
            Row("as much as it can do", f"{_BUSY} clients without a pause", ours=True),
            Row(
                f"{_TIMES} times as much, queue_seconds {patience:g}",
                f"{_CLIENTS} clients at a fixed pace; queue_seconds is the median of one client",
                ours=True,
            ),
            Row(
                f"{_TIMES} times as much, defaults",
                f"the same load; queue_limit 2048 alone: nothing of {_CLIENTS} requests is refused",
                ours=True,
            ),
        ]
        alone, busy, short, long = rows
        capacity: dict[int, float] = {}

        def at_pace(row: Row, server: Server, number: int) -> float:
            # The capacity of this round, measured before: the machine's speed drifts.
            pace = _CLIENTS / (_TIMES * capacity[number])
            job = server.job(bodies, _CLIENTS, seconds=seconds, warm_up=1.0, pace=pace)
            tally = server.run(job, pins)
            refused = tally.errors.pop(_FULL, 0)
            row.count(tally.errors)
            row.rounds.setdefault(_CAPACITY, []).append(len(tally.samples) / tally.seconds)
            row.checked = (
                f"{refused / (refused + len(tally.samples)):.0%} were 429 in the last round"
            )
            return percentile(_latencies(tally), 0.99)

        def whole_round(number: int) -> list[float]:
            one = plain.run(plain.job(bodies, 1, seconds=seconds, warm_up=0.5), pins)
            alone.count(one.errors)
            many = plain.run(plain.job(bodies, _BUSY, seconds=seconds, warm_up=0.5), pins)
            busy.count(many.errors)
            capacity[number] = len(many.samples) / many.seconds
            busy.rounds.setdefault(_CAPACITY, []).append(capacity[number])
            return [
                percentile(_latencies(one), 0.99),
                percentile(_latencies(many), 0.99),
                at_pace(short, bounded, number),
                at_pace(long, plain, number),
            ]

        for number in range(rounds):
            figures = whole_round(number)
            for row, value in zip(rows, figures, strict=True):
                row.rounds.setdefault(_P99, []).append(value)
            shown = ", ".join(f"{row.name}: {v:.1f}" for row, v in zip(rows, figures, strict=True))
            print(f"  round {number + 1} of {rounds}, p99 ms: {shown}", flush=True)
    return Outcome(
        "our server with four times the load that it can take",
        {"pins": str(pins), "rounds": rounds, "seconds_a_round": seconds},
        rows,
        [
            _target("p99 of what is accepted at 4 times the load / of one client alone",
                    short, alone, _P99, 2.0, at_least=False),
        ],
    )  # fmt: skip


def _latencies(tally: Tally) -> list[float]:
    return [1000 * (one.ended - one.sent) for one in tally.samples]


def _target(
    what: str, ours: Row, other: Row, figure: str, bound: float, *, at_least: bool = True
) -> Target:
    found = ratio(ours.rounds[figure], other.rounds[figure])
    return Target(what, bound, found, at_least)
