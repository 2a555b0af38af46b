"""The load generator: one program for every contender, in a process of its own.

`python -m bench.client` reads a `Job` as JSON on standard input and writes a `Tally` as JSON on
standard output. HTTP/1.1 over kept connections, one request at a time on each: uvloop and
httptools, since a client that is itself slow would make all servers look alike.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import msgspec

_NEVER = float("inf")
_TRIES = 2  # of a request whose connection closes before any answer


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        port: of 127.0.0.1.
        path: of each request; all are POST with JSON.
        headers: besides Host, Content-Type and Content-Length.
        bodies: taken in turn, and again from the first.
        clients: connections; each has one request under way.
        seconds: how long requests count; 0: until each client has done `each` requests.
        each: requests of each client, where `seconds` is 0.
        pace: seconds from one request of a client to its next, if the answer is there by then; 0:
            the next follows the answer at once.
        warm_up: seconds before that, whose requests do not count (`seconds`), or 0.
        timeout: seconds after which what is still under way is given up and counted as an error.
        certificate: PEM file; with it the server is asked over TLS and must show this one.
    """

    port: int
    path: str
    bodies: list[str]
    clients: int
    headers: dict[str, str] = {}
    seconds: float = 0.0
    each: int = 0
    pace: float = 0.0
    warm_up: float = 0.0
    timeout: float = 30.0
    certificate: str = ""


class Sample(msgspec.Struct, array_like=True):
    """One answered request: its body's index, and seconds since the job began."""

    body: int
    sent: float
    first: float
    """When its first text came (server-sent events), or its first bytes."""
    ended: float
    tokens: int = 0
    """As the answer's `usage.completion_tokens` says; 0 where it says nothing."""


