"""`sixways:server:Release`: what serves on a host, in two slots, over ssh."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sixways
from sixways.endpoint import bundle_digest
from sixways.naming import to_snake
from sixways.plugin import hosts
from sixways.plugin.release_checks import DEFAULTS, INPUTS, check
from sixways.plugin.resource import Call, Changes, PartlyMade, Progress, Resource, Values
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem
from sixways_bundle.cache import key_of

if TYPE_CHECKING:
    from sixways.server.releasing import Outcome
    from sixways.server.wanted import Release
    from sixways.server.work import Work

_OUTPUTS = ("releaseId", "slot", "bundleDigest", "status", "kept", "venv", "fingerprint",
            "holder")  # fmt: skip
_REPLACES = ("address", "supervisor")
_SERVING, _FAILED = "serving", "failed"
_CUTS = 5
"""How often a broken connection is made again during an upload."""
_PAUSE_SECONDS = 2.0


class ReleaseResource(Resource):
    """What serves on one host. Its id is the host's address."""

    token = "sixways:server:Release"  # noqa: S105 - a type token, no secret
    secrets = hosts.SECRETS | {"keys", "indexUrl"}
    delete_before_replace = True  # a host has these slots once

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; the wheels' digest is one of them where their folder is here."""
        given = {name: value for name, value in inputs.items() if name != "wheelsDigest"}
        checked = {**hosts.ACCESS_DEFAULTS, **DEFAULTS, "version": sixways.__version__, **given}
        problems = hosts.check_access(checked) + check(given, checked)
        folder = checked.get("wheelhouse")
        if not problems and isinstance(folder, str) and any(Path(folder).glob("*.whl")):
            from sixways.server.venv import wheels_of

            wheels = wheels_of(Path(folder))
            checked["wheelsDigest"] = key_of(wheels=sorted(w.item.sha256 for w in wheels))
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another address is another host, and no supervisor can end what another one runs; all
        else changes in place."""
        update = [
            name
            for name in (*INPUTS, "wheelsDigest")
            if name not in (*_REPLACES, "models") and state.get(name) != inputs.get(name)
        ]
        # The machine that runs this may not have the wheels, and need not while nothing changes.
        if "wheelsDigest" not in inputs and state.get("wheelhouse") == inputs.get("wheelhouse"):
            update = [name for name in update if name != "wheelsDigest"]
        if _served(state) != _served(inputs):
            update.append("models")
        if state.get("status") != _SERVING:
            update.append("status")
        return Changes(update, [name for name in _REPLACES if state[name] != inputs[name]])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Makes the first release; what a failed one left is kept in the state, to be gone on with
        or taken away."""
        if preview:
            return "", {**inputs, **_foreseen(inputs)}
        work = _work(call)
        from sixways.server import holder

        own = holder.new()
        try:
            return inputs["address"], {**inputs, **_release(call, inputs, work, own)}
        except BundleError as error:
            if not work.touched:
                raise
            nothing = {"releaseId": "", "slot": "", "kept": [], "venv": "", "fingerprint": ""}
            nothing |= {"bundleDigest": "", "status": _FAILED, "holder": own}
            raise PartlyMade(error, inputs["address"], {**inputs, **nothing}) from None

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state as it is: what does not serve, or was changed by hand, is drift."""
        if "fingerprint" not in state:
            raise BundleError(
                "a release cannot be imported. Fix: declare it and run pulumi up, which sends only "
                "what is missing"
            )
        if not state["slot"]:  # it never served
            return state
        with hosts.host(state) as remote:
            from sixways.server import standing

            found = standing.status(
                remote, state["supervisor"], state["slot"], state["fingerprint"], state["python"],
                state["keys"],
            )  # fmt: skip
        if found != _SERVING:
            call.log("warning", f"{state['address']}: {found or 'nothing is there'}; the next "
                     "update makes it serve.", False)  # fmt: skip
        return None if found is None else {**state, "status": found}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Makes the next release, where anything but keys and upkeep changed."""
        known = {name: state[name] for name in _OUTPUTS if name in state}
        if preview:
            return {**inputs, **known, **_foreseen(inputs)}
        same = self._upkeep(call, state, inputs) if state["slot"] else None
        if same is None:
            from sixways.server import holder

            same = _release(call, inputs, _work(call), state.get("holder") or holder.new())
        return {**inputs, **same}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Ends the servers, and removes all that the releases put there."""
        with hosts.leaving(call), hosts.host(state) as remote:
            from sixways.server import holder, standing

            if holder.is_anothers(remote, holder.RELEASE, state.get("holder", "")):
                call.log("warning", f"what serves on {state['address']} is another resource's by "
                         "now, and stays.", False)  # fmt: skip
                return
            call.status("end the servers and remove the releases")
            standing.remove(remote, state["supervisor"])

    def _upkeep(self, call: Call, state: Values, inputs: Values) -> Values | None:
        """The outputs, where what is wanted serves already: only keys are written, and what is no
        longer kept is removed. None: another release is needed."""
        from sixways.server import history, keys, standing

        release = _wanted(inputs)
        with hosts.host(inputs) as remote:
            venv = release.environment.id(remote)
            if not standing.serves(remote, release, state["slot"], venv):
                return None
            keys.write(remote, keys.text(release.keys))
            kept = state["kept"]
            if state["keep"] != inputs["keep"]:
                kept = history.prune(remote, state["releaseId"], release.keep)
        known = {name: state[name] for name in _OUTPUTS if name in state}
        return {**known, "kept": kept, "status": _SERVING}


def _work(call: Call) -> Work:
    with hosts.ssh_library():
        from sixways.server.work import Work
    return Work(Progress(call), call.cancelled, call.status)


def _release(call: Call, inputs: Values, work: Work, own: str) -> Values:
    """Makes a release, `own` is its resource's; an upload goes on after a cut."""
    from sixways.server import holder, releasing
    from sixways.server.ssh import ConnectionLost

    release = _wanted(inputs)
    for cut in range(1, _CUTS + 2):
        try:
            with hosts.host(inputs) as remote:
                prepared = releasing.prepare(remote, release, work)
            break
        except ConnectionLost as error:
            if not work.touched or cut > _CUTS:
                raise
            call.log("warning", f"{error.message}; it goes on ({cut} of {_CUTS})", False)
            call.cancelled.wait(_PAUSE_SECONDS)
    with hosts.host(inputs) as remote:
        again = functools.partial(hosts.host, inputs)
        outcome = releasing.roll(again, remote, release, prepared, work)
        holder.take(remote, holder.RELEASE, own)
    call.status(f"slot {outcome.slot} serves; {work.sent / 1e6:.1f} MB were sent")
    return {**_outputs(inputs, outcome), "holder": own}


