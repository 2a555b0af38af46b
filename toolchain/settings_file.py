"""The user's `Pulumi.dev.yaml`: a copy of the tracked settings, plus what Pulumi adds to it.

Pulumi writes a salt into it that belongs to the passphrase of this checkout, and encrypts secret
values with that passphrase. Neither can be read once the passphrase is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SALT = "encryptionsalt"


def content(settings: Path) -> Any:
    """What the file says, without the salt."""
    import yaml  # Of the environment, not of the standard library: only `up` and `down` need it.

    parsed = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
    if isinstance(parsed, dict):
        parsed.pop(_SALT, None)
    return parsed


def has_secrets(value: Any) -> bool:
    """Whether a value that only the passphrase opens is anywhere in it."""
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return True
        return any(has_secrets(inner) for inner in value.values())
    return isinstance(value, list) and any(has_secrets(inner) for inner in value)


def same(one: Any, other: Any) -> bool:
    """Whether two settings mean the same: Pulumi writes `5000` back as `"5000"`."""
    return bool(_as_pulumi_writes(one) == _as_pulumi_writes(other))


def _as_pulumi_writes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_pulumi_writes(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_pulumi_writes(inner) for inner in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def drop_salt(settings: Path) -> None:
    """Remove the salt's line and leave everything else, comments included, as it is."""
    lines = settings.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{_SALT}:")]
    if kept != lines:
        settings.write_text("".join(kept), encoding="utf-8")
