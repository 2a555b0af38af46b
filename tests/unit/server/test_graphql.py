"""GraphQL over the same interface."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import build_client_schema, get_introspection_query
from numpy.typing import NDArray

from sixways_bundle.errors import MissingExtra
from sixways_server.app import create_app
from sixways_server.auth import KeyStore, add_key
from sixways_server.engines.dummy import DummyTensor, _Options
from sixways_server.metrics import Metrics
from sixways_server.registry import Registry
from tests.unit.server.conftest import Live, Process, live_server
from tests.unit.server.test_limits import wait_until


def ask(client: httpx.Client, query: str, status: int = 200, **variables: Any) -> Any:
    response = client.post("/graphql", json={"query": query, "variables": variables})
    assert response.status_code == status, response.text
    return response.json()


def data(client: httpx.Client, query: str, **variables: Any) -> Any:
    answer = ask(client, query, **variables)
    assert "errors" not in answer, answer
    return answer["data"]


def test_models_are_listed(client: httpx.Client) -> None:
    models = data(client, "{ models { name task dimensions ready digest } }")["models"]
    assert [model["name"] for model in models] == ["mini", "echo", "sum"]
    assert models[0]["dimensions"] == 8
    assert all(model["ready"] for model in models)


def test_embeddings_are_those_of_the_other_protocols(client: httpx.Client) -> None:
    query = "query ($texts: [String!]!) { embed(texts: $texts) { model vectors tokens } }"
    found = data(client, query, texts=["a b", "c"])["embed"]
    body = {"model": "mini", "input": ["a b", "c"]}
    vectors = [
        item["embedding"] for item in client.post("/v1/embeddings", json=body).json()["data"]
    ]
    assert found == {"model": "mini", "vectors": vectors, "tokens": 3}


def test_a_language_model_answers_and_goes_on(client: httpx.Client) -> None:
    query = """{
      chat(messages: [{role: "user", content: "one two"}], options: {maxTokens: 1}) {
        text finishReason tokens
      }
      complete(prompts: ["a b", "c"], options: {stop: ["b"]}) { model text finishReason }
    }"""
    assert data(client, query) == {
        "chat": {"text": "one ", "finishReason": "length", "tokens": 1},
        "complete": [
            {"model": "echo", "text": "a ", "finishReason": "stop"},
            {"model": "echo", "text": "c", "finishReason": "stop"},
        ],
    }


@pytest.mark.parametrize(
    "inputs", [[[1, 2, 3, 4]], {"features": [[1, 2, 3, 4]]}, {"a": 1, "b": 2, "c": 3, "d": 4}]
)
def test_numbers_are_computed_on(client: httpx.Client, inputs: Any) -> None:
    query = "query ($x: JSON!) { infer(inputs: $x) { model outputs } }"
    found = data(client, query, x=inputs)["infer"]
    assert found == {"model": "sum", "outputs": {"prediction": [[10.0]]}}


def test_several_things_may_be_asked_at_once_and_each_is_counted(tmp_path: Path) -> None:
    with live_server(tmp_path, mini="dummy:embeddings", echo="dummy:chat") as live:
        with live.client() as client:
            query = """{
              a: embed(texts: ["a"]) { tokens }
              b: embed(texts: ["b"], model: "other") { tokens }
              complete(prompts: ["c"]) { text }
            }"""
            answer = ask(client, query)
        text = live.metrics.text().decode()
        assert live.metrics.in_flight == 0
    assert answer["data"] == {"a": {"tokens": 1}, "b": None, "complete": [{"text": "c"}]}
    [error] = answer["errors"]
    assert error["path"] == ["b"]
    assert error["extensions"] == {"code": "model_not_found", "status": 404, "field": "model"}
    for labels in (
        'model_name="mini",operation="embeddings",protocol="graphql",status="200"',
        'model_name="echo",operation="text_completion",protocol="graphql",status="200"',
    ):
        assert f"gen_ai_server_request_duration_seconds_count{{{labels}}} 1.0" in text, labels


FIELDS = [
    ('{ embed(texts: []) { tokens } }', "input", "0 inputs"),
    ('{ embed(texts: ["a"], model: "echo") { tokens } }', "model", "cannot make embeddings"),
    ('{ chat(messages: []) { text } }', "messages", "holds no message"),
    ('{ chat(messages: [{role: "x", content: ""}]) { text } }', "messages", "role"),
    ('{ complete(prompts: ["a"], options: {temperature: 9}) { text } }', "temperature", "9"),
    ('{ complete(prompts: ["a"], options: {maxTokens: 0}) { text } }', "max_tokens", "0"),
    ('{ infer(inputs: [[1, 2, 3]]) { outputs } }', "features", "shape [1, 3]"),
    ('{ infer(inputs: [["x"]]) { outputs } }', "inputs", "inputs[0][0]: 'x' is not accepted"),
    ('{ infer(inputs: null) { outputs } }', None, ""),
    ('{ infer(inputs: {}) { outputs } }', "features", "shape [0]"),
    ('{ infer(inputs: {a: 1, b: [1, 2]}) { outputs } }', "inputs", "differ in length"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "field", "message"), FIELDS)
def test_a_wrong_argument_has_a_code_and_its_field(
    client: httpx.Client, query: str, field: str | None, message: str
) -> None:
    response = client.post("/graphql", json={"query": query})
    [error] = response.json()["errors"]
    assert response.status_code == (200 if field else 400), response.text
    assert error["extensions"]["field"] == field
    assert error["extensions"]["status"] == 400
    assert message in error["message"]


QUERIES = [
    "",
    "{",
    "{ nothing }",
    "mutation { models { name } }",
    "subscription { models { name } }",
    "{ " + " ".join(f"a{i}: embed(texts: []) {{ tokens }}" for i in range(9)) + " }",
    "{ models { name " + "name " * 2000 + "} }",
    "{ infer(inputs: " + "[" * 400 + "]" * 400 + ") { outputs } }",
    "{ models " * 400 + "}" * 400,
    "{ ...a } fragment a on Query { ...a }",
    "{ ...a ...b }",
    "{ __schema { types { " + "fields { type { " * 3 + "name" + " } }" * 3 + " } } }",
    "\ud7ff{",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_is_wrong_or_too_large_is_400(client: httpx.Client, query: str) -> None:
    answer = ask(client, query, 400)
    assert answer["data"] is None
    for error in answer["errors"]:
        assert error["extensions"]["code"] == "invalid_query"
        assert error["extensions"]["status"] == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"query": 3}', b"{}", b'{"variables": 1}'])
def test_what_is_no_request_is_400_in_its_shape(client: httpx.Client, body: bytes) -> None:
    response = client.post("/graphql", content=body)
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert error["extensions"]["status"] == 400
    assert response.json()["data"] is None


def test_introspection_needs_a_key_and_there_is_no_page(live: Live, client: httpx.Client) -> None:
    query = get_introspection_query()
    response = httpx.post(f"{live.url}/graphql", json={"query": query})
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == "invalid_api_key"
    schema = build_client_schema(data(client, query))
    assert schema.query_type
    assert set(schema.query_type.fields) == {"models", "embed", "chat", "complete", "infer"}
    assert schema.mutation_type is None
    assert client.get("/graphql", headers={"accept": "text/html"}).status_code == 405


class Fails(DummyTensor):
    """Breaks."""

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        raise RuntimeError("secret internals")


def test_a_field_that_fails_shows_no_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with live_server(tmp_path, sum=Fails("sum", _Options(), 4)) as live, live.client() as client:
        answer = ask(client, "{ infer(inputs: [[1, 2, 3, 4]]) { outputs } }")
        assert live.metrics.in_flight == 0
        assert 'protocol="graphql",status="500"' in live.metrics.text().decode()
    assert answer["errors"][0]["extensions"]["code"] == "internal"
    assert "secret" not in str(answer)
    assert "secret" in caplog.text


def test_a_client_that_leaves_ends_its_fields(tmp_path: Path) -> None:
    with live_server(tmp_path, mini="dummy:embeddings?delay=30") as live, live.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/graphql", json={"query": '{ embed(texts: ["a"]) { tokens } }'}, timeout=1)
        wait_until(lambda: live.metrics.in_flight == 0)
        assert 'protocol="graphql",status="499"' in live.metrics.text().decode()


def test_it_is_served_only_where_the_configuration_says_so(
    launch: Callable[..., Process],
) -> None:
    for given, status in ((None, 404), (True, 200)):
        process = launch(graphql=given, linger_seconds=0)
        url = process.wait_for("ready")["url"]
        headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
        body = {"query": "{ models { name } }"}
        assert httpx.post(f"{url}/graphql", json=body, headers=headers).status_code == status


def test_without_its_library_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(tmp_path / "keys.json")
    monkeypatch.delitem(sys.modules, "sixways_server.protocols.graphql", raising=False)
    monkeypatch.delattr("sixways_server.protocols.graphql", raising=False)
    monkeypatch.setitem(sys.modules, "strawberry", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sixways\[graphql\]'"):
        create_app(
            Registry(["a"]),
            KeyStore(tmp_path / "keys.json"),
            Metrics(),
            max_body_bytes=1,
            max_inputs=1,
            with_graphql=True,
        )
