"""Way `local`: build the models as bundles and serve them on this machine.

`sixways:runtime` says how: `process`, or `docker` for the server's image in a Docker engine. Then
`sixways:docker` holds further inputs of `LocalContainer`; without `image` the image is built.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pulumi

from settings import Settings
from sixways import LocalEndpoint
from sixways.checks import InputsRefused
from sixways.local.endpoint import LocalEndpointArgs, ServedModelArgs
from sixways_bundle import Problem
from ways.bundles import bundle_of
from ways.fields import in_python, located

if TYPE_CHECKING:
    from sixways.local.container import LocalContainer

_FILLED_IN = {"models": "sixways:models", "host": "sixways:host", "port": "sixways:port",
              "api_key": "sixways:apiKey"}  # fmt: skip


def deploy(settings: Settings) -> LocalEndpoint | LocalContainer:
    """One bundle a model, one endpoint for all of them.

    Raises:
        InputsRefused: settings are wrong; carries every problem, and nothing was created.
    """
    if settings.runtime == "docker":
        return _container(settings)
    if settings.own:
        raise InputsRefused(
            f"the settings of stack {pulumi.get_stack()}",
            [Problem("sixways:docker", "given", "nothing with runtime process",
                     "pulumi config set sixways:runtime docker, or remove it")],
        )  # fmt: skip
    args = {"models": _models(settings), **_address(settings)}
    return LocalEndpoint("local", cast(LocalEndpointArgs, args))


def _container(settings: Settings) -> LocalContainer:
    # Pulumi's Docker SDKs are needed for this runtime alone.
    from sixways.container import ContainerImage
    from sixways.local.container import LocalContainer, problems

    given = in_python(settings.own)
    later: Any = pulumi.Output.from_input("")
    foreseen = [{"name": m.name, "path": later, "digest": later} for m in settings.models]
    own: Any = {"image": later, **given, **_address(settings), "models": foreseen}
    found = [
        replace(one, field=_FILLED_IN[one.field])
        if one.field in _FILLED_IN
        else located("sixways:docker", [one])[0]
        for one in problems("local", own)
    ]
    found += [
        Problem(f"sixways:docker.{field}", "given", f"what follows from {where}",
                f"set {where}, and remove it here")
        for field, where in _FILLED_IN.items() if field in given
    ]  # fmt: skip
    if found:
        raise InputsRefused(f"the settings of stack {pulumi.get_stack()}", found)
    if "image" not in given:
        own["image"] = ContainerImage("server", {"load": True}).image_uri
    own["models"] = _models(settings)
    return LocalContainer("local", own)


def _address(settings: Settings) -> dict[str, Any]:
    key = {} if settings.api_key is None else {"api_key": settings.api_key}
    return {"host": settings.host, "port": settings.port, **key}


def _models(settings: Settings) -> list[ServedModelArgs]:
    models = []
    for model in settings.models:
        bundle = bundle_of(model)
        models.append(ServedModelArgs(name=model.name, path=bundle.path, digest=bundle.digest))
    return models
