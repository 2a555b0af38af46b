"""The stack's settings, typed and checked: every mistake is reported, and all at once."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import pulumi

from sixways.plugin.api_key import KEY
from sixways_bundle import Problem

# Each way's own settings, beside those of all ways.
_WAYS = {
    "local": ("host", "port", "runtime", "docker"),
    "cloud": ("cloud",),
    "container": ("container", "registryPassword"),
    "server": ("server", "sshPrivateKey", "tlsKey"),
    "api": (
        "api",
        "host",
        "port",
        "gatewayKeys",
        "previousGatewayKeys",
        "upstreamKey",
        "sshPrivateKey",
        "tlsKey",
        "redisPassword",
    ),
}
# Where a way's mapping of its components' inputs stands.
_OWN = {"local": "docker", "cloud": "cloud", "container": "container", "server": "server",
        "api": "api"}  # fmt: skip
_RUNTIMES = ("process", "docker")
_KEYS = ("way", "apiKey", "models")
_MODEL_KEYS = ("name", "source", "variant", "qualityThreshold")


class SettingsError(Exception):
    """The stack's settings are wrong; lists every problem."""


@dataclass(frozen=True)
class ModelSettings:
    """One entry of `sixways:models`."""

    name: str
    source: str
    variant: str = "auto"
    quality_threshold: float | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of a stack; see `infra/stacks/` for examples."""

    way: str
    models: tuple[ModelSettings, ...]
    host: str = "127.0.0.1"
    port: int = 5000
    runtime: str = "process"
    """Of way `local`: `process` or `docker`."""
    api_key: pulumi.Output[str] | None = None
    registry_password: pulumi.Output[str] | None = None
    ssh_private_key: pulumi.Output[str] | None = None
    tls_key: pulumi.Output[str] | None = None
    own: dict[str, Any] = field(default_factory=dict)
    """What stands under the way's name, as it was written."""


def load_settings() -> Settings:
    """Reads the settings of the current stack.

    Raises:
        SettingsError: something is missing, unknown or of the wrong type.
    """
    config = pulumi.Config("sixways")
    stack = pulumi.get_stack()
    problems = []
    way = config.get("way") or ""
    if way not in _WAYS:
        problems.append(
            Problem("sixways:way", way, ", ".join(_WAYS), "pulumi config set sixways:way local")
        )
    keys = (*_KEYS, *(_WAYS[way] if way in _WAYS else sum(_WAYS.values(), ())))
    problems += [
        Problem(f"sixways:{key}", key, ", ".join(f"sixways:{k}" for k in keys),
                f"pulumi config rm sixways:{key}")
        for key in _unknown_keys(keys)
    ]  # fmt: skip
    host, port = config.get("host") or "127.0.0.1", _port(config.get("port"), problems)
    # A gateway may stand in front of what others serve.
    beside = way == "api" and config.get("models") is None
    models = () if beside else _models(config.get("models"), problems)
    own = _own(way, config.get(_OWN[way]) if way in _OWN else None, problems)
    runtime = config.get("runtime") or "process"
    if runtime not in _RUNTIMES:
        problems.append(
            Problem("sixways:runtime", runtime, ", ".join(_RUNTIMES),
                    "pulumi config set sixways:runtime docker")
        )  # fmt: skip
    _check_key(pulumi.runtime.get_config("sixways:apiKey"), problems)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise SettingsError(f"the settings of stack {stack} cannot be used:\n{lines}")
    return Settings(
        way, models, host, port, runtime, config.get_secret("apiKey"),
        config.get_secret("registryPassword"), config.get_secret("sshPrivateKey"),
        config.get_secret("tlsKey"), own,
    )  # fmt: skip


def _own(way: str, text: str | None, problems: list[Problem]) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        problems.append(
            Problem(f"sixways:{_OWN[way]}", text or "", "a mapping of its components' inputs",
                    "see infra/stacks/ for examples")
        )  # fmt: skip
        return {}
    return found


def _unknown_keys(keys: tuple[str, ...]) -> list[str]:
    """Names alone: what stands under a mistyped `apikey` is still a secret."""
    prefix = "sixways:"
    given = {k.removeprefix(prefix) for k in pulumi.runtime.config.CONFIG.get()
             if k.startswith(prefix)}  # fmt: skip
    return sorted(given - set(keys))


def _check_key(key: str | None, problems: list[Problem]) -> None:
    """Here, since components pass over what is a secret."""
    if key is not None and not KEY.fullmatch(key):
        problems.append(
            Problem("sixways:apiKey", "(not shown)",
                    "at least 16 printable ASCII characters without spaces",
                    "pulumi config rm sixways:apiKey for a random one")
        )  # fmt: skip


def _port(text: str | None, problems: list[Problem]) -> int:
    if text is None:
        return 5000
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    problems.append(
        Problem("sixways:port", text, "a whole number from 1 to 65535",
                "pulumi config set sixways:port 5000")
    )  # fmt: skip
    return 0


def _models(text: str | None, problems: list[Problem]) -> tuple[ModelSettings, ...]:
    field = "sixways:models"
    accepted = "a list of models, each with name and source"
    fix = "see infra/stacks/dev.yaml for an example"
    try:
        entries = json.loads(text or "[]")
    except json.JSONDecodeError:
        entries = None
    if not isinstance(entries, list) or not entries:
        problems.append(Problem(field, text or "", accepted, fix))
        return ()
    models = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        here = f"{field}[{index}]"
        found = _model(here, entry, fix)
        if isinstance(found, ModelSettings):
            if found.name in names:
                problems.append(
                    Problem(f"{here}.name", found.name, "each name once", "rename one of them")
                )
            names.add(found.name)
            models.append(found)
        else:
            problems += found
    return tuple(models)


def _model(here: str, entry: Any, fix: str) -> ModelSettings | list[Problem]:
    if not isinstance(entry, dict):
        return [Problem(here, str(entry), "a mapping with name and source", fix)]
    problems = [
        Problem(f"{here}.{key}", key, ", ".join(_MODEL_KEYS), "correct or remove it")
        for key in sorted(set(entry) - set(_MODEL_KEYS))
    ]
    for key in ("name", "source", "variant"):
        value = entry.get(key)
        if value is None and key == "variant":
            continue
        if not isinstance(value, str) or not value:
            problems.append(Problem(f"{here}.{key}", str(value or ""), "a text", fix))
    threshold = entry.get("qualityThreshold")
    if isinstance(threshold, str):  # `pulumi config set --path` writes numbers as text
        with contextlib.suppress(ValueError):
            threshold = float(threshold)
    if threshold is not None and (
        isinstance(threshold, bool) or not isinstance(threshold, int | float)
    ):
        problems.append(
            Problem(f"{here}.qualityThreshold", str(threshold), "a number, e.g. 0.995",
                    "leave it out for the default")
        )  # fmt: skip
    if problems:
        return problems
    return ModelSettings(
        entry["name"], entry["source"], entry.get("variant", "auto"),
        None if threshold is None else float(threshold),
    )  # fmt: skip
