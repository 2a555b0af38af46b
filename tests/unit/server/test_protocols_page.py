"""What docs/protocols.md shows runs as it stands there."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from tests.unit.server.conftest import Live, live_server
from tests.unit.server.sagemaker_front import Container, client, front

PAGE = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
MODELS = {"minilm": "dummy:embeddings", "smollm2": "dummy:chat", "prices": "dummy:tensor"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("page"), **MODELS) as live:
        yield live


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
@pytest.mark.parametrize("block", blocks("sh")[1:])
def test_every_curl_of_the_page_is_answered(served: Live, block: str) -> None:
    done = subprocess.run(
        ["bash", "-ec", block],
        env={"URL": served.url, "KEY": served.key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'"(prediction|result|outputs|predictions|data)":', done.stdout), done.stdout
    assert '"errors"' not in done.stdout


@pytest.mark.parametrize("block", blocks("python"))
def test_every_program_of_the_page_runs(
    served: Live,
    block: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = httpx.URL(served.url)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {url.host} login sixways password {served.key}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    names = {"URL": served.url, "KEY": served.key, "HOST": url.host, "PORT": url.port}
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        if "runtime" in block:
            models = [{"name": name, "path": path} for name, path in MODELS.items()]
            container = Container(tmp_path / "log", SIXWAYS_MODELS=json.dumps(models))
            stack.callback(container.stop)
            container.wait()
            names["runtime"] = client(stack.enter_context(front(container.url)))
        warnings.simplefilter("ignore")  # MLflow's, about its own types
        exec(compile(block, "docs/protocols.md", "exec"), names)  # noqa: S102 - our own page
        for made in names.values():
            if not isinstance(made, type) and hasattr(made, "close"):
                made.close()
    assert capsys.readouterr().out.strip()


def test_every_route_is_on_the_page(served: Live) -> None:
    for route in served.app.routes:
        assert isinstance(route, Route)
        if route.path.startswith("/v2/models/{model}/"):
            continue  # written once for all
        assert f"`{route.path}`" in PAGE or f"POST {route.path}`" in PAGE, route.path
