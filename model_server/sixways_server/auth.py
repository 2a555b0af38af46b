"""Who may call: every path needs a key, but for a short list of open ones.

The list is of what is open, not of what is guarded, so a new route is guarded until somebody
says otherwise. A path that does not exist needs a key as well: nobody learns routes by trying.

The keys file holds hashes only: `{"keys": [{"name": "default", "sha256": "<64 hex digits>"}]}`.
Keys are long random strings, so a plain SHA-256 cannot be turned back by guessing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from sixways_bundle.errors import BundleError, Problem
from sixways_server.errors import Unauthorized
from sixways_server.protocols import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = frozenset(
    {
        "/",
        "/console.json",
        "/healthz",
        "/metrics",
        "/ping",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
    }
)
_RECHECK_SECONDS = 1.0
_log = logging.getLogger("sixways.auth")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key: the `name` logs show and the SHA-256 of the key itself in hex."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _KeysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[Key, ...]


class KeyStore:
    """The keys of one file; a changed file counts within a second, without a restart.

    Args:
        path: the keys file.

    Raises:
        BundleError: the file is missing or wrong. Later, a file that became wrong leaves the
            keys as they were and is logged.

    Attributes:
        open_paths: paths that need no key.
    """

    open_paths = OPEN_PATHS

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stat()
        self._keys = self._read()
        self._checked = time.monotonic()

    def check(self, key: str | None) -> str:
        """The name of the key.

        Raises:
            Unauthorized: there is no key, or not one of ours.
        """
        self._reload()
        if not key:
            raise Unauthorized(
                "no API key given; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
            )
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for candidate in self._keys:  # no early end: the time must not tell which key is near
            if hmac.compare_digest(candidate.sha256, digest):
                found = candidate.name
        if found is None:
            raise Unauthorized(
                "the API key is not one of this server's; check it for typing errors"
            )
        return found

    def _reload(self) -> None:
        now = time.monotonic()
        if now - self._checked < _RECHECK_SECONDS:
            return
        self._checked = now
        stamp = self._stat()
        if stamp == self._stamp:
            return
        try:
            self._keys = self._read()
        except BundleError as error:
            _log.warning("the keys stay as they were: %s", error)
        else:
            _log.info("keys loaded again: %s", ", ".join(key.name for key in self._keys))
        self._stamp = stamp

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[Key, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_KeysFile).keys
        except OSError as error:
            reason: object = error.strerror
        except msgspec.DecodeError as error:
            reason = error
        raise BundleError(
            "the keys file cannot be read",
            [Problem("keys_file", str(self._path),
                     f'{{"keys": [{{"name": "…", "sha256": "<64 hex digits>"}}]}} ({reason})',
                     "make one: python -m sixways_server.auth FILE")],
        )  # fmt: skip


def add_key(path: Path, name: str = "default") -> str:
    """Makes a key, puts its hash into the file (made with mode 0600 if missing), returns the key.

    A key of the same name is replaced. The key itself is stored nowhere.
    """
    keys: tuple[Key, ...] = ()
    if path.exists():
        keys = msgspec.json.decode(path.read_bytes(), type=_KeysFile).keys
    key = "sk-" + secrets.token_urlsafe(32)
    entry = Key(name, hashlib.sha256(key.encode()).hexdigest())
    data = msgspec.json.encode(_KeysFile((*(k for k in keys if k.name != name), entry)))
    # Written beside and renamed, so that a running server never reads half a file.
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)
    return key


def presented_key(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The key a request shows, or None."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"authorization" and value[:6].lower() == b"basic ":
            return _password(value[6:])
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return None


def _password(basic: bytes) -> str | None:
    """The key as the password of whatever user: what programs send that know only `.netrc`."""
    try:
        return base64.b64decode(basic.strip(), validate=True).decode("latin-1").partition(":")[2]
    except ValueError:
        return None


class RequireKey:
    """ASGI: lets through what shows a key or asks for an open path, before any body is read."""

    def __init__(self, app: ASGIApp, keys: KeyStore) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise Unauthorized("only HTTP is served")
        # Below a root path the router would see another path than we do: nothing is open there.
        if scope["path"] not in self._keys.open_paths or scope.get("root_path"):
            try:
                scope["state"]["key_name"] = self._keys.check(presented_key(scope["headers"]))
            except Unauthorized as error:
                await error_response(scope["path"], error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def main(arguments: list[str]) -> int:
    """`python -m sixways_server.auth FILE [NAME]`: adds a key and prints it once."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m sixways_server.auth FILE [NAME]\n")
        return 2
    sys.stdout.write(add_key(Path(arguments[0]), *arguments[1:]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
