"""`sixways:local:LocalEndpoint`: a model server on this machine."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Any

import msgspec

import sixways
from sixways.checks import MODEL_NAME, is_address
from sixways.endpoint import bundle_digest
from sixways.local import process
from sixways.local.process import Running, ServedModel
from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem
from sixways_bundle.verify import verify

_INPUTS = ("models", "host", "port", "apiKey", "stateDir")
_MODEL_FIELDS = ("name", "path", "digest", "variant")
_COMPUTED = (
    "url", "healthUrl", "dashboard", "bundleDigest", "pid", "logPath", "status", "serverVersion",
    "folder", "keyGenerated",
)  # fmt: skip
_RUNNING, _STOPPED, _OUTDATED = "running", "stopped", "outdated"
_KEY = re.compile(r"[\x21-\x7e]{16,}")


class LocalEndpointResource(Resource):
    """One server process; its folder below `stateDir` holds pid, log and key hashes."""

    token = "sixways:local:LocalEndpoint"  # noqa: S105 - a type token, no secret
    secrets = frozenset({"apiKey"})
    delete_before_replace = True  # it owns its port

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; what they point at is looked at when it is used."""
        checked = {"host": "127.0.0.1", "port": 5000, **inputs}
        problems = unexpected(inputs, _INPUTS)
        problems += _check_models(checked.get("models"))
        problems += _check_address(checked["host"], checked["port"])
        key = checked.get("apiKey", UNKNOWN)
        if key is not UNKNOWN and not (isinstance(key, str) and _KEY.fullmatch(key)):
            problems.append(
                Problem("apiKey", "(not shown)",
                        "at least 16 printable ASCII characters without spaces",
                        "leave it out to get a random one")
            )  # fmt: skip
        folder = checked.get("stateDir")
        if folder is not UNKNOWN and not (isinstance(folder, str) and folder):
            problems.append(Problem("stateDir", "", "a folder for pid and log", "name one"))
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another address or state folder is another endpoint; all else moves traffic in place."""
        update = [n for n in ("models", "port") if state.get(n) != inputs.get(n)]
        # A key that is left out is the one that was generated; taking one's own away makes one.
        own = "apiKey" in inputs
        if (own and inputs["apiKey"] != state.get("apiKey")) or own == state.get("keyGenerated"):
            update.append("apiKey")
        if state.get("status") != _RUNNING or self._outdated(state):
            update.append("status")
        if state.get("serverVersion") != sixways.__version__:
            update.append("serverVersion")
        return Changes(update, [n for n in ("host", "stateDir") if state.get(n) != inputs.get(n)])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Starts the server and waits until it answers."""
        if is_unknown(inputs["stateDir"]):
            return "", {**inputs, **_foreseen(inputs)}
        folder = _folder(call, inputs)
        if not preview:
            # No state knows of it, so what an interrupted create left behind is ours to end.
            process.remove(folder)
        if not is_unknown([inputs["host"], inputs["port"]]) and not process.lives(folder):
            process.require_free(inputs["host"], inputs["port"])
        if preview:
            return "", {**inputs, **_foreseen(inputs)}
        wanted = {"apiKey": secrets.token_urlsafe(32), **inputs}
        running = self._start(call, folder, wanted)
        call.status(f"serves at {running.url}")
        return call.name, {**wanted, **_outputs(folder, inputs, running)}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state as it is: a dead server, or one that serves something else, is drift."""
        if "folder" not in state:
            raise BundleError(
                "a local endpoint cannot be imported",
                [Problem("id", resource_id, "an endpoint of this stack's state",
                         "declare it and run pulumi up, which starts it")],
            )  # fmt: skip
        folder = Path(state["folder"])
        running = process.load(folder)
        if running is None or not running.alive:
            why = f"process {running.pid} is gone" if running else f"{folder} is gone"
            call.log("warning", f"the server does not run ({why}); the next update starts it.",
                     False)  # fmt: skip
            return {**state, "status": _STOPPED}
        found = {**state, **_outputs(folder, state, running), "keyGenerated": state["keyGenerated"]}
        if hashlib.sha256(state["apiKey"].encode()).hexdigest() != running.key_sha256:
            found["status"] = _OUTDATED
        return found

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Starts the new server, moves the traffic, then ends the old one."""
        folder = Path(state["folder"])
        old = process.load(folder)
        own_port = old.port if old is not None and old.alive else None
        if not is_unknown([inputs["host"], inputs["port"]]) and inputs["port"] != own_port:
            process.require_free(inputs["host"], inputs["port"])
        key = state["apiKey"] if state.get("keyGenerated") else secrets.token_urlsafe(32)
        wanted = {"apiKey": key, **inputs}
        if preview:
            return {**wanted, **_foreseen(inputs), "apiKey": wanted["apiKey"]}
        running = self._start(call, folder, wanted)
        if own_port is not None:
            call.status("let the old server answer what it has accepted")
        process.stop_old(folder)
        call.status(f"serves at {running.url}")
        return {**wanted, **_outputs(folder, inputs, running)}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Lets the server answer what it has accepted, ends it and removes its folder."""
        folder = Path(state["folder"])
        running = process.load(folder)
        if running is not None and running.alive and running.pid != state["pid"]:
            call.log("warning", f"{folder} belongs to another server by now and stays.", False)
            return
        process.remove(folder)

    def _start(self, call: Call, folder: Path, inputs: Values) -> Running:
        models = []
        for model in inputs["models"]:
            # The server verifies too; doing it here leaves a damaged bundle's message whole.
            call.status(f"verify {model['name']}")
            path = Path(model["path"]).resolve()
            verify(path, digest=model["digest"])
            models.append(
                ServedModel(name=model["name"], path=str(path), digest=model["digest"],
                            variant=model.get("variant"))
            )  # fmt: skip
        return process.start(
            folder,
            models,
            host=inputs["host"],
            port=inputs["port"],
            api_key=inputs["apiKey"],
            cancelled=call.cancelled,
            report=call.status,
        )

    @staticmethod
    def _outdated(state: Values) -> bool:
        """Whether a bundle was written anew under the server, which still maps the old files."""
        running = process.load(Path(state["folder"])) if "folder" in state else None
        return running is not None and running.alive and not running.current


def _folder(call: Call, inputs: Values) -> Path:
    """One folder for each URN: names repeat below different parents, and may hold slashes."""
    slug = re.sub(r"[^A-Za-z0-9_-]", "-", call.name)[:40]
    return Path(inputs["stateDir"]) / f"{slug}-{hashlib.sha256(call.urn.encode()).hexdigest()[:8]}"


def _foreseen(inputs: Values) -> Values:
    """What a preview can tell: addresses and digests follow from the inputs."""
    outputs: Values = dict.fromkeys(_COMPUTED, UNKNOWN)
    if not is_unknown([inputs["host"], inputs["port"]]):
        outputs |= _addresses(_url(inputs))
    if not is_unknown(inputs["models"]):
        outputs["bundleDigest"] = bundle_digest(inputs["models"])
    outputs |= {"status": _RUNNING, "serverVersion": sixways.__version__}
    return outputs | {"apiKey": inputs.get("apiKey", UNKNOWN)}


def _outputs(folder: Path, inputs: Values, running: Running) -> Values:
    """What runs, as it was started: not what somebody once wanted."""
    models: list[Values] = msgspec.to_builtins(running.models)
    # A path that leads to the same folder is no difference.
    for model, wanted in zip(models, inputs["models"], strict=False):
        if str(Path(wanted["path"]).resolve()) == model["path"]:
            model["path"] = wanted["path"]
    return {
        **_addresses(running.url),
        "models": models,
        "host": running.host,
        "port": running.port,
        "bundleDigest": bundle_digest(models),
        "pid": running.pid,
        "logPath": str(folder / "server.log"),
        "status": _RUNNING,
        "serverVersion": running.version,
        "folder": str(folder),
        "keyGenerated": "apiKey" not in inputs,
    }


def _url(inputs: Values) -> str:
    host = f"[{inputs['host']}]" if ":" in inputs["host"] else inputs["host"]
    return f"http://{host}:{inputs['port']}"


def _addresses(url: str) -> Values:
    return {"url": url, "healthUrl": f"{url}/healthz", "dashboard": f"{url}/"}


def _check_address(host: object, port: object) -> list[Problem]:
    problems = []
    if host is not UNKNOWN and not (isinstance(host, str) and is_address(host)):
        problems.append(
            Problem("host", str(host), "an IP address of this machine, e.g. 127.0.0.1",
                    "use 127.0.0.1 unless other machines must reach it")
        )  # fmt: skip
    whole = isinstance(port, int) and not isinstance(port, bool)
    if port is not UNKNOWN and not (whole and 1 <= int(str(port)) <= 65535):
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
            if model.get(name) is not UNKNOWN
            and not (isinstance(model.get(name), str) and model.get(name))
        ]
        name = model.get("name")
        if isinstance(name, str) and name:
            if not MODEL_NAME.fullmatch(name):
                problems.append(
                    Problem(f"{field}.name", name, "letters, digits, '.', '_' and '-'", "rename it")
                )
            if name in seen:
                problems.append(
                    Problem(f"{field}.name", name, "each name once", "rename one of the models")
                )
            seen.add(name)
    return problems
