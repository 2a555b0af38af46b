"""The keys file of a host. During a release the old keys count beside the new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sixways.server import layout
from sixways.server.ssh import Remote

Keys = Sequence[Mapping[str, str]]
"""Each with `name` and `sha256`."""


def text(keys: Keys) -> str:
    """The file as the server reads it."""
    entries = [{"name": key["name"], "sha256": key["sha256"]} for key in keys]
    return msgspec.json.format(msgspec.json.encode({"keys": entries})).decode() + "\n"


def write(remote: Remote, content: str | bytes) -> bool:
    """Puts it there for the server's user; returns whether it changed."""
    return remote.write(layout.KEYS, content, mode=0o640, owner=f"root:{layout.USER}")


def joined(before: bytes | None, keys: Keys) -> list[Mapping[str, str]]:
    """The new keys and those of the file before, each once."""
    found = {key["sha256"]: key for key in keys}
    for key in _entries(before):
        found.setdefault(key["sha256"], key)
    return list(found.values())


def _entries(content: bytes | None) -> list[dict[str, str]]:
    try:
        file: dict[str, Any] = msgspec.json.decode(content or b"{}", type=dict[str, Any])
        return msgspec.convert(file.get("keys", []), list[dict[str, str]])
    except (msgspec.DecodeError, msgspec.ValidationError):  # somebody spoilt it: it holds no keys
        return []
