"""A release on a host: made ready beside the one that serves, then given the requests.

`prepare` brings what is missing and can be cut and repeated; `roll` starts the server in the free
slot, moves the requests, and takes the old one away. Until the new one answers nothing of the old
one is touched, and if it fails afterwards the requests go back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sixways.server import bundles, files, history, keys, layout, probe, slots, venv
from sixways.server.ssh import ConnectionLost, HostError, Remote
from sixways.server.supervisord import Supervisord
from sixways.server.supervisors import Supervisor, Systemd
from sixways.server.transfer import free_bytes, open_incoming
from sixways.server.work import Work
from sixways_bundle import BundleError, Problem
from sixways_bundle.cache import key_of

WATCH_SECONDS = 5.0
"""How long the new server is watched once it has the requests."""
_MARGIN = 100e6
"""Bytes that stay free beside what a release takes: logs, journal, the system's own."""
_LOG_LINES = 20
Connect = Callable[[], AbstractContextManager[Remote]]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to serve: its name, its bundle's folder here, its digest, and perhaps its variant."""

    name: str
    path: str
    digest: str
    variant: str | None = None

    @property
    def bundle(self) -> bundles.Wanted:
        """Its bundle."""
        return bundles.Wanted(self.digest, Path(self.path))


@dataclass(frozen=True, kw_only=True)
class Release:
    """What shall serve on a host.

    Attributes:
        models: at least one.
        environment: the server's.
        unit: its limits; interpreter and configuration are filled in.
        settings: further fields of the server's configuration.
        keys: who may call.
        keep: releases that stay beside the one that serves.
        ready_seconds: how long the server may take to be ready.
        supervisor: `systemd` or `supervisord`.
    """

    models: tuple[Model, ...]
    environment: venv.Environment
    unit: files.Unit
    settings: Mapping[str, Any]
    keys: keys.Keys
    keep: int
    ready_seconds: float
    supervisor: str

    def config(self, slot: str) -> str:
        """The configuration of its server in a slot."""
        served = []
        for model in self.models:
            entry = {"name": model.name, "path": model.bundle.place, "digest": model.digest}
            served.append(entry | ({"variant": model.variant} if model.variant else {}))
        return files.server_config(
            served,
            keys_file=layout.KEYS,
            host="127.0.0.1",
            port=layout.PORTS[slot],
            **self.settings,
        )

    def unit_in(self, slot: str, venv_id: str) -> files.Unit:
        """The unit of its server in a slot."""
        return replace(
            self.unit,
            python=f"{layout.VENVS}/{venv_id}/bin/python",
            config=layout.config(slot),
            user=layout.USER,
        )

    def id(self, venv_id: str) -> str:
        """Names all that it serves and how; the same in either slot."""
        unit = replace(self.unit_in("slot", venv_id), config=layout.config("slot")).render()
        config = self.config("blue")
        return key_of(unit=unit, config=config, supervisor=self.supervisor)[:12]


@dataclass(frozen=True)
class Prepared:
    """What a release finds on the host: its environment's id, and its models' names and tasks."""

    venv: str
    tasks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outcome:
    """A release that serves.

    Attributes:
        release_id: see `Release.id`.
        slot: where it serves.
        venv: the id of its environment.
        kept: the releases that are kept beside it, the newest first.
        fingerprint: of the files in its slot.
    """

    release_id: str
    slot: str
    venv: str
    kept: list[str]
    fingerprint: str


def supervisor_of(kind: str, remote: Remote) -> Supervisor:
    """The host's supervisor."""
    return Supervisord(remote) if kind == "supervisord" else Systemd(remote)


def prepare(remote: Remote, release: Release, work: Work) -> Prepared:
    """Brings environment and bundles to the host, after all that can be known before has been
    looked at. May be called again after a cut: it goes on from there.

    Raises:
        HostError: there is no room, a port is taken, something cannot be installed.
        BundleError: a bundle is not on this machine either.
    """
    work.say("look", "at the host")
    python = release.environment.python
    if not remote.run("id", "-u", layout.USER, check=False).ok:
        raise HostError(
            f"{remote.access} has no user {layout.USER}",
            [Problem("user", "", f"a host that is prepared: user {layout.USER} and its packages",
                     "declare sixways.server.Host before it, and let this depend on it")],
        )  # fmt: skip
    supervisor = supervisor_of(release.supervisor, remote)
    _, target = _clear(remote, supervisor, python)
    slots.require_free_port(remote, target)
    venv_id = release.environment.id(remote)
    todo = bundles.plan(remote, (model.bundle for model in release.models), work)
    _require_room(remote, release, venv_id, todo.bytes)
    work.touched = True
    open_incoming(remote)
    if release.supervisor == "supervisord":
        own = replace(release.environment, requirement="supervisor", constraints="", extras=())
        venv.make(remote, own, layout.SUPERVISOR, work)
    place = f"{layout.VENVS}/{venv_id}"
    venv.make(remote, release.environment, place, work)
    remote.folder(layout.BUNDLES)
    bundles.install(remote, todo, f"{place}/bin/python", work)
    tasks = tuple((model.name, todo.manifests[model.digest].task) for model in release.models)
    return Prepared(venv_id, tasks)


