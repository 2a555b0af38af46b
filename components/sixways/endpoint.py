"""What every way's endpoint shares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def bundle_digest(models: Sequence[Mapping[str, Any]]) -> str:
    """What is served, as one digest: the bundle's own, or that of all names and digests.

    Args:
        models: each with its `name` and its bundle's `digest`.
    """
    if len(models) == 1:
        return str(models[0]["digest"])
    served = sorted((model["name"], model["digest"]) for model in models)
    return f"sha256:{hashlib.sha256(msgspec.json.encode(served)).hexdigest()}"


def keys_json(key_sha256: str) -> str:
    """The file by which a server knows its only key: the key's hash alone."""
    return json.dumps({"keys": [{"name": "default", "sha256": key_sha256}]}, separators=(",", ":"))