class Tally(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        began, ended: the time that counts, in seconds since the job began.
        samples: requests whose answer came within it.
        answers: by the body's index, as text: the last answer that was seen.
        errors: by what happened, how often.
    """

    began: float = 0.0
    ended: float = 0.0
    samples: list[Sample] = []
    answers: dict[int, str] = {}
    errors: dict[str, int] = {}

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class _Run:
    """What the connections share."""

    job: Job
    requests: list[bytes]
    clock: Callable[[], float]
    until: float
    tally: Tally = field(default_factory=Tally)
    sent: int = 0
    joined: int = 0
    tls: ssl.SSLContext | None = None

    def error(self, what: str) -> None:
        self.tally.errors[what] = self.tally.errors.get(what, 0) + 1


class _Client(asyncio.Protocol):
    """One client: sends, waits for the whole answer, sends again.

    A server may close a connection between two requests. Then the client connects again, as all
    clients do, and sends once more what the server had not begun to answer.
    """

    def __init__(self, run: _Run) -> None:
        import httptools

        self._run = run
        self._parser_of = httptools.HttpResponseParser
        self._left = run.job.each or sys.maxsize
        # Clients that keep a pace begin one after the other, not all at once.
        self._due = run.job.pace * run.joined / run.job.clients
        run.joined += 1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._sample: Sample | None = None
        self._answering = False
        self._tries = 0
        self._body = bytearray()
        self._events = False

    def connect(self) -> None:
        """Begins, or begins again where it was."""
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: self, "127.0.0.1", self._run.job.port, ssl=self._run.tls
            )
        except OSError as error:
            self._fail(f"no connection: {os.strerror(error.errno or 0)}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by type
        if self._sample is None:
            self._next()
        else:
            self._send(self._sample)

    def _next(self) -> None:
        run = self._run
        wait = self._due - run.clock() if run.job.pace else 0.0
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._next)
            return
        self._due += run.job.pace
        if self.done.done():  # while it waited
            return
        if not self._left or run.clock() >= run.until:
            self._finish()
            return
        self._left -= 1
        self._tries = 0
        self._sample = Sample(run.sent % len(run.requests), run.clock(), 0.0, 0.0)
        run.sent += 1
        self._send(self._sample)

    def _send(self, sample: Sample) -> None:
        assert self._transport is not None
        self._tries += 1
        self._parser = self._parser_of(self)
        self._body.clear()
        self._answering = self._events = False
        self._transport.write(self._run.requests[sample.body])

    def data_received(self, data: bytes) -> None:
        self._answering = True
        try:
            self._parser.feed_data(data)
        except Exception as error:  # httptools: whatever the server sent, it is an error of its
            self._fail(f"no HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
            self._events = True

    def on_body(self, body: bytes) -> None:
        sample = self._sample
        self._body += body
        if sample is not None and not sample.first:
            if self._events and not _has_text(self._body):
                return
            sample.first = self._run.clock()

    def on_message_complete(self) -> None:
        run, sample = self._run, self._sample
        assert sample is not None
        assert self._transport is not None
        sample.ended = run.clock()
        self._sample = None
        status = self._parser.get_status_code()
        if status != 200:
            run.error(f"status {status}")
        else:
            if self._events or run.job.each:
                sample.tokens = _tokens(self._body)
            run.tally.samples.append(sample)
            run.tally.answers[sample.body] = self._body.decode()
        if self._parser.should_keep_alive():
            self._next()
        else:
            self._transport.close()  # and on with another one

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if self._sample is None or (not self._answering and self._tries < _TRIES):
            self.connect()
        else:
            self._fail("the connection was lost")

    def give_up(self) -> None:
        """The job's time is over."""
        self._fail("no answer in time")

    def _fail(self, what: str) -> None:
        if not self.done.done():
            self._run.error(what)
            self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


def _has_text(events: bytes | bytearray) -> bool:
    """Whether a stream of chat chunks has shown any text yet."""
    for line in bytes(events).split(b"\n\n")[:-1]:
        if line.startswith(b"data: {"):
            choices = msgspec.json.decode(line[6:]).get("choices")
            if choices and choices[0].get("delta", {}).get("content"):
                return True
    return False


def _tokens(body: bytes | bytearray) -> int:
    """`usage.completion_tokens` of an answer, whole or a stream of events."""
    place = body.rfind(b'"completion_tokens":')
    if place < 0:
        return 0
    digits = bytes(body[place + 20 : place + 32]).lstrip()
    end = next((i for i, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    return int(digits[:end] or 0)


def request_bytes(job: Job, body: str) -> bytes:
    """A whole request as it goes over the wire."""
    data = body.encode()
    lines = [
        f"POST {job.path} HTTP/1.1",
        f"Host: 127.0.0.1:{job.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *(f"{name}: {value}" for name, value in job.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


async def load(job: Job) -> Tally:
    """Sends what the job says and waits for every answer, `job.timeout` at most."""
    zero = time.perf_counter()

    def clock() -> float:
        return time.perf_counter() - zero

    until = job.warm_up + job.seconds if job.seconds else _NEVER
    run = _Run(job, [request_bytes(job, body) for body in job.bodies], clock, until)
    if job.certificate:
        run.tls = ssl.create_default_context(cafile=job.certificate)
    clients = [_Client(run) for _ in range(job.clients)]
    for one in clients:
        one.connect()
    span = job.warm_up + job.seconds + job.timeout
    await asyncio.wait([one.done for one in clients], timeout=span)
    for one in clients:
        one.give_up()
    tally = run.tally
    if job.seconds:
        tally.began, tally.ended = job.warm_up, until
    else:
        tally.ended = max((one.ended for one in tally.samples), default=0.0)
    # An answer counts when it came within the time, as on a road where cars are counted.
    tally.samples = [s for s in tally.samples if tally.began <= s.ended <= tally.ended]
    return tally


def main() -> None:
    """Reads a job, does it, writes the tally."""
    import gc

    import uvloop

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    gc.disable()  # a pause of the client is none of the server's
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(load(job))
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
