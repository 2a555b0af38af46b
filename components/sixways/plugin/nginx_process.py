"""`sixways:api:NginxProcess`: the Nginx of a gateway, on this machine or on a host over ssh."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi

import sixways
from sixways.api import nginx_args, nginx_files
from sixways.naming import to_camel, to_snake
from sixways.plugin.nginx_here import Here
from sixways.plugin.nginx_place import Place, log_path
from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem

_INPUTS = (
    "upstream", "upstreamKey", "plans", "keys", "routes", "maxBodyBytes", "log", "certificate",
    "certificateKey", "listen", "port", "trustedProxies", "metricsPort", "stateDir", "host",
    "privateKey",
)  # fmt: skip
_PLACE = ("stateDir", "host")
_COMPUTED = ("url", "healthUrl", "logPath", "status", "folder", "version", "configuration")
_RUNNING, _STOPPED, _CHANGED = "running", "stopped", "changed"


class _Later(pulumi.Output[Any]):
    """Stands for a value that a preview cannot know: every check passes over outputs."""

    def __init__(self) -> None:
        """Is never resolved."""


class NginxProcessResource(Resource):
    """One Nginx master with its workers, and a folder that holds all of it."""

    token = "sixways:api:NginxProcess"  # noqa: S105 - a type token, no secret
    secrets = frozenset({"keys", "upstreamKey", "certificateKey", "privateKey"})
    delete_before_replace = True  # it owns its port

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """What the component checked, now with the values that were outputs then."""
        checked = {"listen": "127.0.0.1", "port": 8080, **inputs}
        problems = unexpected(inputs, _INPUTS)
        args: Any = _later(gateway_args({k: v for k, v in checked.items() if k in _INPUTS}))
        args["dev"] = True  # what only a trial may do, the component has judged
        found = nginx_args.known_problems(args)
        problems += [replace(one, field=_wire_field(one.field)) for one in found]
        keys = checked.get("keys")
        for index, key in enumerate(keys if isinstance(keys, list) else []):
            if isinstance(key, dict) and not key.get("key"):
                problems.append(Problem(f"keys[{index}].key", "", "a key", "give one"))
        if "host" not in checked and not checked.get("stateDir"):
            problems.append(Problem("stateDir", "", "a folder for configuration, log and pid",
                                    "name one, or a host"))  # fmt: skip
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another place is another gateway; all else changes in place."""
        fields = [n for n in _INPUTS if state.get(n) != inputs.get(n)]
        moved = [n for n in fields if n in _PLACE and _place(state, n) != _place(inputs, n)]
        update = [n for n in fields if n not in moved]
        if state.get("status") != _RUNNING:
            update.append("status")
        if state.get("version") != sixways.__version__:
            update.append("version")
        return Changes(update, moved)

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Starts it and waits until it listens; undoes what it did where it does not."""
        if is_unknown([inputs.get(name) for name in (*_PLACE, "listen", "port")]):
            return "", {**inputs, **_foreseen(inputs)}
        if preview and "host" in inputs:
            return "", {**inputs, **_foreseen(inputs)}
        with _at(call, inputs) as place:
            machine = place.machine()
            if not preview:
                # No state knows of it, so what an interrupted create left behind is ours to end.
                place.remove()
            if not place.running():
                place.require_free(inputs["listen"], inputs["port"])
            if preview:
                return "", {**inputs, **_foreseen(inputs)}
            try:
                outputs = self._deploy(call, place, machine, inputs)
            except BaseException:
                place.remove()
                raise
        return call.name, {**inputs, **outputs}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state as it is: a dead process, or files that somebody else wrote, are drift."""
        if "folder" not in state:
            raise BundleError(
                "a gateway cannot be imported",
                [Problem("id", resource_id, "a gateway of this stack's state",
                         "declare it and run pulumi up, which starts it")],
            )  # fmt: skip
        with _at(call, state) as place:
            running, live = place.running(), place.live()
        if not running:
            call.log("warning", "the gateway does not run; the next update starts it.", False)
            return {**state, "status": _STOPPED}
        if live != state["configuration"]:
            call.log("warning", f"somebody else wrote the files in {state['folder']}; the next "
                     "update writes them anew.", False)  # fmt: skip
            return {**state, "status": _CHANGED}
        return {**state, "status": _RUNNING}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """A new configuration and a graceful reload; nothing where Nginx refuses it."""
        if preview:
            return {**inputs, **_foreseen(inputs), "folder": state["folder"]}
        with _at(call, inputs) as place:
            return {**inputs, **self._deploy(call, place, place.machine(), inputs)}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Lets it answer what it has accepted, ends it and removes its folder."""
        with _at(call, state) as place:
            place.remove()

    def _deploy(
        self, call: Call, place: Place, machine: nginx_files.Machine, inputs: Values
    ) -> Values:
        args = gateway_args(inputs)
        args["upstream_key"] = inputs.get("upstreamKey")
        args |= {name: inputs.get(to_camel(name)) for name in ("certificate", "certificate_key")}
        configuration = place.deploy(nginx_files.render(args, machine), call.status)
        place.expire_logs(nginx_files.log_days(args))
        call.status(f"listens at {_url(inputs)}")
        return {
            **_addresses(inputs),
            "logPath": (args.get("log") or {}).get("target") or log_path(place.folder),
            "status": _RUNNING,
            "folder": place.folder,
            "version": sixways.__version__,
            "configuration": configuration,
        }


def gateway_args(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The resource's inputs as those of the component."""
    args: dict[str, Any] = _snake(inputs)
    if isinstance(args.get("upstream"), dict) and args.get("upstream_key") is not None:
        args["upstream"] = {**args["upstream"], "api_key": args["upstream_key"]}
    args.pop("upstream_key", None)
    tls = {name: args.pop(name) for name in ("certificate", "certificate_key")
           if args.get(name) is not None}  # fmt: skip
    if tls:
        args["tls"] = tls
    key = args.pop("private_key", None)
    if key is not None and isinstance(args.get("host"), dict):
        args["host"] = {**args["host"], "private_key": key}
    return args


