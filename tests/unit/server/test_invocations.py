"""One `/invocations` for every protocol, told apart by the shape of the body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.server.conftest import live_server

CHAT = {"messages": [{"role": "user", "content": "one two"}]}
TENSOR = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


def call(client: httpx.Client, body: Any, status: int = 200, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", **headers}
    response = client.post("/invocations", content=content, headers=given)
    assert response.status_code == status, response.text
    return response.json()


SAME = [
    (CHAT, "/v1/chat/completions", "echo"),
    ({"prompt": "one two"}, "/v1/completions", "echo"),
    ({"input": ["a", "b"]}, "/v1/embeddings", "mini"),
    ({"inputs": [TENSOR]}, "/v2/models/sum/infer", None),
    ({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
     "/v2/models/mini/infer", None),
]  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("body", "path", "model"), SAME)
def test_the_answer_is_that_of_the_protocol_s_own_route(
    client: httpx.Client, body: dict[str, Any], path: str, model: str | None, named: bool
) -> None:
    own = client.post(path, json={"model": model, **body}).json()
    name = model or path.split("/")[3]
    for given in ({"model": name}, {}) if named else ({}, {"model": None}):
        answer = call(client, {**body, **given})
        for changing in ("id", "created"):
            answer.pop(changing, None)
            own.pop(changing, None)
        assert answer == own


def test_a_stream_comes_as_events(client: httpx.Client) -> None:
    body = {**CHAT, "stream": True}
    with client.stream("POST", "/invocations", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines]
    assert len(deltas) >= 2
    assert "".join(deltas) == "one two"


def test_the_target_model_names_the_model_and_the_body_goes_before_it(
    tmp_path: Path,
) -> None:
    models = {"one": "dummy:embeddings", "two": "dummy:embeddings"}
    with live_server(tmp_path, **models) as live, live.client() as client:
        header = "x-amzn-sagemaker-target-model"
        for target in ("two", "/two.tar.gz"):
            assert call(client, {"input": "a"}, **{header: target})["model"] == "two"
        assert call(client, {"input": "a", "model": "one"}, **{header: "two"})["model"] == "one"
        call(client, {"input": "a"}, 404, **{header: "three.tar.gz"})
        named = {"instances": ["a"], "params": {"model": "one"}}
        call(client, named, **{header: "three"})
        call(client, {"instances": ["a"]}, 404, **{header: "three"})
        tensors = {"inputs": [{**TENSOR, "name": "text"}]}
        assert "name one of: one, two" in call(client, tensors, 400)["error"]
        message = call(client, {"input": "a"}, 400)["error"]["message"]
        assert message == "model: is missing; name one of: one, two"
        message = call(client, CHAT, 400)["error"]["message"]
        assert "no model here can write text; served are: one (embeddings), two" in message


SHAPES = [
    ({**CHAT, "temperature": 9}, {"error": {"param": "temperature"}}),
    ({"prompt": 3}, {"error": {"param": "prompt"}}),
    ({"input": [None]}, {"error": {"param": "input"}}),
    ({"input": "a", "model": 3}, {"error": {"param": "model"}}),
    ({"inputs": [{**TENSOR, "data": [1]}]}, "error"),
    ({"inputs": [{**TENSOR, "datatype": 3}]}, "error"),
    ({"inputs": [TENSOR], "model": 3}, "error"),
    ({"inputs": [TENSOR, {}]}, "error"),
    (b'{"input": "a", "model": "\xff"}', {"error": {"param": None}}),
    (b'{"input": "a", "model": 1e999}', {"error": {"param": None}}),
    (b'{"inputs": [{"name": "\xff", "shape": [1], "datatype": "FP32"}]}', "error"),
    ({"instances": "a"}, "error_code"),
    ({"instances": [1], "model": 3}, "error_code"),
    ({"nothing": 1}, "error_code"),
    ({}, "error_code"),
    ([], "error_code"),
    (b"", "error_code"),
    (b'{"messages": [', "error_code"),
    (b'{"a": "\xff"}', "error_code"),
    (b"[" * 100_000, "error_code"),
    (b'{"a":' * 100_000, "error_code"),
    (b'{"inputs": ' + b"[" * 100_000, "error_code"),
]


@pytest.mark.parametrize(("body", "shape"), SHAPES)
def test_errors_have_the_shape_of_the_protocol_that_the_body_is(
    client: httpx.Client, body: Any, shape: Any
) -> None:
    answer = call(client, body, 400)
    if isinstance(shape, dict):
        assert answer["error"]["param"] == shape["error"]["param"]
        assert answer["error"]["type"] == "invalid_request_error"
    elif shape == "error":
        assert isinstance(answer["error"], str)
    else:
        assert answer["error_code"] == "BAD_REQUEST"
    assert len(json.dumps(answer)) < 1000


def test_an_unknown_shape_is_told_what_is_accepted(client: httpx.Client) -> None:
    message = call(client, {"nothing": 1, "at all": 2}, 400)["message"]
    assert message.startswith("the body holds nothing, at all; accepted: messages (a chat)")


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin-1", "x"],
)
def test_other_content_types_are_415(client: httpx.Client, kind: str) -> None:
    answer = call(client, {"input": "a"}, 415, **{"content-type": kind})
    assert "accepted: application/json, text/csv" in answer["message"]


@pytest.mark.parametrize("kind", ["application/json", 'Application/JSON; charset="UTF-8"'])
def test_json_has_several_spellings(client: httpx.Client, kind: str) -> None:
    assert call(client, {"input": "a"}, **{"content-type": kind})["model"] == "mini"


def test_a_body_without_a_content_type_is_json(client: httpx.Client) -> None:
    response = client.post("/invocations", content=b'{"input": "a"}')
    assert "content-type" not in response.request.headers
    assert response.json()["model"] == "mini"


def test_no_key_is_401_and_a_large_body_is_413(client: httpx.Client) -> None:
    response = httpx.post(client.base_url.join("/invocations"), json={"input": "a"})
    assert response.status_code == 401
    assert response.json()["error_code"] == "INVALID_API_KEY"
    response = client.post("/invocations", content=b" " * 2_000_000)
    assert response.status_code == 413
    assert response.json()["error_code"] == "BODY_TOO_LARGE"


def test_metrics_name_the_protocol_that_was_spoken(tmp_path: Path) -> None:
    with live_server(tmp_path, mini="dummy:embeddings", sum="dummy:tensor") as live:
        with live.client() as client:
            call(client, {"input": "a"})
            call(client, {"inputs": [TENSOR]})
            call(client, {"instances": [[1, 2, 3, 4]], "model": "sum"})
            call(client, {"nothing": 1}, 400)
        text = live.metrics.text().decode()
    for labels in (
        'model_name="mini",operation="embeddings",protocol="openai",status="200"',
        'model_name="sum",operation="infer",protocol="v2",status="200"',
        'model_name="sum",operation="infer",protocol="mlflow",status="200"',
        'model_name="unknown",operation="",protocol="invocations",status="400"',
    ):
        assert f"gen_ai_server_request_duration_seconds_count{{{labels}}} 1.0" in text, labels
