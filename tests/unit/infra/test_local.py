"""Settings of way `local` with a Docker engine are refused by the names they are written with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sixways.checks import InputsRefused

ROOT = Path(__file__).parents[3]


def refused(runtime: str, own: dict[str, Any], **settings: Any) -> list[str]:
    from settings import ModelSettings, Settings
    from ways.local import deploy

    models = (ModelSettings("minilm", "package:x"),)
    with pytest.raises(InputsRefused) as error:
        deploy(Settings("local", models, runtime=runtime, own=own, **settings))
    return [problem.field for problem in error.value.problems]


async def test_wrong_inputs_of_the_container_are_named_together() -> None:
    own = {"memory_mb": 1, "privileged": True, "port": 80}
    assert refused("docker", own, host="localhost") == [
        "sixways:docker.privileged",
        "sixways:host",
        "sixways:docker.memoryMb",
        "sixways:docker.port",
    ]


async def test_inputs_of_a_container_without_one_are_refused() -> None:
    assert refused("process", {"memory_mb": 2048}) == ["sixways:docker"]