def _wire_field(field: str) -> str:
    """`upstream.instances[0].ca_certificate` as `upstream.instances[0].caCertificate`."""
    field = {
        "upstream.api_key": "upstreamKey",
        "host.private_key": "privateKey",
    }.get(field, field.removeprefix("tls."))
    return ".".join(to_camel(part) for part in field.split("."))


@contextlib.contextmanager
def _at(call: Call, values: Values) -> Iterator[Place]:
    """The place of these inputs, or of this state."""
    if "host" not in values:
        yield Here(_folder(call, values))
        return
    from sixways.plugin import hosts

    with hosts.ssh_library():
        from sixways.plugin.nginx_host import OnHost
    access = {**hosts.ACCESS_DEFAULTS, **values["host"]}
    if values.get("privateKey"):
        access["privateKey"] = values["privateKey"]
    with hosts.host(access) as remote:
        yield OnHost(remote, call.urn)


def _folder(call: Call, values: Values) -> Path:
    """One folder for each URN: names repeat below different parents, and may hold slashes."""
    if "folder" in values:
        return Path(values["folder"])
    slug = re.sub(r"[^A-Za-z0-9_-]", "-", call.name)[:40]
    return Path(values["stateDir"]) / f"{slug}-{hashlib.sha256(call.urn.encode()).hexdigest()[:8]}"


def _place(values: Values, name: str) -> object:
    """What makes a place another one: a host's address, not who logs in there."""
    value = values.get(name)
    return value.get("address") if isinstance(value, dict) else value


def _foreseen(inputs: Values) -> Values:
    """What a preview can tell."""
    outputs: Values = dict.fromkeys(_COMPUTED, UNKNOWN)
    if not is_unknown([inputs.get(n) for n in ("host", "listen", "port", "upstream")]):
        outputs |= _addresses(inputs)
    return outputs | {"status": _RUNNING, "version": sixways.__version__}


def _url(inputs: Values) -> str:
    listen = str(inputs["listen"])
    if listen in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        listen = inputs["host"]["address"] if "host" in inputs else "127.0.0.1"
    host = f"[{listen}]" if ":" in listen else listen
    scheme, usual = ("https", 443) if inputs.get("certificate") else ("http", 80)
    port = "" if inputs["port"] == usual else f":{inputs['port']}"
    return f"{scheme}://{host}{port}"


def _addresses(inputs: Values) -> Values:
    url = _url(inputs)
    return {"url": url, "healthUrl": f"{url}{inputs['upstream']['healthPath']}"}


def _snake(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {to_snake(name): _snake(item) for name, item in value.items()}
    return [_snake(item) for item in value] if isinstance(value, list) else value


def _later(value: Any) -> Any:
    if value is UNKNOWN:
        return _Later()
    if isinstance(value, dict):
        return {name: _later(item) for name, item in value.items()}
    return [_later(item) for item in value] if isinstance(value, list) else value