def _wanted(inputs: Values) -> Release:
    from sixways.image import constraints
    from sixways.server.files import DRAIN_SECONDS, Unit
    from sixways.server.venv import Environment, wheels_of
    from sixways.server.wanted import Model, Release

    settings = {to_snake(name): value for name, value in inputs["server"].items()}
    extras = tuple(dict.fromkeys(("server", *inputs["extras"])))
    folder = inputs.get("wheelhouse")
    environment = Environment(
        requirement=f"sixways[{','.join(extras)}]=={inputs['version']}",
        python=inputs["python"],
        wheels=wheels_of(Path(folder)) if folder else None,
        index_url=inputs.get("indexUrl"),
        constraints=constraints(),
        extras=extras,
    )
    unit = Unit(
        drain_seconds=settings.get("drain_seconds", DRAIN_SECONDS),
        systemd_version=inputs["systemdVersion"],
        memory_max=inputs.get("memoryMax"),
        cpu_quota=inputs.get("cpuQuota"),
        gpu=inputs["gpu"],
    )
    return Release(
        models=tuple(Model(**model) for model in inputs["models"]),
        environment=environment,
        unit=unit,
        settings=settings,
        keys=inputs["keys"],
        keep=inputs["keep"],
        ready_seconds=inputs["readySeconds"],
        supervisor=inputs["supervisor"],
    )


def _outputs(inputs: Values, outcome: Outcome) -> Values:
    return {
        "releaseId": outcome.release_id,
        "slot": outcome.slot,
        "bundleDigest": bundle_digest(inputs["models"]),
        "status": _SERVING,
        "kept": outcome.kept,
        "venv": outcome.venv,
        "fingerprint": outcome.fingerprint,
    }


def _foreseen(inputs: Values) -> Values:
    """What a preview can tell."""
    outputs: Values = dict.fromkeys(_OUTPUTS, UNKNOWN)
    if not is_unknown(inputs["models"]):
        outputs["bundleDigest"] = bundle_digest(inputs["models"])
    return {**outputs, "status": _SERVING}


def _served(values: Values) -> Any:
    """The models without the folders they are sent from, which say nothing of what they are."""
    models = values.get("models")
    if not isinstance(models, list):
        return models
    return [
        {name: value for name, value in model.items() if name != "path"}
        if isinstance(model, dict) else model
        for model in models
    ]  # fmt: skip
