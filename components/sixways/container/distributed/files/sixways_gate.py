"""vLLM's gate: every path wants a key, but for health and metrics.

vLLM's own `--api-key` guards a few prefixes; /invocations, /tokenize and /pause stay open with it
(docs.vllm.ai, "Security"). Loaded by `vllm serve --middleware sixways_gate.KeyGate`; it runs in
vLLM's image, so it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

_OPEN = frozenset({"/health", "/metrics"})
_KEYS_FILE = "SIXWAYS_KEYS_FILE"
_BODY = json.dumps(
    {
        "error": {
            "message": "this path needs an API key: send `Authorization: Bearer KEY`",
            "type": "authentication_error",
            "code": "invalid_api_key",
        }
    }
).encode()

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class KeyGate:
    """Answers 401 to who has no key; the file `SIXWAYS_KEYS_FILE` holds the keys' SHA-256.

    It is read for each request, so a changed Secret counts as soon as the node has it.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._path = Path(os.environ[_KEYS_FILE])

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request; WebSockets want a key as well."""
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer"),
                       (b"content-length", str(len(_BODY)).encode())]  # fmt: skip
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})

    def _may_pass(self, scope: Message) -> bool:
        return scope["path"] in _OPEN or any(self._is_key(key) for key in _keys(scope["headers"]))

    def _is_key(self, key: bytes) -> bool:
        digest = hashlib.sha256(key).hexdigest()
        known = json.loads(self._path.read_bytes())["keys"]
        # All of them: how long it takes says nothing.
        return any([hmac.compare_digest(digest, one["sha256"]) for one in known])  # noqa: C419


def _keys(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    found = []
    for name, value in headers:
        scheme, _, key = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            found.append(key.strip())
        elif name == b"x-api-key":
            found.append(value)
    return found
