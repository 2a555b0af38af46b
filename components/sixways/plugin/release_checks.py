"""What the inputs of a `Release` may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sixways.checks import DIGEST, MODEL_NAME
from sixways.plugin.hosts import ACCESS
from sixways.plugin.resource import Values, unexpected
from sixways.plugin.values import UNKNOWN
from sixways_bundle import Problem

INPUTS = (
    *ACCESS, "models", "version", "extras", "indexUrl", "wheelhouse", "keys", "server",
    "memoryMax", "cpuQuota", "keep", "readySeconds", "python", "systemdVersion", "gpu",
    "supervisor",
)  # fmt: skip
DEFAULTS: Values = {
    "extras": [],
    "server": {},
    "keep": 2,
    "readySeconds": 300,
    "python": "/usr/bin/python3",
    "systemdVersion": 252,
    "gpu": False,
    "supervisor": "systemd",
}
SETTINGS = {
    "workers": (1, 64, True),
    "threads": (1, 4096, True),
    "maxBodyBytes": (1024, 1e9, True),
    "maxInputs": (1, 1e6, True),
    "queueLimit": (1, 1e6, True),
    "queueSeconds": (0.001, 1e6, False),
    "cacheGb": (0.001, 1e5, False),
    "requestSeconds": (0, 86400, False),
    "drainSeconds": (0, 3600, False),
    "lingerSeconds": (0, 3600, False),
}
"""The server's settings that are numbers: least, most, whether whole."""
SWITCHES = ("console", "graphql")
"""Those that are true or false."""

_MODEL_FIELDS = ("name", "path", "digest", "variant")
_TEXTS = {
    "version": (re.compile(r"[0-9][A-Za-z0-9.!+-]*"), "a version of sixways, e.g. 0.1.0"),
    "indexUrl": (re.compile(r"https?://\S+"), "the address of a package index"),
    "wheelhouse": (re.compile(r".+"), "a folder with wheels on this machine"),
    "memoryMax": (re.compile(r"[1-9]\d*[KMGT]?|[1-9]\d?%|100%"), "as systemd writes it: 6G, 80%"),
    "cpuQuota": (re.compile(r"[1-9]\d*%"), "as systemd writes it: 350% are 3.5 processors"),
    "python": (re.compile(r"/[A-Za-z0-9._/+-]+"), "the path of an interpreter on the host"),
    "supervisor": (re.compile(r"systemd|supervisord"), "systemd, supervisord"),
}
_NUMBERS = {
    "keep": (0, 100, True),
    "readySeconds": (0.1, 86400, False),
    "systemdVersion": (0, 9999, True),
}
_HASH = re.compile(r"[0-9a-f]{64}")
_EXTRA = re.compile(r"[a-z0-9][a-z0-9-]*")


def check(given: Values, checked: Values) -> list[Problem]:
    """Every problem of the inputs but those that reach the host.

    Args:
        given: as the program gave them.
        checked: with defaults filled in.
    """
    problems = unexpected(given, INPUTS)
    for field, (pattern, accepted) in _TEXTS.items():
        value = checked.get(field)
        if value is None or value is UNKNOWN:
            continue
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            shown = "(not shown)" if field == "indexUrl" else str(value)
            problems.append(Problem(field, shown, accepted, "correct it"))
    for field, limits in _NUMBERS.items():
        problems += _number(field, checked.get(field), limits)
    if checked["gpu"] not in (True, False, UNKNOWN):
        problems.append(Problem("gpu", str(checked["gpu"]), "true or false"))
    problems += _each("models", checked.get("models"), _model, _twice("name"))
    problems += _each("keys", checked.get("keys"), _key, _twice("name"))
    problems += _extras(checked["extras"])
    problems += _server(checked["server"])
    if checked["supervisor"] == "supervisord":
        problems += [
            Problem(field, str(checked[field]), "nothing where supervisor is supervisord, which "
                    "knows no such limit", "leave it out, or limit the host's container")
            for field in ("memoryMax", "cpuQuota")
            if field in checked
        ]  # fmt: skip
    if "indexUrl" in checked and "wheelhouse" in checked:
        problems.append(
            Problem("wheelhouse", str(checked["wheelhouse"]), "either wheelhouse or indexUrl",
                    "leave one of them out")
        )  # fmt: skip
    return problems


