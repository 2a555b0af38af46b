"""The settings of way `api`: which gateway, and its inputs, checked before anything exists.

`sixways:api` holds them; secrets stand beside it, each under a name of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pulumi

from settings import Settings
from sixways import api
from sixways.checks import InputsRefused
from sixways.naming import to_camel
from sixways_bundle import Problem
from ways.fields import in_python, located

_HERE = "sixways:api"
_GATEWAYS = {"nginx": "NginxGateway", "aws": "ApiGateway", "kong": "KongGateway"}
_KEYS = {"key": "gatewayKeys", "previous_key": "previousGatewayKeys"}
_BESIDE = {
    "upstream.api_key": "upstreamKey",
    "tls.certificate_key": "tlsKey",
    "host.private_key": "sshPrivateKey",
    "redis.password": "redisPassword",
}
_KEY = re.compile(r"keys\[(\d+)\]\.(key|previous_key)")
_HEALTH = "/readyz"


class Parts:
    """The gateway's inputs, from the stack's settings. Only the chosen one's SDK is loaded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._own: dict[str, Any] = in_python(settings.own)
        self._kind = str(self._own.pop("gateway", "nginx"))

    @property
    def certificate(self) -> bool:
        """Whether the gateway tells which certificate callers see: it may be of its own making."""
        return self._kind == "nginx"

    def component(self, name: str, args: Any) -> pulumi.ComponentResource:
        """The gateway."""
        made: pulumi.ComponentResource = getattr(api, _GATEWAYS[self._kind])(name, args)
        return made

    def gateway(self, upstream: tuple[Any, Any] | None) -> Any:
        """The gateway's inputs.

        Args:
            upstream: URL and key of this stack's own endpoint; None: that of the settings.
        """
        return self._filled(upstream, pulumi.Output.secret)

    def refuse(self) -> None:
        """Asks the gateway what it thinks of its inputs, secrets included.

        Raises:
            InputsRefused: something is wrong; carries every problem.
        """
        found = self._wrong_secrets()
        if self._settings.api_key is not None:
            found.append(Problem("sixways:apiKey", "(not shown)", "nothing with way api, whose "
                                 "callers have keys of their own",
                                 "pulumi config set --secret --path sixways:gatewayKeys.NAME KEY"),
                         )  # fmt: skip
        if self._kind not in _GATEWAYS:
            found.append(Problem(f"{_HERE}.gateway", str(self._kind), ", ".join(_GATEWAYS)))
        elif self._settings.models and self._kind != "nginx":
            found.append(Problem("sixways:models", "given", f"nothing with gateway {self._kind}, "
                                 "which does not reach this machine",
                                 f"serve them by another stack, and give {_HERE}.upstream"),
                         )  # fmt: skip
        elif self._settings.models and "upstream" in self._own:
            found.append(Problem(f"{_HERE}.upstream", "given", "nothing beside sixways:models, "
                                 "which this stack serves", "remove one of the two"))  # fmt: skip
        else:
            later: pulumi.Output[Any] = pulumi.Output.from_input("")
            own = (later, later) if self._settings.models else None
            args = self._filled(own, lambda value: value)
            component = getattr(api, _GATEWAYS[self._kind])
            problems = import_module(component.__module__).problems
            found += [self._named(one) for one in problems("gateway", args)]
        if found:
            raise InputsRefused(f"the settings of stack {pulumi.get_stack()}", found)

    def _filled(self, upstream: tuple[Any, Any] | None, hide: Any) -> Any:
        own = dict(self._own)
        if upstream is not None:
            url, key = upstream
            own["upstream"] = {"instances": [{"url": url}], "health_path": _HEALTH, "api_key": key}
        for field, beside in _BESIDE.items():
            part, name = field.split(".")
            secret = pulumi.runtime.get_config(f"sixways:{beside}")
            if secret is not None and isinstance(own.get(part), Mapping):
                own[part] = {**own[part], name: hide(secret)}
        if isinstance(own.get("keys"), list):
            own["keys"] = [self._key(key, hide) for key in own["keys"]]
        return own

    @staticmethod
    def _key(key: Any, hide: Any) -> Any:
        if not isinstance(key, Mapping):
            return key
        given = {field: _secrets(beside).get(str(key.get("name")))
                 for field, beside in _KEYS.items()}  # fmt: skip
        return {**key, **{field: hide(value) for field, value in given.items() if value}}

    def _named(self, problem: Problem) -> Problem:
        """The problem where the settings have it."""
        key = _KEY.fullmatch(problem.field)
        if key is not None:
            name = self._own["keys"][int(key[1])].get("name", "")
            here = f"sixways:{_KEYS[key[2]]}"
            if name in _secrets(_KEYS[key[2]]):
                return Problem(f"{here}.{name}", problem.value, problem.accepted, problem.fix)
        beside = _BESIDE.get(problem.field)
        if beside is not None:
            fix = f"pulumi config set --secret sixways:{beside}"
            return Problem(f"sixways:{beside}", problem.value, problem.accepted, fix)
        return located(_HERE, [problem])[0]

    def _wrong_secrets(self) -> list[Problem]:
        """Keys of nobody, and keys in the clear."""
        keys = self._own.get("keys")
        entries = [key for key in (keys if isinstance(keys, list) else []) if isinstance(key, dict)]
        names = {str(key.get("name")) for key in entries}
        found = [
            Problem(f"sixways:{beside}.{name}", "given", "the name of one of "
                    f"{_HERE}.keys: {', '.join(sorted(names)) or 'none'}", "correct or remove it")
            for beside in _KEYS.values() for name in _secrets(beside) if name not in names
        ]  # fmt: skip
        found += [
            Problem(f"{_HERE}.keys[{index}].{field}", "(not shown)", "no key in clear text here",
                    f"pulumi config set --secret --path sixways:{_KEYS[field]}.{key.get('name')}")
            for index, key in enumerate(entries) for field in _KEYS if field in key
        ]  # fmt: skip
        parts = ((beside, *field.split(".")) for field, beside in _BESIDE.items())
        found += [
            Problem(f"{_HERE}.{part}.{to_camel(name)}", "(not shown)", "no key in clear text here",
                    f"pulumi config set --secret sixways:{beside}")
            for beside, part, name in parts
            if isinstance(self._own.get(part), Mapping) and name in self._own[part]
        ]  # fmt: skip
        found += [
            Problem(f"sixways:{beside}", "(not shown)", "a key for each name of "
                    f"{_HERE}.keys", f"pulumi config set --secret --path sixways:{beside}.NAME")
            for beside in _KEYS.values()
            if pulumi.runtime.get_config(f"sixways:{beside}") and not _secrets(beside)
        ]  # fmt: skip
        return found


def _secrets(name: str) -> dict[str, str]:
    """A mapping of secrets beside `sixways:api`; nothing where it is none."""
    try:
        found = json.loads(pulumi.runtime.get_config(f"sixways:{name}") or "{}")
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
