"""Who is compared, and the turns they take."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Job, Tally
from bench.processes import NotStarted, Pins, Process, at_work, send, wait_until

_READY_SECONDS = 180.0


@dataclass
class Server:
    """A server that answers.

    Attributes:
        process: it and all it started; paused, except while it is at work.
        port, path, headers: where and how it is asked.
        certificate: PEM file of what it shows; empty: plain HTTP.
    """

    process: Process
    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    certificate: str = ""

    def job(self, bodies: Sequence[str], clients: int, **options: float) -> Job:
        """A job of the client for this server."""
        return Job(
            port=self.port,
            path=self.path,
            headers=self.headers,
            bodies=list(bodies),
            clients=clients,
            certificate=self.certificate,
            **options,  # type: ignore[arg-type]
        )

    def run(self, job: Job, pins: Pins) -> Tally:
        """Lets it work on a job, alone."""
        with at_work(self.process):
            return send(job, pins)

    def wait_ready(self, body: str) -> None:
        """Waits until it answers `body`, then pauses it.

        Raises:
            NotStarted: it ended, or does not answer within three minutes.
        """
        wait_until(lambda: self._answers(body), self.process, _READY_SECONDS)
        self.process.pause()

    def _answers(self, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", **self.headers}
        try:
            connection.request("POST", self.path, body.encode(), headers)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def sixways(
    name: str, bundle: Path, path: str, pins: Pins, *, key: str = "", **settings: float
) -> Iterator[Server]:
    """Our server with one model and one key, as `sixways serve` starts it; `settings`: more."""

    with tempfile.TemporaryDirectory(prefix="sixways-bench-") as folder:
        keys, config, port = Path(folder) / "keys.json", Path(folder) / "server.json", free_port()
        key = key or secrets.token_urlsafe(32)
        known = {"name": "bench", "sha256": hashlib.sha256(key.encode()).hexdigest()}
        keys.write_text(json.dumps({"keys": [known]}))
        config.write_text(
            json.dumps(
                {
                    "models": [{"name": name, "path": str(bundle)}],
                    "port": port,
                    "keys_file": str(keys),
                    # Nothing is left to drain when the bench ends it.
                    "linger_seconds": 0.0,
                    **settings,
                }
            )
        )
        process = Process([sys.executable, "-m", "sixways_server", "--config", str(config)], pins)
        try:
            yield Server(process, port, path, {"Authorization": f"Bearer {key}"})
        finally:
            process.close()


def take_turns(
    rounds: int, turns: Sequence[tuple[str, Callable[[int], float]]], unit: str
) -> dict[str, list[float]]:
    """Every turn once a round, in an order that moves on by one each round.

    Args:
        rounds: how many.
        turns: a name and what measures one figure, given the round's number.
        unit: of the figures, for the lines of progress.

    Returns:
        The figures of each name, round by round.
    """
    figures: dict[str, list[float]] = {name: [] for name, _ in turns}
    for number in range(rounds):
        shift = number % len(turns)
        for name, measure in (*turns[shift:], *turns[:shift]):
            value = measure(number)
            figures[name].append(value)
            print(f"  round {number + 1} of {rounds}: {name}: {value:.2f} {unit}", flush=True)
    return figures


__all__ = ["NotStarted", "Server", "free_port", "sixways", "take_turns"]