def _number(field: str, value: Any, limits: tuple[float, float, bool]) -> list[Problem]:
    least, most, whole = limits
    if value is None or value is UNKNOWN:
        return []
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and least <= value <= most and (not whole or value == int(value)):
        return []
    kind = "a whole number" if whole else "a number"
    return [Problem(field, str(value), f"{kind} from {least:g} to {most:g}", "correct it")]


def _each(
    field: str,
    values: Any,
    check_one: Callable[[str, Values], list[Problem]],
    check_all: Callable[[str, list[Any]], list[Problem]],
) -> list[Problem]:
    if values is UNKNOWN:
        return []
    if not isinstance(values, list) or not values:
        return [Problem(field, "", "a list with at least one entry", f"add {field}")]
    problems = []
    for index, value in enumerate(values):
        if isinstance(value, dict):
            problems += check_one(f"{field}[{index}]", value)
        elif value is not UNKNOWN:
            problems.append(Problem(f"{field}[{index}]", "(not shown)", "a mapping", "correct it"))
    return problems + check_all(field, values)


def _twice(name: str) -> Callable[[str, list[Any]], list[Problem]]:
    def check_all(field: str, values: list[Any]) -> list[Problem]:
        problems = []
        seen: set[str] = set()
        for index, value in enumerate(values):
            one = value.get(name) if isinstance(value, dict) else None
            if isinstance(one, str) and one in seen:
                where = f"{field}[{index}].{name}"
                problems.append(Problem(where, one, "each name once", "rename one of them"))
            if isinstance(one, str):
                seen.add(one)
        return problems

    return check_all


def _text(
    field: str, value: Any, pattern: re.Pattern[str], accepted: str, fix: str
) -> list[Problem]:
    if value is UNKNOWN or (isinstance(value, str) and pattern.fullmatch(value)):
        return []
    return [Problem(field, "" if value is None else str(value), accepted, fix)]


def _model(field: str, model: Values) -> list[Problem]:
    problems = [
        Problem(f"{field}.{p.field}", p.value, p.accepted, p.fix)
        for p in unexpected(model, _MODEL_FIELDS)
    ]
    own, take = "letters, digits, '.', '_' and '-'", "take it from the bundle's outputs"
    problems += _text(f"{field}.name", model.get("name"), MODEL_NAME, own, "rename it")
    problems += _text(
        f"{field}.path", model.get("path"), re.compile(".+"), "a bundle's folder", take
    )
    problems += _text(f"{field}.digest", model.get("digest"), DIGEST, "sha256: and 64 digits", take)
    if "variant" in model:
        problems += _text(f"{field}.variant", model["variant"], MODEL_NAME, own, "correct it")
    return problems


def _key(field: str, key: Values) -> list[Problem]:
    problems = [
        Problem(f"{field}.{p.field}", p.value, p.accepted, p.fix)
        for p in unexpected(key, ("name", "sha256"))
    ]
    if key.get("name") is not UNKNOWN and not (isinstance(key.get("name"), str) and key["name"]):
        problems.append(Problem(f"{field}.name", "", "a text", "name whose key it is"))
    value = key.get("sha256")
    if value is not UNKNOWN and not (isinstance(value, str) and _HASH.fullmatch(value)):
        problems.append(
            Problem(f"{field}.sha256", "(not shown)", "the SHA-256 of the key, 64 hex digits",
                    "take ApiKey.sha256, and not the key itself")
        )  # fmt: skip
    return problems


def _extras(extras: Any) -> list[Problem]:
    if extras is UNKNOWN:
        return []
    if not isinstance(extras, list):
        return [Problem("extras", str(extras), "a list, e.g. [gpu, otel]")]
    return [
        Problem(f"extras[{index}]", str(extra), "the name of an extra of sixways", "e.g. otel")
        for index, extra in enumerate(extras)
        if extra is not UNKNOWN and not (isinstance(extra, str) and _EXTRA.fullmatch(extra))
    ]


def _server(settings: Any) -> list[Problem]:
    if settings is UNKNOWN:
        return []
    if not isinstance(settings, dict):
        return [Problem("server", str(settings), "a mapping of the server's settings")]
    problems = [
        Problem(f"server.{p.field}", p.value, p.accepted, p.fix)
        for p in unexpected(settings, (*SETTINGS, *SWITCHES))
    ]
    for name, limits in SETTINGS.items():
        problems += _number(f"server.{name}", settings.get(name), limits)
    problems += [
        Problem(f"server.{name}", str(settings[name]), "true or false")
        for name in SWITCHES
        if settings.get(name) not in (None, True, False, UNKNOWN)
    ]
    return problems
