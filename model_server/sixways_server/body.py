"""A request's body, read whole and unpacked, never to more than the server's limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from sixways_server.errors import BadRequest, BodyTooLarge, UnsupportedMedia

T = TypeVar("T")
_WINDOW = {b"gzip": 31, b"deflate": 15}
"""zlib's window bits for each Content-Encoding; `deflate` is the zlib format (RFC 9110, 8.4.1)."""
_LARGE = 64 * 1024
"""Bytes from which work on a body is done in a thread."""


async def off_loop(size: int, work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments)`; in a thread where it is over `size` bytes that take a while."""
    if size < _LARGE:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


async def read_body(request: Request, most: int) -> bytes:
    """The body, unpacked where it came packed.

    Args:
        request: the request.
        most: bytes that it may have once it is unpacked.

    Raises:
        UnsupportedMedia: packed in a way that is not known here.
        BadRequest: it is not what its Content-Encoding says.
        BodyTooLarge: it unpacks to more.
    """
    data = await request.body()
    for name, value in request.scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return await asyncio.to_thread(_unpacked, data, value.strip().lower(), most)
    return data


def _unpacked(data: bytes, encoding: bytes, most: int) -> bytes:
    if encoding not in _WINDOW:
        raise UnsupportedMedia(
            f"content-encoding: {encoding[:40].decode('latin-1')!r} is not accepted; accepted: "
            "gzip, deflate or none",
            field="content-encoding",
        )
    stream = zlib.decompressobj(_WINDOW[encoding])
    try:
        content = stream.decompress(data, most + 1)
    except zlib.error:
        content = b""
    if len(content) > most:
        raise BodyTooLarge(
            f"the body unpacks to more than {most} bytes; send fewer inputs a request, or raise "
            "max_body_bytes of the server"
        )
    if not stream.eof or stream.unused_data:
        raise BadRequest(
            f"the body is not one whole {encoding.decode()} stream, as content-encoding says",
            field="content-encoding",
            code="invalid_encoding",
        )
    return content
