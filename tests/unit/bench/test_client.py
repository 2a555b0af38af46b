import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from bench.client import Job, Tally, load

_Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


async def _against(answer: _Answer, **job: object) -> Tally:
    """What the client counts at a server that answers each body with `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await answer((await reader.readexactly(length)).decode(), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await load(Job(**{"port": port, "path": "/", "clients": 2, **job}))  # type: ignore[arg-type]


def _http(body: str, status: int = 200, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\n{more}content-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def test_each_client_sends_as_often_as_it_is_told() -> None:
    async def echo(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_http(body))

    tally = await _against(echo, bodies=["a", "b", "c"], each=3)
    assert len(tally.samples) == 6
    assert tally.errors == {}
    assert tally.answers == {0: "a", 1: "b", 2: "c"}
    assert all(0 <= one.sent <= one.first <= one.ended for one in tally.samples)


async def test_only_answers_within_the_time_count() -> None:
    async def slow(body: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(_http("x"))

    tally = await _against(slow, bodies=["a"], warm_up=0.2, seconds=0.4)
    assert tally.seconds == pytest.approx(0.4)
    assert 6 <= len(tally.samples) <= 16
    assert all(0.2 <= one.ended <= 0.6 for one in tally.samples)


async def test_an_error_status_is_an_error_and_no_answer() -> None:
    async def refuse(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_http("no", 500 if body == "b" else 200))

    tally = await _against(refuse, bodies=["a", "b"], each=2, clients=1)
    assert tally.errors == {"status 500": 1}
    assert len(tally.samples) == 1
    assert tally.answers == {0: "no"}


async def test_a_client_connects_again_where_the_server_closes_between_two_requests() -> None:
    async def once(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_http("x"))
        writer.close()

    async def once_and_says_so(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_http("x", more="connection: close\r\n"))

    for answer in (once, once_and_says_so):
        tally = await _against(answer, bodies=["a"], each=3)
        assert len(tally.samples) == 6
        assert tally.errors == {}


async def test_a_connection_that_breaks_within_an_answer_is_an_error() -> None:
    async def half(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_http("x" * 100)[:-50])
        writer.close()

    tally = await _against(half, bodies=["a"], each=1)
    assert tally.errors == {"the connection was lost": 2}
    assert tally.samples == []


async def test_a_connection_that_the_server_cuts_is_an_error() -> None:
    async def cut(body: str, writer: asyncio.StreamWriter) -> None:
        writer.close()

    tally = await _against(cut, bodies=["a"], each=1)
    assert tally.errors == {"the connection was lost": 2}


async def test_a_server_that_never_answers_ends_with_the_time() -> None:
    async def silent(body: str, writer: asyncio.StreamWriter) -> None:
        pass

    tally = await _against(silent, bodies=["a"], seconds=0.05, timeout=0.1)
    assert tally.errors == {"no answer in time": 2}


async def test_the_first_token_of_a_stream_is_its_first_text() -> None:
    async def stream(body: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for pause, event in (
            (0.0, {"choices": [{"delta": {"role": "assistant", "content": None}}]}),
            (0.1, {"choices": [{"delta": {"content": "Hi"}}]}),
            (0.1, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 17}}),
        ):
            await asyncio.sleep(pause)
            data = f"data: {json.dumps(event)}\n\n"
            writer.write(f"{len(data):x}\r\n{data}\r\n".encode())
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    tally = await _against(stream, bodies=["a"], each=1, clients=1)
    (one,) = tally.samples
    assert one.tokens == 17
    assert one.first - one.sent >= 0.09
    assert one.ended - one.first >= 0.09


async def test_a_port_that_nobody_listens_on_is_an_error() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    tally = await load(Job(port=port, path="/", bodies=["a"], clients=1, each=1))
    assert list(tally.errors) == ["no connection: Connection refused"]
