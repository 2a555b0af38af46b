"""What `sixways.server` offers, and under which tokens Pulumi's engine knows it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pulumi
import pytest

from sixways import server
from sixways.naming import PluginResource

_CLASSES = [name for name in server.__all__ if not name.endswith("Args")]


def test_every_name_can_be_had_and_is_typed() -> None:
    for name in server.__all__:
        assert getattr(server, name).__name__ == name
    with pytest.raises(AttributeError, match="Kubernetes"):
        _ = server.Kubernetes


@pytest.mark.parametrize("name", _CLASSES)
def test_a_class_has_its_token_its_inputs_and_documented_outputs(name: str) -> None:
    found = getattr(server, name)
    kind = pulumi.ComponentResource if name == "PrivateServer" else PluginResource
    assert issubclass(found, kind)
    assert f'"sixways:server:{name}"' in inspect.getsource(found)
    assert list(inspect.signature(found).parameters) == ["name", "args", "opts"]
    assert f"{name}Args" in server.__all__
    assert found.__annotations__


@pytest.mark.parametrize("module", ["sixways.server.files", "sixways.server.private_server"])
def test_neither_files_nor_a_program_load_the_ssh_library(module: str) -> None:
    code = (
        f"import sys, {module}; print(*sorted({{'asyncssh', 'cryptography'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
