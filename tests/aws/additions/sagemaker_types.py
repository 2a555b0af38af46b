"""The instance types that SageMaker hosts models on, as botocore's model of its API has them.

moto's own list ends in 2020.
"""

from __future__ import annotations

from typing import Any

from botocore.loaders import Loader
from moto.sagemaker.models import FakeEndpointConfig

_SHAPES = Loader().load_service_model("sagemaker", "service-2")["shapes"]
_TYPES = frozenset(_SHAPES["ProductionVariantInstanceType"]["enum"])
_validate = FakeEndpointConfig.validate_instance_type


def _known(self: Any, instance_type: str) -> None:
    if instance_type not in _TYPES:
        _validate(self, instance_type)


FakeEndpointConfig.validate_instance_type = _known  # type: ignore[method-assign]
