"""`/predict`: one URL and no schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from sixways_bundle.runtime.base import TensorSpec
from sixways_server.engines.dummy import DummyTensor, _Options
from tests.unit.server.conftest import live_server


class Two(DummyTensor):
    """Two inputs, two outputs: the sum of both, and whether it is positive."""

    inputs = (TensorSpec("a", "float32", (-1,)), TensorSpec("b", "int64", (-1, 1)))  # type: ignore[assignment]
    outputs = (TensorSpec("sum", "float32", (-1,)), TensorSpec("positive", "bool", (-1,)))  # type: ignore[assignment]

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        total = (tensors["a"] + tensors["b"][:, 0]).astype(np.float32)
        return {"sum": total, "positive": total > 0}


class Scalars(DummyTensor):
    """One number a row in, two outputs."""

    inputs = (TensorSpec("x", "float32", (-1,)),)
    outputs = (TensorSpec("half", "float32", (-1,)), TensorSpec("whole", "float32", ()))  # type: ignore[assignment]

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return {"half": tensors["x"] / 2, "whole": tensors["x"].sum()}


def predict(client: httpx.Client, body: Any, status: int = 200) -> Any:
    response = client.post("/predict", json=body)
    assert response.status_code == status, response.text
    return response.json()


ANSWERS = [
    ({"features": [1, 2, 3, 4]}, {"prediction": [10.0]}),
    ({"features": [[1, 2, 3, 4], [0, 0, 0, 0.5]]}, {"prediction": [[10.0], [0.5]]}),
    ({"features": {"features": [[1, 2, 3, 4]]}}, {"prediction": [[10.0]]}),
    ({"features": {"a": [1], "b": [2], "c": [3], "d": [4]}}, {"prediction": [[10.0]]}),
    ({"input": [1, 2, 3, 4]}, {"result": [10.0]}),
    ({"features": [1, 2, 3, 4], "model": "sum"}, {"prediction": [10.0]}),
    ({"input": "one two", "model": "echo"}, {"result": "one two"}),
    ({"input": ["one two", "three"], "model": "echo"}, {"result": ["one two", "three"]}),
    ({"input": "one two", "model": "echo", "max_tokens": 1}, {"result": "one "}),
    ({"features": "one", "model": "echo"}, {"prediction": "one"}),
]


@pytest.mark.parametrize(("body", "answer"), ANSWERS)
def test_what_comes_back_follows_the_model(
    client: httpx.Client, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    assert predict(client, body) == answer


def test_a_text_is_a_vector_and_a_list_of_texts_a_list_of_vectors(client: httpx.Client) -> None:
    body = {"model": "mini", "input": ["a b", "c"]}
    other = client.post("/v1/embeddings", json=body).json()["data"]
    vectors = [item["embedding"] for item in other]
    assert predict(client, body) == {"result": vectors}
    assert predict(client, {"model": "mini", "input": "a b"}) == {"result": vectors[0]}


def test_a_model_s_inputs_and_outputs_have_names_where_there_are_several(tmp_path: Path) -> None:
    models = {"two": Two("two", _Options(), 4), "mini": "dummy:embeddings"}
    with live_server(tmp_path, **models) as live, live.client() as client:
        given = {"a": [1.5, 2], "b": [2, -2]}
        answer = {"sum": [3.5, 0.0], "positive": [True, False]}
        assert predict(client, {"features": given}) == {"prediction": answer}
        assert predict(client, {"features": {"a": 1, "b": 2}}) == {
            "prediction": {"sum": [3.0], "positive": [True]}
        }
        # Only one model here reads text.
        assert len(predict(client, {"input": "a"})["result"]) == 8
        error = predict(client, {"features": [1, 2]}, 400)["error"]
        assert error["message"] == "features: one list given; two takes a (float32), b (int64)"
        error = predict(client, {"features": {"a": [1], "b": [1.5]}}, 400)["error"]
        assert error["field"] == "features.b"
        assert "features.b[0]: 1.5 is not accepted; accepted: a whole number" in error["message"]


def test_a_row_may_be_a_single_number(tmp_path: Path) -> None:
    with live_server(tmp_path, x=Scalars("x", _Options(), 4)) as live, live.client() as client:
        assert predict(client, {"features": 3}) == {"prediction": {"half": 1.5, "whole": 3.0}}
        assert predict(client, {"features": [3, 1]}) == {
            "prediction": {"half": [1.5, 0.5], "whole": 4.0}
        }


WRONG: list[tuple[Any, int, str | None, str]] = [
    ({}, 400, "input", "none given; accepted: either"),
    ({"features": None}, 400, "input", "none given"),
    ({"features": [1], "input": "a"}, 400, "features", "features and input given"),
    ({"input": "a"}, 400, "model", "model: is missing; name one of: mini, echo"),
    ({"input": "a", "model": "other"}, 404, "model", "'other' is not served here"),
    ({"input": "a", "model": 3}, 400, "model", "model:"),
    ({"input": "a", "model": "sum"}, 400, "input", "input[0]: 'a' is not accepted"),
    ({"input": [1], "model": "mini"}, 400, "input", "input[0]: 1 is not accepted"),
    ({"input": [], "model": "mini"}, 400, "input", "0 inputs"),
    ({"input": [], "model": "echo"}, 400, "prompt", "0 prompts"),
    ({"input": ["a"] * 65, "model": "mini"}, 400, "input", "65 inputs"),
    ({"input": "w " * 33, "model": "mini"}, 400, "input[0]", "this model takes 32"),
    ({"input": "a", "model": "echo", "max_tokens": 0}, 400, "max_tokens", "max_tokens:"),
    ({"features": []}, 400, "features", "shape [1, 0] is not accepted"),
    ({"features": [1, 2, 3]}, 400, "features", "shape [1, 3] is not accepted"),
    ({"features": [[1, 2], [3]]}, 400, "features", "differ in length"),
    ({"features": [[1, 2, 3, 4], 5]}, 400, "features", "differ in length"),
    ({"features": [1, 2, 3, None]}, 400, "features", "features[0][3]: None is not accepted"),
    ({"features": [1, 2, 3, "4"]}, 400, "features", "features[0][3]: '4' is not accepted"),
    ({"features": [1, 2, 3, True]}, 400, "features", "features[0][3]: True is not accepted"),
    ({"features": [1, 2, 3, 1e300]}, 400, "features", "features[0][3]: 1e+300"),
    ({"features": [1, 2, 3, 10**400]}, 400, "features", "features[0][3]: a whole number"),
    ({"features": [1, 2, 3, {}]}, 400, "features", "features[0][3]: a dict is not accepted"),
    ({"features": {"a": [1], "b": [1, 2]}}, 400, "features", "columns differ in length"),
    ({"features": {}}, 400, "features", "features:"),
    ([], 400, "body", "body:"),
]


@pytest.mark.parametrize(("body", "status", "field", "message"), WRONG)
def test_a_wrong_request_says_where(
    client: httpx.Client, body: Any, status: int, field: str, message: str
) -> None:
    error = predict(client, body, status)["error"]
    assert set(error) == {"message", "field", "code"}
    assert error["field"] == field
    assert message in error["message"]
    assert len(error["message"]) < 500


@pytest.mark.parametrize("content", [b"", b"{", b'{"features": [NaN, 1, 1, 1]}', b"[" * 5000])
def test_what_is_no_json_is_refused(client: httpx.Client, content: bytes) -> None:
    response = client.post("/predict", content=content)
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "field", "code"}
