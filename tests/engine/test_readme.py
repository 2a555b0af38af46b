"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engine.pulumi_stack import Stack
from tests.ports import free_port

pytestmark = pytest.mark.engine
README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in that language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_make_target_of_the_readme_exists() -> None:
    named = set(re.findall(r"make (?:-s )?([a-z]+)", README)) - {"plain"}
    targets = (Path(__file__).parents[2] / "Makefile").read_text()
    assert {"up", "down", "test", "check", "bench", "env", "help"} <= named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", targets, re.M)] == []


@pytest.fixture(scope="module")
def bundle() -> Path:
    """Built by the README's own command line."""
    (line,) = re.findall(r"^sixways (bundle build .*)$", README, flags=re.MULTILINE)
    done = subprocess.run(
        ["sixways", *line.split()], capture_output=True, text=True, check=True, timeout=600
    )
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[tuple[str, str]]:
    """URL and key of `sixways serve FOLDER`, without Pulumi; ends with SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        ["sixways", "serve", str(bundle), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if '"ready"' in line:
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(60), lines
        (key,) = re.findall(r"API key of this run: (\S+)", "".join(lines))
        yield f"http://127.0.0.1:{port}", key
    finally:
        process.terminate()
        assert process.wait(60) == 0
        reader.join()
        process.stderr.close()
    assert sum(key in line for line in lines) == 1


def test_serve_answers_without_pulumi(served: tuple[str, str]) -> None:
    url, key = served
    body = {"model": "minilm", "input": ["The harbour was quiet."]}
    right = httpx.post(f"{url}/v1/embeddings", json=body, headers={"X-API-Key": key})
    assert len(right.json()["data"][0]["embedding"]) == 384
    assert httpx.post(f"{url}/v1/embeddings", json=body).status_code == 401


def test_the_client_of_the_readme_embeds(served: tuple[str, str]) -> None:
    url, key = served
    client = next(block for block in blocks("python") if "OpenAI(" in block)
    program = client.split("client.chat")[0].replace("http://127.0.0.1:5000", url)
    program = f"KEY = {key!r}\n{program}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_program_of_the_readme_deploys_and_changes_nothing_twice(
    pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    program = next(block for block in blocks("python") if "LocalEndpoint" in block)
    port = free_port()
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: mine\nruntime: python\n")
    (project / "__main__.py").write_text(
        program.replace('"local", {', f'"local", {{"port": {port}, ')
        + '\nimport pulumi\npulumi.export("url", endpoint.url)\n'
    )
    with Stack(project, pulumi_env) as stack:
        stack.up()
        assert stack.outputs()["url"] == f"http://127.0.0.1:{port}"
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        stack.up("--expect-no-changes")
    assert list((project / ".sixways" / "run" / "test").iterdir()) == []