def roll(
    connect: Connect, remote: Remote, release: Release, prepared: Prepared, work: Work
) -> Outcome:
    """Starts the release in the free slot and gives it the requests.

    Args:
        connect: another connection, to undo what was done where this one breaks.
        remote: the host.
        release: what shall serve.
        prepared: what `prepare` returned.
        work: who hears of it.

    Raises:
        HostError: it does not serve, and what served before still does; ends with the last lines
            of the server's log.
    """
    supervisor = supervisor_of(release.supervisor, remote)
    python = release.environment.python
    old, target = _clear(remote, supervisor, python)
    slots.require_free_port(remote, target)
    since = int(remote.run("date", "+%s").stdout)
    before = remote.read(layout.KEYS)
    key, entry = probe.passing_key()
    moved = False
    try:
        _folders(remote)
        keys.write(remote, keys.text([*keys.joined(before, release.keys), entry]))
        unit = release.unit_in(target, prepared.venv)
        remote.write(layout.config(target), release.config(target), mode=0o640,
                     owner=f"root:{layout.USER}")  # fmt: skip
        work.say("start", f"slot {target}")
        supervisor.start(target, unit)
        run = probe.wait_until_ready(
            remote, target, python, supervisor, release.ready_seconds, work
        )
        work.say("ask", "each model")
        probe.ask_each(remote, target, python, prepared.tasks, key)
        work.say("switch", f"the requests to slot {target}")
        moved = True
        slots.switch(remote, target)
        probe.watch(remote, target, python, supervisor, run, WATCH_SECONDS, work)
        keys.write(remote, keys.text(release.keys))
        release_id = release.id(prepared.venv)
        bundle_names = tuple(sorted({model.bundle.hex for model in release.models}))
        models = tuple({"name": m.name, "digest": m.digest} for m in release.models)
        history.note(
            remote,
            history.Record(id=release_id, venv=prepared.venv, bundles=bundle_names,
                           models=models, since=int(remote.run("date", "+%s").stdout)),
        )  # fmt: skip
    except BaseException as error:
        log, undone = _undo(connect, remote, release, target, old if moved else None, since, before)
        if isinstance(error, BundleError):
            raise _failed(remote, error, supervisor.name(target), old, moved, undone, log) from None
        raise
    if old is not None:
        work.progress("end", 0.0, f"the server in slot {old} answers what it has accepted")
        supervisor.remove(old)
        remote.remove(layout.config(old))
    kept = history.prune(remote, release_id, release.keep)
    fingerprint = _fingerprint(supervisor.expected(target, unit), release.config(target))
    return Outcome(release_id, target, prepared.venv, kept, fingerprint)


def serves(remote: Remote, release: Release, slot: str, venv_id: str) -> bool:
    """Whether exactly this release serves from that slot already, but for the keys."""
    supervisor = supervisor_of(release.supervisor, remote)
    unit = release.unit_in(slot, venv_id)
    wanted = _fingerprint(supervisor.expected(slot, unit), release.config(slot))
    python = release.environment.python
    return _status(remote, supervisor, slot, wanted, python) == "serving"


def status(
    remote: Remote, kind: str, slot: str, fingerprint: str, python: str, wanted: keys.Keys
) -> str | None:
    """How the release in that slot is.

    Returns:
        `serving`; `stopped`, `not ready`; `changed`: something else is there; `keys changed`; None:
        there is nothing at all.
    """
    if not any(slots.is_taken(remote, each) for each in layout.SLOTS):
        return None
    found = _status(remote, supervisor_of(kind, remote), slot, fingerprint, python)
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
    )
    folders = (layout.BUNDLES, layout.VENVS, layout.RELEASES)
    remote.run("find", *folders, "-mindepth", "1", "-delete", check=False)
    empty = ["/run/sixways"]
    if not remote.exists(layout.OWNER):  # else they go with the host
        empty += [*folders, live, layout.HOME, layout.STATE, layout.LOGS, layout.ETC]
    remote.run("rmdir", "--ignore-fail-on-non-empty", *empty, check=False)


