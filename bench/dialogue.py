"""How long a person who talks with SmolLM2 waits for the first word, through Nginx with TLS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.chat import TIMEOUT
from bench.contenders import Server, free_port, sixways, take_turns
from bench.figures import Figure, Target, percentile, ratio
from bench.processes import NotStarted, Pins, Process, nginx, wait_until
from bench.results import Outcome, Row
from sixways.server.files import Site
from sixways_bundle.quantize.sentences import load

PATH = "/v1/chat/completions"
USERS = 4
TURNS = 8
"""Of each conversation in a round; every turn holds all that was said before."""
TOKENS = 48
"""Tokens of an answer: two sentences."""
OBJECTIVE_MS = 500.0
"""Within it a dialogue still feels like one."""
_P95, _P50 = "first_token_p95_ms", "first_token_p50_ms"
_NGINX_SECONDS = 10.0


def conversations(salt: str, users: int = USERS, turns: int = TURNS) -> list[str]:
    """Requests of so many conversations, turn by turn, each with what was said before it."""
    texts = load("evaluation")
    bodies = []
    for turn in range(turns):
        for user in range(users):
            said = [texts[(user * 2 * turns + line) % len(texts)] for line in range(2 * turn + 1)]
            roles = ["user" if line % 2 == 0 else "assistant" for line in range(len(said))]
            messages = [{"role": r, "content": t} for r, t in zip(roles, said, strict=True)]
            messages[0]["content"] = f"[{salt}-{user}] Talk with me about this: {said[0]}"
            bodies.append(
                json.dumps(
                    {
                        "model": "smollm2",
                        "messages": messages,
                        "max_tokens": TOKENS,
                        "temperature": 0,
                        "stream": True,
                        "stream_options": {"include_usage": True},
                    }
                )
            )
    return bodies


def compare(bundle: Path, rounds: int, pins: Pins) -> Outcome:
    """The first token of four conversations at once, direct and through Nginx.

    Args:
        bundle: SmolLM2 with one variant.
        rounds: of each measurement.
        pins: the processors; Nginx has the server's.
    """
    direct = Row("direct", "plain HTTP", ours=True)
    fronted = Row("through Nginx", "TLS, the site of way server", ours=True)
    with ExitStack() as stack:
        server = stack.enter_context(sixways("smollm2", bundle, PATH, pins))
        server.wait_ready(conversations("ready", 1, 1)[0])
        pairs = [(direct, server)]
        try:
            pairs.append((fronted, stack.enter_context(behind_nginx(server, pins))))
        except NotStarted as reason:
            fronted.failed = str(reason)
            print(f"  {fronted.name} does not take part: {reason}", flush=True)
        medians: dict[str, list[float]] = {row.name: [] for row, _ in pairs}

        def run(row: Row, one: Server, number: int) -> float:
            warm = conversations(f"warm {row.name} {number}", turns=1)
            row.count(one.run(one.job(warm, USERS, each=1, timeout=TIMEOUT), pins).errors)
            # Other words for each contender: nobody profits from what another one had computed.
            bodies = conversations(f"{row.name} {number}")
            tally = one.run(one.job(bodies, USERS, each=TURNS, timeout=TIMEOUT), pins)
            row.count(tally.errors)
            waits = [1000 * (s.first - s.sent) for s in tally.samples if s.first]
            medians[row.name].append(percentile(waits, 0.5) if waits else float("inf"))
            return percentile(waits, 0.95) if waits else float("inf")

        turns = [
            (row.name, lambda number, row=row, one=one: run(row, one, number)) for row, one in pairs
        ]
        figures = take_turns(rounds, turns, "ms")
    for row, _ in pairs:
        row.keep(_P95, figures[row.name])
        row.keep(_P50, medians[row.name])
    return Outcome(
        f"SmolLM2-135M, {USERS} conversations at once, first token",
        {
            "pins": str(pins),
            "rounds": rounds,
            "answers": f"{TOKENS} tokens each, greedy, and the next turn at once",
            "conversations": f"{TURNS} turns, each with all that was said before",
        },
        [direct, fronted],
        _targets(direct, fronted),
    )


def _targets(direct: Row, fronted: Row) -> Sequence[Target]:
    whole = fronted.rounds.get(_P95)
    pair = None
    if _P50 in direct.rounds and _P50 in fronted.rounds:
        pair = ratio(fronted.rounds[_P50], direct.rounds[_P50])
    return [
        Target("p95 of the first token through Nginx, ms", OBJECTIVE_MS,
               Figure.of(whole) if whole else None, at_least=False),
        Target("p50 of the first token: through Nginx / direct", 1.1, pair, at_least=False),
    ]  # fmt: skip


@contextmanager
def behind_nginx(server: Server, pins: Pins) -> Iterator[Server]:
    """The same server as it is reached through an Nginx of its own, which ends with this.

    Raises:
        NotStarted: there is no Nginx, or it does not start.
    """
    program = nginx()
    with tempfile.TemporaryDirectory(prefix="sixways-bench-") as name:
        folder, port = Path(name), free_port()
        # Its workers are another user's where this is root's.
        folder.chmod(0o755)
        certificate = _certificate(folder)
        site = Site(
            certificate=str(certificate),
            certificate_key=str(folder / "tls.key"),
            port=port,
            redirect_http=False,
            upstreams=(f"127.0.0.1:{server.port}",),
            access_log=str(folder / "access.log"),
            error_log=str(folder / "error.log"),
        )
        (folder / "site.conf").write_text(site.render())
        temporary = "".join(
            f"  {kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes auto;\npid {folder}/nginx.pid;\n"
            f"error_log {folder}/error.log;\nevents {{ worker_connections 1024; }}\n"
            f"http {{\n{temporary}  include {folder}/site.conf;\n}}\n"
        )
        process = Process(
            [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")], pins
        )
        try:
            wait_until((folder / "nginx.pid").is_file, process, _NGINX_SECONDS)
            yield replace(server, port=port, certificate=str(certificate))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.close()


def _certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 for a day; the client believes it alone."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "tls.crt"
