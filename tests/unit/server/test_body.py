"""Bodies that come packed."""

from __future__ import annotations

import gzip
import zlib

import httpx
import pytest

from tests.unit.server.conftest import MAX_BODY

PACKED = [
    (gzip.compress(b"0" * (MAX_BODY + 1)), "gzip", 413, "unpacks to more than"),
    (zlib.compress(b"0" * (MAX_BODY * 100)), "deflate", 413, "unpacks to more than"),
    (gzip.compress(b"{}")[:-1], "gzip", 400, "not one whole gzip stream"),
    (gzip.compress(b"{}") + b"x", "gzip", 400, "not one whole gzip stream"),
    (b"{}", "gzip", 400, "not one whole gzip stream"),
    (b"", "deflate", 400, "not one whole deflate stream"),
    (b"{}", "br", 415, "accepted: gzip, deflate or none"),
    (gzip.compress(b"{}"), "gzip, gzip", 415, "accepted: gzip, deflate or none"),
]


@pytest.mark.parametrize(("content", "encoding", "status", "message"), PACKED)
@pytest.mark.parametrize("path", ["/v2/models/sum/infer", "/v1/embeddings"])
def test_a_packed_body_is_bounded_and_checked(
    client: httpx.Client, path: str, content: bytes, encoding: str, status: int, message: str
) -> None:
    response = client.post(path, content=content, headers={"content-encoding": encoding})
    assert response.status_code == status, response.text
    assert message in response.text


def test_a_packed_body_is_read_by_every_protocol(client: httpx.Client) -> None:
    packed = gzip.compress(b'{"model": "mini", "input": "a"}')
    headers = {"content-encoding": "GZIP"}
    assert client.post("/v1/embeddings", content=packed, headers=headers).status_code == 200
