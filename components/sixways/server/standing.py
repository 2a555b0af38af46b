"""What stands on a host: whether a release serves as it was made, and how all of it goes away."""

from __future__ import annotations

from sixways.server import holder, keys, layout, probe, slots
from sixways.server.ssh import Remote
from sixways.server.supervisord import Supervisord
from sixways.server.supervisors import Supervisor, Systemd
from sixways.server.wanted import Release
from sixways_bundle.cache import key_of


def supervisor_of(kind: str, remote: Remote) -> Supervisor:
    """The host's supervisor."""
    return Supervisord(remote) if kind == "supervisord" else Systemd(remote)


def fingerprint(definition: str, config: str) -> str:
    """Of the files in a slot: how its server is run, and what it is told."""
    return key_of(definition=definition, config=config)[:16]


def answers(remote: Remote, supervisor: Supervisor, slot: str, python: str) -> bool:
    """Whether the server in the slot serves, whatever it is."""
    return supervisor.state(slot).alive and probe.is_ready(remote, slot, python)[0]


def serves(remote: Remote, release: Release, slot: str, venv_id: str) -> bool:
    """Whether exactly this release serves from that slot already, but for the keys."""
    supervisor = supervisor_of(release.supervisor, remote)
    unit = release.unit_in(slot, venv_id)
    expected = fingerprint(supervisor.expected(slot, unit), release.config(slot))
    python = release.environment.python
    return _status(remote, supervisor, slot, expected, python) == "serving"


def status(
    remote: Remote, kind: str, slot: str, expected: str, python: str, wanted: keys.Keys
) -> str | None:
    """How the release of that fingerprint in that slot is.

    Returns:
        `serving`; `stopped`, `not ready`; `changed`: something else is there; `keys changed`; None:
        there is nothing at all.
    """
    if not any(slots.is_taken(remote, each) for each in layout.SLOTS):
        return None
    found = _status(remote, supervisor_of(kind, remote), slot, expected, python)
    if found == "serving" and remote.read(layout.KEYS) != keys.text(wanted).encode():
        return "keys changed"
    return found


def remove(remote: Remote, kind: str) -> None:
    """Ends both slots and takes everything of the releases away."""
    supervisor = supervisor_of(kind, remote)
    for slot in layout.SLOTS:
        supervisor.remove(slot)
    supervisor.leave()
    live = layout.GREEN_IS_LIVE.rpartition("/")[0]
    remote.remove(
        *(layout.config(slot) for slot in layout.SLOTS),
        *(f"{layout.STATE}/{slot}" for slot in layout.SLOTS),
        *(layout.WHEELS, layout.SUPERVISOR, layout.INCOMING, layout.KEYS, layout.GREEN_IS_LIVE),
        holder.RELEASE,
    )
    folders = (layout.BUNDLES, layout.VENVS, layout.RELEASES)
    remote.run("find", *folders, "-mindepth", "1", "-delete", check=False)
    empty = ["/run/sixways"]
    if not remote.exists(layout.OWNER):  # else they go with the host
        empty += [*folders, live, layout.HOME, layout.STATE, layout.LOGS, layout.ETC]
    remote.run("rmdir", "--ignore-fail-on-non-empty", *empty, check=False)


def _status(remote: Remote, supervisor: Supervisor, slot: str, expected: str, python: str) -> str:
    if slots.live(remote) != slot:
        return "changed"
    config = (remote.read(layout.config(slot)) or b"").decode(errors="replace")
    if fingerprint(supervisor.found(slot), config) != expected:
        return "changed"
    if not supervisor.state(slot).alive:
        return "stopped"
    return "serving" if probe.is_ready(remote, slot, python)[0] else "not ready"
