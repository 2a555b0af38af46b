"""What `sixways.cloud` offers, and under which tokens Pulumi's engine knows it."""

from __future__ import annotations

import inspect

import pulumi
import pytest

from sixways import cloud

_COMPONENTS = [name for name in cloud.__all__ if not name.endswith("Args")]


def test_every_name_can_be_had_and_is_typed() -> None:
    for name in cloud.__all__:
        assert getattr(cloud, name).__name__ == name
    with pytest.raises(AttributeError, match="Kubernetes"):
        _ = cloud.Kubernetes


@pytest.mark.parametrize("name", _COMPONENTS)
def test_a_component_has_its_token_its_inputs_and_documented_outputs(name: str) -> None:
    component = getattr(cloud, name)
    assert issubclass(component, pulumi.ComponentResource)
    assert f'"sixways:cloud:{name}"' in inspect.getsource(component)
    assert list(inspect.signature(component).parameters) == ["name", "args", "opts"]
    assert f"{name}Args" in cloud.__all__
    assert component.__annotations__