def _status(
    remote: Remote, supervisor: Supervisor, slot: str, fingerprint: str, python: str
) -> str:
    if slots.live(remote) != slot:
        return "changed"
    config = (remote.read(layout.config(slot)) or b"").decode(errors="replace")
    if _fingerprint(supervisor.found(slot), config) != fingerprint:
        return "changed"
    if not supervisor.state(slot).alive:
        return "stopped"
    return "serving" if probe.is_ready(remote, slot, python)[0] else "not ready"


def _clear(remote: Remote, supervisor: Supervisor, python: str) -> tuple[str | None, str]:
    """The slot that serves, if one does, and the one that is free now."""
    slot = slots.live(remote)
    beside = slots.other(slot)
    # An update that was cut, or somebody's hand: the one that answers is the one that serves.
    if (
        slots.is_taken(remote, beside)
        and not _answers(remote, supervisor, slot, python)
        and _answers(remote, supervisor, beside, python)
    ):
        slots.switch(remote, beside)
        slot, beside = beside, slot
    old = slot if slots.is_taken(remote, slot) else None
    target = beside if old else slot
    supervisor.remove(target)
    remote.remove(layout.config(target))
    return old, target


def _answers(remote: Remote, supervisor: Supervisor, slot: str, python: str) -> bool:
    return supervisor.state(slot).alive and probe.is_ready(remote, slot, python)[0]


def _require_room(remote: Remote, release: Release, venv_id: str, bundle_bytes: int) -> None:
    """Before a byte is sent: is there room for all of it?"""
    environment = wheels = 0
    if not venv.is_whole(remote, f"{layout.VENVS}/{venv_id}"):
        environment = release.environment.unpacked
        _, wheels = venv.wheels_to_send(remote, release.environment)
    need = bundle_bytes + environment + wheels
    free = free_bytes(remote, layout.HOME)
    if need and need + _MARGIN > free:
        parts = {"bundles": bundle_bytes, "wheels": wheels, "environment": environment}
        shown = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in parts.items() if size)
        raise HostError(
            f"{remote.access}: the disk is too small; nothing was sent",
            [Problem("models", f"{(need + _MARGIN) / 1e6:.0f} MB ({shown}, and "
                     f"{_MARGIN / 1e6:.0f} MB to spare)",
                     f"what fits into the {free / 1e6:.0f} MB that are free at {layout.HOME}",
                     "free some space, mount a larger disk there, or keep fewer releases (keep)")],
        )  # fmt: skip


def _folders(remote: Remote) -> None:
    remote.folder(layout.ETC)
    remote.folder(layout.RELEASES)


def _undo(
    connect: Connect,
    remote: Remote,
    release: Release,
    target: str,
    back: str | None,
    since: int,
    before: bytes | None,
) -> tuple[list[str], bool]:
    """Takes the new server away; returns its last words, and whether that worked."""
    for link in (contextlib.nullcontext(remote), connect()):
        try:
            with link as way:
                supervisor = supervisor_of(release.supervisor, way)
                log = _last_words(supervisor.log(target, since, 20 * _LOG_LINES))
                if back is not None:
                    slots.switch(way, back)
                supervisor.remove(target)
                way.remove(layout.config(target))
                if before is None:
                    way.remove(layout.KEYS)
                else:
                    keys.write(way, before)
            return log, True
        except HostError as error:
            last = error
            if not isinstance(error, ConnectionLost):
                break
    return [f"(it could not be undone: {last.message})"], False


def _last_words(lines: list[str]) -> list[str]:
    """Without our own questions, which the server logs too."""
    return [line for line in lines if '"route":"/readyz"' not in line][-_LOG_LINES:]


def _failed(
    remote: Remote,
    error: BundleError,
    name: str,
    old: str | None,
    moved: bool,
    undone: bool,
    log: list[str],
) -> HostError:
    if old is None:
        state = "Nothing served before, and nothing does now."
    elif moved:
        state = f"The requests were given back to slot {old}, which serves as before."
    else:
        state = f"Slot {old} serves as before."
    if not undone:
        state = "The next update ends what was started."
    said = "".join(f"\n  {line}" for line in log) or "\n  (nothing)"
    return HostError(
        f"{remote.access}: the release does not serve: {error} {state}\n"
        f"The last lines of {name}:{said}"
    )


def _fingerprint(definition: str, config: str) -> str:
    return key_of(definition=definition, config=config)[:16]
