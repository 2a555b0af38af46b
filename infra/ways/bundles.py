"""The bundle of a model in the settings, as every way builds it."""

from __future__ import annotations

from settings import ModelSettings
from sixways import Bundle
from sixways.bundle import BundleArgs


def bundle_of(model: ModelSettings) -> Bundle:
    """The bundle, with one variant and the quality that the settings ask for."""
    args = BundleArgs(source=model.source, name=model.name, variants=[model.variant])
    if model.quality_threshold is not None:
        args["quality_threshold"] = model.quality_threshold
    return Bundle(model.name, args)
