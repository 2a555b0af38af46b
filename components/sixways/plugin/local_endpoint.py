"""`sixways:local:LocalEndpoint`: a model server on this machine."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from pathlib import Path
from typing import Any

import msgspec

import sixways
from sixways.local import process
from sixways.local.process import Running, ServedModel
from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import Problem
from sixways_bundle.verify import verify

_INPUTS = ("models", "host", "port", "apiKey", "stateDir")
_MODEL_FIELDS = ("name", "path", "digest", "variant")
_COMPUTED = (
    "url", "healthUrl", "dashboard", "bundleDigest", "pid", "startedAt", "logPath", "status",
    "serverVersion",
)  # fmt: skip
_RUNNING, _STOPPED = "running", "stopped"
_SHORTEST_KEY = 16


class LocalEndpointResource(Resource):
    """One server process; its folder below `stateDir` holds pid, log and key hashes."""

    token = "sixways:local:LocalEndpoint"  # noqa: S105 - a type token, no secret
    secrets = frozenset({"apiKey"})

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; what they point at is looked at when it is used."""
        checked = {"host": "127.0.0.1", "port": 5000, **inputs}
        problems = unexpected(inputs, _INPUTS)
        problems += _check_models(checked.get("models"))
        problems += _check_address(checked["host"], checked["port"])
        key = checked.get("apiKey")
        if isinstance(key, str) and len(key) < _SHORTEST_KEY:
            problems.append(
                Problem("apiKey", f"{len(key)} characters", f"at least {_SHORTEST_KEY} characters",
                        "leave it out to get a random one")
            )  # fmt: skip
        if not checked.get("stateDir"):
            problems.append(Problem("stateDir", "", "a folder for pid and log", "name one"))
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another state folder is another endpoint; all else moves traffic in place."""
        update = [n for n in ("models", "host", "port") if state.get(n) != inputs.get(n)]
        # A key that is left out is the one that was generated.
        if "apiKey" in inputs and inputs["apiKey"] != state.get("apiKey"):
            update.append("apiKey")
        if state.get("status") != _RUNNING:
            update.append("status")
        if state.get("serverVersion") != sixways.__version__:
            update.append("serverVersion")
        replace = ["stateDir"] if state.get("stateDir") != inputs.get("stateDir") else []
        return Changes(update, replace)

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Starts the server and waits until it answers."""
        if not preview:
            # No state knows of it, so what an interrupted create left behind is ours to end.
            process.remove(self._folder(call, inputs))
        if not is_unknown([inputs["host"], inputs["port"]]):
            process.require_free(inputs["host"], inputs["port"])
        if preview:
            return "", {**inputs, **_foreseen(inputs), "apiKey": inputs.get("apiKey", UNKNOWN)}
        inputs = {"apiKey": secrets.token_urlsafe(32), **inputs}
        running = self._start(call, inputs)
        return call.name, {**inputs, **_outputs(self._folder(call, inputs), inputs, running)}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state with `status` as it is: a dead server is drift, which the next update heals."""
        folder = self._folder(call, state)
        running = process.load(folder)
        if running is not None and running.process() is not None:
            return {**state, **_outputs(folder, state, running)}
        why = f"process {running.pid} is gone" if running else f"{folder} is gone"
        call.log("warning", f"the server does not run ({why}); the next update starts it.", False)
        return {**state, "status": _STOPPED}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Starts the new server, moves the traffic, then ends the old one."""
        inputs = {"apiKey": state["apiKey"], **inputs}
        folder = self._folder(call, inputs)
        old = process.load(folder)
        alive = old is not None and old.process() is not None
        moved = any(state.get(n) != inputs.get(n) for n in ("host", "port"))
        if (moved or not alive) and not is_unknown([inputs["host"], inputs["port"]]):
            process.require_free(inputs["host"], inputs["port"])
        if preview:
            return {**inputs, **_foreseen(inputs)}
        running = self._start(call, inputs)
        if old is not None and alive:
            call.status("let the old server answer what it has accepted")
            process.stop(old)
        call.status(f"serves at {running.url}")
        return {**inputs, **_outputs(folder, inputs, running)}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Lets the server answer what it has accepted, ends it and removes its folder."""
        process.remove(self._folder(call, state))

    def _start(self, call: Call, inputs: Values) -> Running:
        models = []
        for model in inputs["models"]:
            # The server verifies too; doing it here leaves a damaged bundle's message whole.
            call.status(f"verify {model['name']}")
            verify(Path(model["path"]), digest=model["digest"])
            models.append(
                ServedModel(name=model["name"], path=model["path"], variant=model.get("variant"))
            )
        return process.start(
            self._folder(call, inputs),
            models,
            host=inputs["host"],
            port=inputs["port"],
            api_key=inputs["apiKey"],
            cancelled=call.cancelled,
            report=call.status,
        )

    @staticmethod
    def _folder(call: Call, values: Values) -> Path:
        return Path(values["stateDir"]) / call.name


def bundle_digest(models: list[Values]) -> str:
    """What is served, as one digest: the bundle's own, or that of all names and digests."""
    if len(models) == 1:
        return str(models[0]["digest"])
    served = sorted((model["name"], model["digest"]) for model in models)
    return f"sha256:{hashlib.sha256(msgspec.json.encode(served)).hexdigest()}"


