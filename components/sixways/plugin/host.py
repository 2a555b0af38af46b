"""`sixways:server:Host`: a Linux host over ssh, made ready to serve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sixways.plugin.hosts import (
    ACCESS,
    ACCESS_DEFAULTS,
    SECRETS,
    check_access,
    host,
    leaving,
    ssh_library,
)
from sixways.plugin.resource import Call, Changes, PartlyMade, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem

if TYPE_CHECKING:
    from sixways.server.facts import Facts
    from sixways.server.ground import Mark
    from sixways.server.ssh import Remote

_OWN = ("owner", "firewall", "packages", "acme", "nodeExporter", "supervisor")
_INPUTS = (*ACCESS, *_OWN)
_DEFAULTS: Values = {
    **ACCESS_DEFAULTS, "packages": [], "acme": False, "nodeExporter": False,
    "supervisor": "systemd",
}  # fmt: skip
_FACTS = (
    "distribution", "family", "version", "architecture", "cpus", "memoryBytes", "freeBytes",
    "python", "systemdVersion", "nginxVersion", "gpus",
)  # fmt: skip
_OUTPUTS = (*_FACTS, "userMade", "installed", "status")
_READY = "ready"
_SUPERVISORS = ("systemd", "supervisord")
# With "-" at its end, apt would take the package away.
_PACKAGE = re.compile(r"[a-z0-9][A-Za-z0-9+._-]{0,126}[A-Za-z0-9+]|[a-z0-9]")


class HostResource(Resource):
    """A host's packages, user, folders and firewall; its id is its address."""

    token = "sixways:server:Host"  # noqa: S105 - a type token, no secret
    secrets = SECRETS

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; the host is looked at when it is reached."""
        checked = {**_DEFAULTS, **inputs}
        found = unexpected(inputs, _INPUTS) + check_access(checked)
        owner = checked.get("owner")
        if owner is not UNKNOWN and not (isinstance(owner, str) and owner.strip()):
            found.append(Problem("owner", str(owner or ""), "project and stack", "e.g. shop/prod"))
        for name in ("acme", "nodeExporter"):
            if checked[name] not in (True, False, UNKNOWN):
                found.append(Problem(name, str(checked[name]), "true or false"))
        if checked["supervisor"] not in (*_SUPERVISORS, UNKNOWN):
            found.append(Problem("supervisor", str(checked["supervisor"]),
                                 " or ".join(_SUPERVISORS)))  # fmt: skip
        found += _check_packages(checked["packages"])
        if "firewall" in checked and not is_unknown(checked["firewall"]):
            found += _check_firewall(checked["firewall"])
        return checked, found

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another address is another host; all else changes in place."""
        names = [name for name in _INPUTS if name != "address"]
        update = [name for name in names if state.get(name) != inputs.get(name)]
        if state.get("status") != _READY:
            update.append("status")
        return Changes(update, ["address"] if state["address"] != inputs["address"] else [])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Makes the host ready; where that fails, it is as it was before."""
        if preview:
            return "", {**inputs, **_foreseen(call, inputs)}
        with host(inputs) as remote:
            from sixways.server import ground

            before = ground.load(remote)
            try:
                return inputs["address"], {**inputs, **_make_ready(call, remote, inputs)}
            except BundleError as error:
                _undo(call, remote, inputs, before, error)
                raise

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """What the host is by now; that it is not ready any more is drift."""
        if "owner" not in state:
            raise BundleError(
                "a host cannot be imported. Fix: declare it and run pulumi up, which changes only "
                "what is missing"
            )
        with host(state) as remote:
            from sixways.server import facts, ground

            mark = ground.load(remote)
            if mark is None or mark.owner != state["owner"]:
                whose = f"is {mark.owner}'s" if mark else "has nothing of this stack"
                call.log("warning", f"the host {whose}.", False)
                return None
            now = facts.gather(remote)
            status = _status(remote, state, now)
        if status != _READY:
            call.log("warning", f"{status}; the next update mends it.", False)
        return {**state, **now.outputs(), "userMade": mark.user_made, "status": status}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Installs what is new and brings the firewall to what is wanted."""
        if preview:
            known = {name: state.get(name, UNKNOWN) for name in (*_OUTPUTS, "holder")}
            return {**known, **inputs, "status": _READY}
        with host(inputs) as remote:
            return {**inputs, **_make_ready(call, remote, inputs, state)}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Takes away what is ours. Packages stay: nobody knows who uses them by now."""
        with leaving(call), host(state) as remote:
            from sixways.server import ground, holder

            mark = ground.load(remote)
            if mark is None:
                return
            taken = holder.is_anothers(remote, holder.HOST, state.get("holder", ""))
            if taken or (mark.owner, mark.address) != (state["owner"], state["address"]):
                call.log("warning", f"the host is {mark.owner}'s by now, as {mark.address}, and "
                         "stays as it is.", False)  # fmt: skip
                return
            call.status("remove user, folders and firewall")
            ground.clear(remote, mark)


def _make_ready(call: Call, remote: Remote, inputs: Values, state: Values | None = None) -> Values:
    """All steps; each finds out for itself whether there is something to do."""
    from sixways.server import firewall, ground, holder, packages
    from sixways.server.facts import gather

    call.status("look at the host")
    facts = gather(remote)
    mark = _require(remote, facts, inputs, state)
    missing = packages.lacking(remote, facts, _needs(inputs, facts), inputs["packages"])
    fresh = mark is None
    mark = mark or ground.Mark(owner=inputs["owner"], address=inputs["address"])
    if fresh or (mark.owner, mark.address) != (inputs["owner"], inputs["address"]):
        mark.owner, mark.address = inputs["owner"], inputs["address"]
        ground.save(remote, mark)
    if missing:
        call.status(f"install {' '.join(missing)}")
        packages.install(remote, facts, missing, call.status)
        facts = gather(remote)
    ground.prepare(remote, facts, mark)
    if "firewall" in inputs:
        wanted = firewall.Firewall.of(inputs, facts, firewall.lookup(remote))
        if firewall.difference(remote, wanted):
            firewall.apply(remote, wanted, call.status)
    else:
        firewall.remove(remote)
        _warn_of_closed(call, facts)
    call.status(f"{facts.distribution} {facts.version} is ready")
    installed = {*missing, *(state or {}).get("installed", ())}
    own = (state or {}).get("holder") or holder.new()
    holder.take(remote, holder.HOST, own)
    return {
        **facts.outputs(),
        "userMade": mark.user_made,
        "installed": sorted(installed),
        "status": _READY,
        "holder": own,
    }


def _require(
    remote: Remote, facts: Facts, inputs: Values, state: Values | None = None
) -> Mark | None:
    """Refuses what can be refused before anything is changed; returns the host's mark."""
    from sixways.server import firewall, ground
    from sixways.server.ssh import HostError

    name = str(remote.access)
    owners = (inputs["owner"], *([state["owner"]] if state else []))
    mark = ground.load(remote)
    ground.require_ours(mark, owners, name)
    if inputs["supervisor"] == "systemd" and not facts.systemd_version:
        raise HostError(
            f"{name} is not run by systemd",
            [Problem("supervisor", "systemd", "supervisord on such a host", "set it")],
        )
    if "firewall" in inputs:
        firewall.require_alone(facts, name)
        firewall.Firewall.of(inputs, facts, firewall.lookup(remote)).require_way(facts, name)
    return mark


