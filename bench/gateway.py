"""Requests without a right key, 2,000 a second: what they cost those who have one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.client import Tally
from bench.contenders import Server, free_port, sixways, take_turns
from bench.figures import Figure, Target, percentile, ratio
from bench.processes import NotStarted, Pins, Process, at_work, nginx
from bench.results import Outcome, Row
from sixways.api.nginx_files import render
from sixways.plugin.nginx_here import Here
from sixways.plugin.nginx_place import configuration_id
from sixways_bundle.quantize.sentences import load

PATH = "/v1/embeddings"
INSTANCES = 3
CALLERS = 8
SHARE = 0.4
"""Of what the servers can do; more would measure their queue."""
FLOOD, _CONNECTIONS = 2000, 20
KEY = "bench-key-0123456789abcdef"
_P50, _P95, _REFUSED = "p50_ms", "p95_ms", "refused_a_second"


def compare(encoder: Path, rounds: int, seconds: float, pins: Pins) -> Outcome:
    """Latency of accepted requests with and without a flood of refused ones, by turns.

    Args:
        encoder: a bundle with one variant.
        rounds, seconds: of each measurement.
        pins: the processors.

    Raises:
        NotStarted: there is no Nginx.
    """
    bodies = [f'{{"model":"minilm","input":"{text}"}}'
              for text in load("evaluation") if text.isascii() and '"' not in text]  # fmt: skip
    quiet = Row("gateway", f"Nginx, {INSTANCES} servers", ours=True)
    flooded = Row(f"gateway, {FLOOD} refused a second", "by Nginx, with 401", ours=True)
    bare = Row("one server, no gateway", "plain HTTP")
    beset = Row(f"one server, {FLOOD} refused a second", "by the server itself, with 401")
    rows = [quiet, flooded, bare, beset]
    with ExitStack() as stack:
        servers = [stack.enter_context(sixways("minilm", encoder, PATH, pins, key=KEY))
                   for _ in range(INSTANCES)]  # fmt: skip
        for server in servers:
            server.wait_ready(bodies[0])
        gateway = stack.enter_context(fronted(servers, pins))
        alone = [servers[0]]
        busy = _run(gateway, servers, bodies, pins, seconds=seconds)
        pace = CALLERS / (SHARE * max(len(busy.samples) / busy.seconds, 1.0))

        def turn(row: Row, one: Server, behind: list[Server], *, flood: bool) -> float:
            with at_flood(one.port, seconds + 1, pins, row) if flood else ExitStack():
                tally = _run(one, behind, bodies, pins, seconds=seconds, pace=pace)
            row.count(tally.errors)
            waits = [1000 * (sample.ended - sample.sent) for sample in tally.samples]
            row.rounds.setdefault(_P95, []).append(percentile(waits, 0.95))
            return percentile(waits, 0.5)

        figures = take_turns(
            rounds,
            [
                (quiet.name, lambda _: turn(quiet, gateway, servers, flood=False)),
                (flooded.name, lambda _: turn(flooded, gateway, servers, flood=True)),
                (bare.name, lambda _: turn(bare, servers[0], alone, flood=False)),
                (beset.name, lambda _: turn(beset, servers[0], alone, flood=True)),
            ],
            "ms",
        )
    for row in rows:
        row.keep(_P50, figures[row.name])
    return Outcome(
        f"accepted requests beside {FLOOD} a second without a right key",
        {
            "pins": str(pins),
            "rounds": rounds,
            "seconds_a_round": seconds,
            "accepted": f"{CALLERS} callers at a fixed pace, {SHARE:.0%} of the capacity",
            "refused": f"h2load, {_CONNECTIONS} connections, on the callers' processors",
        },
        rows,
        [
            Target("p50 of accepted: through the gateway, flooded / not",
                   1.1, _ratio(flooded, quiet), at_least=False),
        ],
    )  # fmt: skip


def _ratio(ours: Row, other: Row) -> Figure | None:
    if _P50 not in ours.rounds or _P50 not in other.rounds:
        return None
    return ratio(ours.rounds[_P50], other.rounds[_P50])


def _run(
    one: Server, behind: list[Server], bodies: list[str], pins: Pins, **options: float
) -> Tally:
    """A job at a server while those behind it work too."""
    with ExitStack() as stack:
        for server in behind:
            if server is not one:
                stack.enter_context(at_work(server.process))
        return one.run(one.job(bodies, CALLERS, warm_up=0.5, **options), pins)


@contextmanager
def at_flood(port: int, seconds: float, pins: Pins, row: Row) -> Iterator[None]:
    """Requests with a wrong key for as long as this lasts, at most so many seconds.

    The load generator is one that costs little: what it takes of the processors is not the
    gateway's doing.
    """
    program = shutil.which("h2load")
    if program is None:
        raise NotStarted("h2load is not on PATH; apt install nghttp2-client")
    with tempfile.TemporaryFile("w+") as said:
        flood = subprocess.Popen(
            [program, "--h1", "-t", "1", "-c", str(_CONNECTIONS),
             f"--rps={FLOOD / _CONNECTIONS:g}", "-D", f"{seconds:.0f}",
             "-H", "authorization: Bearer nobodys-key-0123456789", f"http://127.0.0.1:{port}{PATH}"],
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, pins.client),
        )  # fmt: skip
        try:
            yield
            flood.wait(seconds + 30)
        finally:
            flood.kill()
            flood.wait()
        said.seek(0)
        _count(said.read(), row)


def _count(said: str, row: Row) -> None:
    """What h2load says it got: a rate, and how many were refused as they should be."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    row.rounds.setdefault(_REFUSED, []).append(float(rate[1]) if rate else 0.0)
    if codes is not None:
        row.checked = f"{codes[3]} were 4xx, {int(codes[1]) + int(codes[4])} others, last round"


@contextmanager
def fronted(servers: list[Server], pins: Pins) -> Iterator[Server]:
    """An Nginx with the gateway's configuration in front of the servers.

    Raises:
        NotStarted: it does not start.
    """
    program = nginx()
    with tempfile.TemporaryDirectory(prefix="sixways-bench-") as folder:
        place, port = Here(Path(folder) / "gateway"), free_port()
        files = render(_args(servers, port), replace(place.machine(), files=4096))
        place.prepare()
        place.stage(configuration_id(files), files)
        place.point(configuration_id(files))
        process = Process(
            [program, "-p", f"{place.folder}/", "-e", f"{place.folder}/error.log",
             "-c", "conf/nginx.conf", "-g", "daemon off;"],
            pins,
        )  # fmt: skip
        try:
            gateway = Server(process, port, PATH, {"Authorization": f"Bearer {KEY}"})
            with ExitStack() as stack:
                for server in servers:
                    stack.enter_context(at_work(server.process))
                body = '{"model":"minilm","input":"a"}'
                gateway.wait_ready(body)
            yield gateway
        finally:
            process.close()


def _args(servers: list[Server], port: int) -> Mapping[str, object]:
    instances = [{"url": f"http://127.0.0.1:{one.port}"} for one in servers]
    return {
        "upstream": {"instances": instances, "health_path": "/readyz"},
        "upstream_key": KEY,
        "plans": [{"name": "bench", "requests_per_second": 100_000}],
        "keys": [{"name": "bench", "plan": "bench", "key": KEY}],
        "listen": "127.0.0.1",
        "port": port,
    }
