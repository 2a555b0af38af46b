"""The releases of a host: what each was made of, and which are kept for the way back."""

from __future__ import annotations

import contextlib

import msgspec

from sixways.server import layout
from sixways.server.ssh import Remote
from sixways.server.transfer import texts
from sixways.server.venv import wheels_in

_FILE = "release.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one release is made of, and when it last got the requests (on the host's clock)."""

    id: str
    venv: str
    bundles: tuple[str, ...]
    models: tuple[dict[str, str], ...]
    since: int


def note(remote: Remote, record: Record) -> None:
    """Remembers that this release serves now."""
    remote.folder(f"{layout.RELEASES}/{record.id}")
    remote.write(f"{layout.RELEASES}/{record.id}/{_FILE}", msgspec.json.encode(record))


def releases(remote: Remote) -> list[Record]:
    """All that are kept, the newest first."""
    found = []
    for text in texts(remote, layout.RELEASES, _FILE).values():
        with contextlib.suppress(msgspec.DecodeError):  # of another version: it goes
            found.append(msgspec.json.decode(text, type=Record))
    return sorted(found, key=lambda record: record.since, reverse=True)


def prune(remote: Remote, live: str, keep: int) -> list[str]:
    """Removes all but the live release and `keep` others, and what none of these needs.

    Returns:
        The ids of the others, the newest first.
    """
    records = releases(remote)
    others = [record for record in records if record.id != live][:keep]
    kept = [record for record in records if record.id == live] + others
    venvs = {record.venv for record in kept}
    places = [*(f"{layout.VENVS}/{venv}" for venv in venvs), layout.SUPERVISOR]
    _remove_others(remote, layout.RELEASES, {record.id for record in kept})
    _remove_others(remote, layout.BUNDLES, {name for record in kept for name in record.bundles})
    _remove_others(remote, layout.VENVS, venvs)
    _remove_others(remote, layout.WHEELS, wheels_in(remote, places))
    remote.remove(layout.INCOMING)
    return [record.id for record in others]


def _remove_others(remote: Remote, folder: str, keep: set[str]) -> None:
    there = remote.run("ls", "-A", folder, check=False).stdout.split()
    remote.remove(*(f"{folder}/{name}" for name in there if name not in keep))
