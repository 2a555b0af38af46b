"""A model that is loaded and cannot answer makes the server not ready."""

from __future__ import annotations

from pathlib import Path

from sixways_server.engines.dummy import DummyChat, _Options
from tests.unit.server.conftest import live_server


class Breaks(DummyChat):
    """Can be broken."""

    broken = False

    @property
    def ready(self) -> bool:
        return not self.broken


def test_a_broken_engine_is_not_ready_on_any_route_and_is_again_once_it_answers(
    tmp_path: Path,
) -> None:
    engine = Breaks("echo", _Options(), 4)
    paths = ("/readyz", "/v2/health/ready", "/v2/models/echo/ready")
    with live_server(tmp_path, echo=engine, mini="dummy:embeddings") as live, live.client() as api:
        assert [api.get(path).status_code for path in paths] == [200] * 3
        engine.broken = True
        assert [api.get(path).status_code for path in paths] == [503] * 3
        assert api.get("/readyz").text == "broken\n"
        assert api.get("/v2/models/echo/ready").json() == {"name": "echo", "ready": False}
        assert api.get("/v2/models/mini/ready").status_code == 200
        models = api.get("/console.json").json()["models"]
        assert {model["name"]: model["ready"] for model in models} == {"echo": False, "mini": True}
        engine.broken = False
        assert [api.get(path).status_code for path in paths] == [200] * 3
