"""A release on a host: made ready beside the one that serves, then given the requests.

`prepare` brings what is missing and can be cut and repeated; `roll` starts the server in the free
slot, moves the requests, and takes the old one away. Until the new one answers nothing of the old
one is touched, and if it fails afterwards the requests go back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from sixways.server import bundles, history, keys, layout, probe, slots, standing, venv
from sixways.server.ssh import ConnectionLost, HostError, Remote
from sixways.server.supervisors import Supervisor
from sixways.server.transfer import free_bytes, open_incoming
from sixways.server.wanted import Release
from sixways.server.work import Work
from sixways_bundle import BundleError, Problem

WATCH_SECONDS = 5.0
"""How long the new server is watched once it has the requests."""
_MARGIN = 100e6
"""Bytes that stay free beside what a release takes: logs, journal, the system's own."""
_LOG_LINES = 20
Connect = Callable[[], AbstractContextManager[Remote]]


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
    supervisor = standing.supervisor_of(release.supervisor, remote)
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
    supervisor = standing.supervisor_of(release.supervisor, remote)
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
        work.tell(f"end: the server in slot {old} answers what it has accepted")
        supervisor.remove(old)
        remote.remove(layout.config(old))
    kept = history.prune(remote, release_id, release.keep)
    fingerprint = standing.fingerprint(supervisor.expected(target, unit), release.config(target))
    return Outcome(release_id, target, prepared.venv, kept, fingerprint)


def _clear(remote: Remote, supervisor: Supervisor, python: str) -> tuple[str | None, str]:
    """The slot that serves, if one does, and the one that is free now."""
    slot = slots.live(remote)
    beside = slots.other(slot)
    # An update that was cut, or somebody's hand: the one that answers is the one that serves.
    if (
        slots.is_taken(remote, beside)
        and not standing.answers(remote, supervisor, slot, python)
        and standing.answers(remote, supervisor, beside, python)
    ):
        slots.switch(remote, beside)
        slot, beside = beside, slot
    old = slot if slots.is_taken(remote, slot) else None
    target = beside if old else slot
    supervisor.remove(target)
    remote.remove(layout.config(target))
    return old, target


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
                supervisor = standing.supervisor_of(release.supervisor, way)
                if back is not None:  # first: callers wait
                    slots.switch(way, back)
                log = _last_words(supervisor.log(target, since, 20 * _LOG_LINES))
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
