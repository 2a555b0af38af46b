"""What is wrong is 4xx in the protocol's own shape, whichever protocol it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from numpy.typing import NDArray
from starlette.routing import Route

from sixways_server.auth import OPEN_PATHS
from sixways_server.engines.dummy import DummyChat, DummyEmbeddings, DummyTensor, _Options
from tests.unit.server.conftest import MAX_BODY, Live, live_server

NUMBER = 0.0625


def _openai(answer: Any) -> tuple[str, Any]:
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    return answer["error"]["message"], answer["error"]["code"]


def _v2(answer: Any) -> tuple[str, Any]:
    assert set(answer) == {"error"}
    return answer["error"], None


def _mlflow(answer: Any) -> tuple[str, Any]:
    assert set(answer) == {"error_code", "message"}
    return answer["message"], answer["error_code"].lower()


def _predict(answer: Any) -> tuple[str, Any]:
    assert set(answer["error"]) == {"message", "field", "code"}
    return answer["error"]["message"], answer["error"]["code"]


def _graphql(answer: Any) -> tuple[str, Any]:
    [error] = answer["errors"]
    assert set(error["extensions"]) == {"code", "status", "field"}
    return error["message"], error["extensions"]["code"]


@dataclass(frozen=True)
class Case:
    """A request that is right, to be made wrong."""

    name: str
    path: str
    body: Mapping[str, Any]
    model: str
    read: Callable[[Any], tuple[str, Any]]

    @property
    def content(self) -> bytes:
        return json.dumps(self.body).encode()

    @property
    def read_unread(self) -> Callable[[Any], tuple[str, Any]]:
        """How an error reads that came before the body was understood."""
        return _mlflow if self.path == "/invocations" else self.read

    def changed(self, old: str, new: str) -> bytes:
        assert old in json.dumps(self.body)
        return json.dumps(self.body).replace(old, new).encode()


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}


ROW = [NUMBER, 2, 3, 4]
MESSAGES = [{"role": "user", "content": "one two"}]
TENSOR = tensor("features", "FP32", [1, 4], ROW)
TEXT = tensor("text", "BYTES", [1], ["a"])
EMBED = "query ($t: [String!]!, $m: String!) { embed(texts: $t, model: $m) { tokens } }"
INFER = "query ($x: JSON!, $m: String!) { infer(inputs: $x, model: $m) { outputs } }"
CASES = [
    Case("chat", "/v1/chat/completions", {"model": "echo", "messages": MESSAGES}, "echo", _openai),
    Case("completion", "/v1/completions", {"model": "echo", "prompt": "a"}, "echo", _openai),
    Case("embedding", "/v1/embeddings", {"model": "mini", "input": "a"}, "mini", _openai),
    Case("v2 texts", "/v2/models/mini/infer", TEXT, "mini", _v2),
    Case("v2 numbers", "/v2/models/sum/infer", TENSOR, "sum", _v2),
    Case("v2 version", "/v2/models/sum/versions/1/infer", TENSOR, "sum", _v2),
    Case("mlflow numbers", "/invocations", {"model": "sum", "instances": [ROW]}, "sum", _mlflow),
    Case("mlflow texts", "/invocations", {"model": "mini", "inputs": ["a"]}, "mini", _mlflow),
    Case("sagemaker chat", "/invocations", {"model": "echo", "messages": MESSAGES}, "echo",
         _openai),
    Case("sagemaker input", "/invocations", {"model": "mini", "input": "a"}, "mini", _openai),
    Case("sagemaker tensors", "/invocations", {"model": "sum", **TENSOR}, "sum", _v2),
    Case("predict text", "/predict", {"model": "mini", "input": "a"}, "mini", _predict),
    Case("predict row", "/predict", {"model": "sum", "features": ROW}, "sum", _predict),
    Case("graphql text", "/graphql", {"query": EMBED, "variables": {"m": "mini", "t": ["a"]}},
         "mini", _graphql),
    Case("graphql row", "/graphql", {"query": INFER, "variables": {"m": "sum", "x": [ROW]}}, "sum",
         _graphql),
]  # fmt: skip
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
numbers = pytest.mark.parametrize(
    "case", [case for case in CASES if case.model == "sum"], ids=lambda case: case.name
)


def post(client: httpx.Client, case: Case, content: bytes, path: str = "") -> httpx.Response:
    headers = {"content-type": "application/json"}
    return client.post(path or case.path, content=content, headers=headers)


def refused(response: httpx.Response, case: Case, status: int) -> tuple[str, Any]:
    """Message and code. GraphQL answers 200 to a query whose fields failed, and says so inside."""
    if case.read is _graphql and response.status_code == 200:
        assert response.json()["errors"][0]["extensions"]["status"] == status, response.text
    else:
        assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) < 2000
    return case.read(response.json())


@every
def test_the_request_itself_is_right(client: httpx.Client, case: Case) -> None:
    response = post(client, case, case.content)
    assert response.status_code == 200, response.text
    assert "errors" not in response.json()


def test_every_route_that_computes_is_one_of_the_cases(live: Live) -> None:
    posts = {
        route.path
        for route in live.app.routes
        if isinstance(route, Route) and "POST" in (route.methods or ())
    }
    paths = {case.path.replace("/models/mini", "/models/sum") for case in CASES}
    covered = {
        path.replace("/models/sum", "/models/{model}").replace("/1/", "/{version}/")
        for path in paths
    }
    assert posts - {"/v2/repository/index"} == covered
    assert not posts & OPEN_PATHS


@every
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "guess"}, {"authorization": "Basic x"}])
def test_without_a_key_it_is_401(live: Live, case: Case, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=live.url, headers=headers) as client:
        response = post(client, case, case.content)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert case.read_unread(response.json())[1] in ("invalid_api_key", None)


@every
def test_a_body_over_the_limit_is_413(client: httpx.Client, case: Case) -> None:
    response = post(client, case, case.content + b" " * MAX_BODY)
    assert response.status_code == 413
    assert case.read_unread(response.json())[1] in ("body_too_large", None)


@every
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_body_is_400(client: httpx.Client, case: Case, share: float) -> None:
    response = post(client, case, case.content[: int(len(case.content) * share)])
    assert response.status_code == 400, response.text
    assert "JSON" in case.read_unread(response.json())[0]


@every
@pytest.mark.parametrize(
    "content", [b"null", b"[]", b'"a"', b"1", b"{}", b"\xff\xfe", b"{}{}", b"[" * 100_000]
)
def test_another_kind_of_body_is_400(client: httpx.Client, case: Case, content: bytes) -> None:
    response = post(client, case, content)
    assert response.status_code == 400, response.text
    assert case.read_unread(response.json())[0]


@every
def test_an_unknown_model_is_404(client: httpx.Client, case: Case) -> None:
    path = case.path.replace("/models/mini", "/models/nobody")
    path = path.replace("/models/sum", "/models/nobody")
    content = case.content
    if path == case.path:
        content = case.changed(f'"{case.model}"', '"nobody"')
    message, code = refused(post(client, case, content, path), case, 404)
    assert "'nobody' is not served here; served are: mini, echo, sum" in message
    assert code in ("model_not_found", None)


@every
def test_a_model_that_does_something_else_is_400(client: httpx.Client, case: Case) -> None:
    other = {"mini": "sum", "echo": "mini", "sum": "mini"}[case.model]
    path = case.path.replace(f"/models/{case.model}", f"/models/{other}")
    content = case.content
    if path == case.path:
        content = case.changed(f'"{case.model}"', f'"{other}"')
    refused(post(client, case, content, path), case, 400)


@numbers
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "1e39", "1" * 400])
def test_a_number_that_is_none_is_400(client: httpx.Client, case: Case, literal: str) -> None:
    response = post(client, case, case.changed(str(NUMBER), literal))
    if literal[-1].isalpha() and case.path == "/invocations":  # no JSON at all
        assert response.status_code == 400, response.text
        assert case.read_unread(response.json())
    else:
        refused(response, case, 400)


@numbers
@pytest.mark.parametrize("value", ['"1"', "null", "true", "{}", "[1]"])
def test_a_value_of_another_type_is_400(client: httpx.Client, case: Case, value: str) -> None:
    refused(post(client, case, case.changed(str(NUMBER), value)), case, 400)


@numbers
def test_a_row_of_another_length_is_400(client: httpx.Client, case: Case) -> None:
    refused(post(client, case, case.changed(f"{NUMBER}, ", "")), case, 400)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model != "sum"], ids=lambda case: case.name
)
def test_a_text_that_is_no_unicode_is_400(client: httpx.Client, case: Case) -> None:
    old = '"one two"' if '"one two"' in json.dumps(case.body) else '"a"'
    response = post(client, case, case.changed(old, r'"\ud800"'))
    assert response.status_code == 400, response.text
    assert "JSON" in case.read_unread(response.json())[0]


@pytest.fixture
def busy(tmp_path: Path) -> Any:
    """Engines without room."""
    engines = {
        "mini": DummyEmbeddings("mini", _Options(), 0),
        "echo": DummyChat("echo", _Options(), 1),
        "sum": DummyTensor("sum", _Options(), 0),
    }
    engines["echo"].slots.limit = 0  # type: ignore[attr-defined]
    with live_server(tmp_path, **engines) as live, live.client() as client:
        yield client


@every
def test_a_full_queue_is_429_with_the_time_to_wait(busy: httpx.Client, case: Case) -> None:
    response = post(busy, case, case.content)
    _, code = refused(response, case, 429)
    assert code in ("too_busy", None)
    if response.status_code == 429:
        assert int(response.headers["retry-after"]) >= 1


@every
def test_a_model_that_loads_is_503(tmp_path: Path, case: Case) -> None:
    models = {"mini": "dummy:embeddings", "echo": "dummy:chat", "sum": "dummy:tensor"}
    with live_server(tmp_path, **models) as live, live.client() as client:
        live.registry._engines[case.model] = None
        _, code = refused(post(client, case, case.content), case, 503)
        assert code in ("not_ready", None)


class Fails(DummyTensor):
    """Breaks."""

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        raise RuntimeError("secret internals")


@numbers
def test_an_engine_that_fails_is_500_in_the_protocol_s_shape(tmp_path: Path, case: Case) -> None:
    with live_server(tmp_path, sum=Fails("sum", _Options(), 4)) as live, live.client() as client:
        message, code = refused(post(client, case, case.content), case, 500)
    assert "secret" not in message
    assert code in ("internal", None)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/nothing", _openai),
        ("/v2/nothing", _v2),
        ("/predict/nothing", _predict),
        ("/graphql/nothing", _graphql),
        ("/invocations/nothing", _mlflow),
    ],
)
def test_a_path_that_is_not_there_is_404_in_the_protocol_s_shape(
    client: httpx.Client, path: str, read: Callable[[Any], tuple[str, Any]]
) -> None:
    response = client.post(path, content=b"{}")
    assert response.status_code == 404
    message, code = read(response.json())
    assert path in message
    assert code in ("not_found", None)


@every
def test_another_method_is_405_in_the_protocol_s_shape(client: httpx.Client, case: Case) -> None:
    response = client.put(case.path, content=case.content)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert case.read_unread(response.json())[0].startswith("PUT ")