def _foreseen(inputs: Values) -> Values:
    """What a preview can tell: addresses and digests follow from the inputs."""
    outputs: Values = dict.fromkeys(_COMPUTED, UNKNOWN)
    if not is_unknown([inputs["host"], inputs["port"]]):
        outputs |= _addresses(_url(inputs))
    if not is_unknown(inputs["models"]):
        outputs["bundleDigest"] = bundle_digest(inputs["models"])
    return outputs | {"status": _RUNNING, "serverVersion": sixways.__version__}


def _outputs(folder: Path, inputs: Values, running: Running) -> Values:
    return {
        **_addresses(running.url),
        "bundleDigest": bundle_digest(inputs["models"]),
        "pid": running.pid,
        "startedAt": running.started_at,
        "logPath": str(folder / "server.log"),
        "status": _RUNNING,
        "serverVersion": sixways.__version__,
    }


def _url(inputs: Values) -> str:
    host = f"[{inputs['host']}]" if ":" in inputs["host"] else inputs["host"]
    return f"http://{host}:{inputs['port']}"


def _addresses(url: str) -> Values:
    return {"url": url, "healthUrl": f"{url}/healthz", "dashboard": f"{url}/"}


def _check_address(host: object, port: object) -> list[Problem]:
    problems = []
    if isinstance(host, str):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            problems.append(
                Problem("host", host, "an IP address of this machine, e.g. 127.0.0.1",
                        "use 127.0.0.1 unless other machines must reach it")
            )  # fmt: skip
    if port is not UNKNOWN and not (isinstance(port, int) and 1 <= port <= 65535):
        problems.append(Problem("port", str(port), "a whole number from 1 to 65535", "e.g. 5000"))
    return problems


def _check_models(models: Any) -> list[Problem]:
    if models is UNKNOWN:
        return []
    accepted = "a list of models, each with name, path and digest of a bundle"
    if not isinstance(models, list) or not models:
        return [Problem("models", str(models or ""), accepted, "name at least one")]
    problems = []
    seen: set[str] = set()
    for index, model in enumerate(models):
        field = f"models[{index}]"
        if not isinstance(model, dict):
            if model is not UNKNOWN:
                problems.append(Problem(field, str(model), accepted))
            continue
        problems += [
            Problem(f"{field}.{p.field}", p.value, p.accepted, p.fix)
            for p in unexpected(model, _MODEL_FIELDS)
        ]
        problems += [
            Problem(f"{field}.{name}", "", "a text", "take it from the bundle's outputs")
            for name in ("name", "path", "digest")
            if not model.get(name)
        ]
        name = model.get("name")
        if isinstance(name, str):
            if name in seen:
                problems.append(
                    Problem(f"{field}.name", name, "each name once", "rename one of the models")
                )
            seen.add(name)
    return problems