def _undo(
    call: Call, remote: Remote, inputs: Values, before: Mark | None, error: BundleError
) -> None:
    """After a failed create: a host is whose it was before, and nobody's if it was nobody's.

    Raises:
        PartlyMade: that fails too.
    """
    from sixways.server import ground
    from sixways.server.ssh import HostError

    try:
        mark = ground.load(remote)
        if before is not None:
            if mark is not None and mark.owner == before.owner:
                mark.address = before.address
                ground.save(remote, mark)
            return
        if mark is not None and mark.owner == inputs["owner"]:
            ground.clear(remote, mark)
    except HostError as second:
        call.log("warning", f"what was begun could not be undone: {second.message}", False)
        outputs = {**inputs, "status": "not ready"}
        raise PartlyMade(error, inputs["address"], outputs) from None


def _foreseen(call: Call, inputs: Values) -> Values:
    """What a preview can tell: it looks at a host that answers, and changes nothing."""
    outputs: Values = dict.fromkeys(_OUTPUTS, UNKNOWN)
    if is_unknown(inputs):
        return outputs
    with ssh_library():
        from sixways.server.facts import gather
        from sixways.server.ssh import ConnectionLost

    try:
        with host(inputs) as remote:
            facts = gather(remote)
            _require(remote, facts, inputs)
    except ConnectionLost as error:  # it may be made by this very update
        call.log("warning", f"not looked at yet: {error.message}.", False)
        return outputs
    found = facts.outputs()
    # What is missing will be installed.
    return outputs | {name: value for name, value in found.items() if value != ""}


def _status(remote: Remote, state: Values, facts: Facts) -> str:
    from sixways.server import firewall, ground

    if not facts.python:
        return "its Python is gone"
    if not facts.nginx_version:
        return "its Nginx is gone"
    wanted = None
    if "firewall" in state:
        wanted = firewall.Firewall.of(state, facts, firewall.lookup(remote))
    return ground.difference(remote) or firewall.difference(remote, wanted) or _READY


def _needs(inputs: Values, facts: Facts) -> list[str]:
    wanted = {
        "nginx": True,
        "firewall": "firewall" in inputs,
        "acme": inputs["acme"],
        "nodeExporter": inputs["nodeExporter"],
        "selinux": facts.selinux,
    }
    return [name for name, needed in wanted.items() if needed]


def _warn_of_closed(call: Call, facts: Facts) -> None:
    """The host's own firewall is the user's; it is left alone, but not in silence."""
    from sixways.server.firewall import OPEN_HTTPS

    if facts.firewall:
        call.log("warning", f"{facts.firewall} is active on the host: callers are let in only "
                 f"where it opens https (`{OPEN_HTTPS[facts.firewall]}`).", False)  # fmt: skip


def _check_packages(given: Any) -> list[Problem]:
    if is_unknown(given):
        return []
    if not isinstance(given, list):
        return [Problem("packages", str(given), "a list of packages of the host's distribution")]
    return [
        Problem(f"packages[{index}]", str(value), "a package's name, e.g. jq", "correct it")
        for index, value in enumerate(given)
        if not (isinstance(value, str) and _PACKAGE.fullmatch(value))
    ]


def _check_firewall(given: Any) -> list[Problem]:
    with ssh_library():
        from sixways.server.firewall import problems
    return problems(given)
