"""The settings of way `server`: the component's inputs, checked before anything exists.

`sixways:server` holds them; secrets stand beside it, each under a name of its own.
"""

from __future__ import annotations

from typing import Any

import pulumi

from settings import Settings
from sixways.checks import InputsRefused
from sixways.server.private.problems import problems
from sixways_bundle import Problem
from ways.fields import in_python, located

_HERE = "sixways:server"
_PRIVATE = "PRIVATE KEY-----"
# What the stack itself gives, and what to do instead.
_FILLED_IN = {
    "models": "remove it: sixways:models are served",
    "api_key": "pulumi config set --secret sixways:apiKey KEY",
}
_SECRETS = {
    "sixways:sshPrivateKey": "pulumi config set --secret sixways:sshPrivateKey < id_ed25519",
    "sixways:tlsKey": "pulumi config set --secret sixways:tlsKey < tls.key",
}


class Parts:
    """The component's inputs, from the stack's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._own: dict[str, Any] = in_python(settings.own)

    def server(self, bundles: dict[str, tuple[Any, Any]]) -> Any:
        """The component's inputs; `bundles` has path and digest by name."""
        settings = self._settings
        own = dict(self._own)
        if settings.ssh_private_key is not None and isinstance(own.get("hosts"), list):
            own["hosts"] = [
                {"private_key": settings.ssh_private_key, **host}
                if isinstance(host, dict)
                else host
                for host in own["hosts"]
            ]
        if settings.tls_key is not None and isinstance(own.get("tls"), dict):
            own["tls"] = {**own["tls"], "certificate_key": settings.tls_key}
        if settings.api_key is not None:
            own["api_key"] = settings.api_key
        variants = {model.name: model.variant for model in settings.models}
        own["models"] = [
            {"name": name, "path": path, "digest": digest}
            | ({} if variants[name] == "auto" else {"variant": variants[name]})
            for name, (path, digest) in bundles.items()
        ]
        return own

    def refuse(self) -> None:
        """Asks the component what it thinks of its inputs, before anything exists.

        Raises:
            InputsRefused: something is wrong; carries every problem.
        """
        later: pulumi.Output[Any] = pulumi.Output.from_input("")
        found = located(_HERE, [
            Problem(field, "given", "what the stack itself gives", fix)
            for field, fix in _FILLED_IN.items() if field in self._own
        ])  # fmt: skip
        args = self.server({model.name: (later, later) for model in self._settings.models})
        found += [self._named(one) for one in problems("server", args)]
        found += self._wrong_secrets()
        if found:
            raise InputsRefused(f"the settings of stack {pulumi.get_stack()}", found)

    def _named(self, problem: Problem) -> Problem:
        """The problem where the settings have it."""
        if problem.field.startswith("models["):
            return Problem(f"sixways:{problem.field}", problem.value, problem.accepted, problem.fix)
        if problem.field == "tls.certificate_key" and not problem.value:
            key = "sixways:tlsKey"
            return Problem(key, "", problem.accepted, _SECRETS[key])
        return located(_HERE, [problem])[0]

    def _wrong_secrets(self) -> list[Problem]:
        """Here, since components pass over what is a secret."""
        found = []
        for key, fix in _SECRETS.items():
            text = pulumi.runtime.get_config(key)
            if text is not None and (_PRIVATE not in text or "ENCRYPTED" in text):
                found.append(Problem(key, "(not shown)", "the text of a private key, OpenSSH or "
                                     "PEM, without a passphrase", fix))  # fmt: skip
        return found
