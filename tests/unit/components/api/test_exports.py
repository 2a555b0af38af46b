"""What `sixways.api` offers, and under which tokens Pulumi's engine knows it."""

from __future__ import annotations

import inspect

import pulumi
import pytest

from sixways import api

_COMPONENTS = [name for name in api.__all__ if not name.endswith("Args")]
_EVERY_WAY = {"url", "health_url", "api_key", "dashboard"}


def test_every_name_can_be_had_and_is_typed() -> None:
    for name in api.__all__:
        assert getattr(api, name).__name__ == name
    with pytest.raises(AttributeError, match="Traefik"):
        _ = api.Traefik


@pytest.mark.parametrize("name", _COMPONENTS)
def test_a_gateway_has_its_token_its_inputs_and_the_outputs_of_all(name: str) -> None:
    component = getattr(api, name)
    assert issubclass(component, pulumi.ComponentResource)
    assert f'"sixways:api:{name}"' in inspect.getsource(component)
    assert list(inspect.signature(component).parameters) == ["name", "args", "opts"]
    assert f"{name}Args" in api.__all__
    assert set(component.__annotations__) >= _EVERY_WAY | {"api_keys"}
