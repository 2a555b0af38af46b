"""Way `local`: build the models as bundles and serve them on this machine."""

from __future__ import annotations

from settings import Settings
from sixways import Bundle, LocalEndpoint
from sixways.bundle import BundleArgs
from sixways.local.endpoint import LocalEndpointArgs, ServedModelArgs


def deploy(settings: Settings) -> LocalEndpoint:
    """One bundle a model, one endpoint for all of them."""
    models: list[ServedModelArgs] = []
    for model in settings.models:
        args = BundleArgs(source=model.source, name=model.name, variants=[model.variant])
        if model.quality_threshold is not None:
            args["quality_threshold"] = model.quality_threshold
        bundle = Bundle(model.name, args)
        models.append(ServedModelArgs(name=model.name, path=bundle.path, digest=bundle.digest))
    endpoint = LocalEndpointArgs(models=list(models), host=settings.host, port=settings.port)
    if settings.api_key is not None:
        endpoint["api_key"] = settings.api_key
    return LocalEndpoint("local", endpoint)
