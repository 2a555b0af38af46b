"""The Open Inference Protocol V2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sixways_server.engines.dummy import DummyEmbeddings, _Options
from tests.unit.server.conftest import live_server


def text(*texts: Any, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [{**tensor, **changes}]}


def test_server_and_models_describe_themselves(client: httpx.Client) -> None:
    assert client.get("/v2").json()["name"] == "sixways"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/mini", "/v2/models/mini/versions/1"):
        model = client.get(path).json()
        assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}]
        assert client.get(f"{path}/ready").json() == {"name": "mini", "ready": True}


def test_texts_become_rows_as_over_the_other_protocol(client: httpx.Client) -> None:
    answer = client.post("/v2/models/mini/infer", json={"id": "7", **text("a", "b c")}).json()
    output = answer["outputs"][0]
    assert (answer["id"], output["shape"], output["datatype"]) == ("7", [2, 8], "FP32")
    other = client.post("/v1/embeddings", json={"model": "mini", "input": ["a", "b c"]}).json()
    rows = np.array(output["data"]).reshape(output["shape"])
    np.testing.assert_array_equal(rows, [item["embedding"] for item in other["data"]])


@pytest.mark.parametrize("nested", [False, True])
def test_token_ids_are_taken_where_the_mask_says(client: httpx.Client, nested: bool) -> None:
    ids: list[Any] = [[1, 2, 3], [4, 0, 0]]
    mask: list[Any] = [[1, 1, 1], [1, 0, 0]]
    if not nested:
        ids, mask = [1, 2, 3, 4, 0, 0], [1, 1, 1, 1, 0, 0]
    tensor = {"shape": [2, 3], "datatype": "INT64"}
    inputs = [
        {"name": "input_ids", "data": ids, **tensor},
        {"name": "attention_mask", "data": mask, **tensor},
    ]
    answer = client.post("/v2/models/mini/versions/1/infer", json={"inputs": inputs}).json()
    other = client.post("/v1/embeddings", json={"model": "mini", "input": [[1, 2, 3], [4]]}).json()
    rows = np.array(answer["outputs"][0]["data"]).reshape(2, 8)
    np.testing.assert_array_equal(rows, [item["embedding"] for item in other["data"]])


def test_a_language_model_goes_on_from_each_prompt(client: httpx.Client) -> None:
    body = text("one two three", "four", name="prompt")
    body["parameters"] = {"max_tokens": 2, "temperature": 0.5, "seed": 1}
    body["outputs"] = [{"name": "text"}]
    answer = client.post("/v2/models/echo/infer", json=body).json()
    assert answer["outputs"] == [
        {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["one two ", "four"]}
    ]


WRONG = [
    (text("a", datatype="FP32"), "inputs[0].datatype"),
    (text("a", shape=[2]), "1 values, but shape [2] holds 2"),
    (text("a", "b", shape=[1, 2]), "inputs[0].shape"),
    (text("a", shape=[-1]), "inputs[0].shape[0]"),
    (text("a", shape=[]), "inputs[0].shape"),
    (text("a", shape=[1, 1, 1]), "inputs[0].shape"),
    (text("a", 3), "inputs[0].data[1]: 3 is not accepted; accepted: a text"),
    (text(["a"], "b"), "mixed"),
    (text("a", name="other"), "this model takes text (BYTES)"),
    ({"inputs": []}, "inputs"),
    ({}, "inputs"),
    ({"inputs": text("a")["inputs"] * 2}, "given twice"),
    ({**text("a"), "outputs": [{"name": "logits"}]}, "'logits' is not an output"),
    ({**text("a"), "parameters": {"sequence_id": 7}}, "parameters.sequence_id: not offered"),
    (text("a", parameters={"shared_memory_region": "r"}), "shared_memory_region: not offered"),
    ({**text("a"), "outputs": [{"name": "embedding", "parameters": {"classification": 2}}]},
     "outputs[0].parameters.classification: not offered"),
    (text("a", datatype="BF16"), "text is BYTES"),
    (text("a", data=None), "inputs[0]: needs either data or"),
    (text("a", parameters={"binary_data_size": 5}), "inputs[0]: needs either data or"),
    (text(), "inputs[0].shape[0]"),
    (text(["a", "b"], shape=[2, 1]), "1 rows of 2 to 2 values, but shape is [2, 1]"),
    (text(["a", "b"], shape=[2]), "1 rows of 2 to 2 values, but shape is [2]"),
    ({"inputs": [{"name": name, "shape": [2, 2], "datatype": "INT64", "data": [[1], [1, 1, 1]]}
                 for name in ("input_ids", "attention_mask")]},
     "2 rows of 1 to 3 values, but shape is [2, 2]"),
    (text("a", shape=[2**31]), "inputs[0].shape[0]"),
    (text("a", shape=[10**4200]), "inputs[0].shape[0]"),
    (text("w " * 33), "this model takes 32"),
    ({"inputs": [{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [1]}]},
     "input_ids (INT64) and attention_mask (INT64)"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_a_wrong_request_says_where(
    client: httpx.Client, body: dict[str, Any], message: str
) -> None:
    response = client.post("/v2/models/mini/infer", json=body)
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "1.5", "true", "-1", "9999999999999999999", "1" + "0" * 4299]
)
def test_what_is_no_token_id_is_refused(client: httpx.Client, literal: str) -> None:
    tensor = '"shape": [1, 1], "datatype": "INT64", "data"'
    ids = '{"name": "input_ids", ' + tensor + ": [" + literal + "]}"
    mask = '{"name": "attention_mask", ' + tensor + ": [1]}"
    content = '{"inputs": [' + ids + ", " + mask + "]}"
    response = client.post("/v2/models/mini/infer", content=content)
    assert response.status_code == 400, response.text
    assert "inputs[0]" in response.json()["error"]
    assert len(response.content) < 500


def test_an_output_that_there_is_not_is_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    engine = DummyEmbeddings("mini", _Options(delay=30), 4)
    with live_server(tmp_path, mini=engine) as live, live.client() as api:
        body = {**text("a"), "outputs": [{"name": "logits"}]}
        response = api.post("/v2/models/mini/infer", json=body)
        assert response.status_code == 400
        assert "it has 'embedding'" in response.json()["error"]


def rows(data: list[Any], **changes: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": [2, 4], "datatype": "FP32", "data": data}
    return {"inputs": [{**tensor, **changes}]}


def test_a_model_over_tensors_describes_its_own(client: httpx.Client) -> None:
    model = client.get("/v2/models/sum").json()
    assert model["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert model["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]
    assert model["parameters"]["task"] == "tensor"


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_over_tensors_computes_on_numbers(client: httpx.Client, nested: bool) -> None:
    data: list[Any] = [[1, 2, 3, 4.5], [0, 0, 0, -1]] if nested else [1, 2, 3, 4.5, 0, 0, 0, -1]
    answer = client.post("/v2/models/sum/infer", json=rows(data)).json()
    assert answer["outputs"] == [
        {"name": "prediction", "shape": [2, 1], "datatype": "FP32", "data": [10.5, -1.0]}
    ]


WRONG_ROWS = [
    (rows([0] * 8, datatype="INT64"), "inputs[0].datatype: 'INT64' is not accepted; features is"),
    (rows([0] * 7), "7 values, but shape [2, 4] holds 8"),
    (rows([[0] * 3] * 2), "2 rows of 3 to 3 values, but shape is [2, 4]"),
    (rows([[0] * 4, [0] * 5]), "2 rows of 4 to 5 values"),
    (rows([[[0]] * 4] * 2), "8 rows of 1 to 1 values, but shape is [2, 4]"),
    (rows([[0] * 4, 0]), "mixed"),
    (rows([0] * 6, shape=[2, 3]), "features: float32 of shape [2, 3] is not accepted"),
    (rows([0] * 8, shape=[8]), "features: float32 of shape [8] is not accepted"),
    (rows([], shape=[0, 4]), "inputs[0].shape[0]"),
    (rows([0] * 8, shape=[1] * 17), "inputs[0].shape"),
    (rows([], shape=[2**31 - 1] * 16), "0 values, but shape"),
    (rows([[[]]], shape=[1, 1, 1]), "1 rows of 0 to 0 values, but shape is [1, 1, 1]"),
    (rows([0] * 7 + [True]), "inputs[0].data[1][3]: True is not accepted; accepted: a number"),
    (rows([0] * 7 + ["1"]), "inputs[0].data[1][3]: '1' is not accepted"),
    (rows([0] * 7 + [None]), "inputs[0].data[1][3]: None is not accepted"),
    (
        rows([0] * 7 + [1e39]),
        "inputs[0].data[1][3]: 1e+39 is not accepted; accepted: a number that",
    ),
    (rows([0] * 7 + [10**400]), "inputs[0].data[1][3]: a whole number of more than 64 bits"),
    (rows([0] * 8, name="other"), "inputs: other given; this model takes features (FP32)"),
    ({**rows([0] * 8), "outputs": [{"name": "x"}]}, "outputs[0].name: 'x' is not an output"),
]


@pytest.mark.parametrize(("body", "message"), WRONG_ROWS)
def test_wrong_numbers_say_where(client: httpx.Client, body: dict[str, Any], message: str) -> None:
    response = client.post("/v2/models/sum/infer", json=body)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
    assert len(response.content) < 500


@pytest.mark.parametrize("literal", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(client: httpx.Client, literal: str) -> None:
    content = json.dumps(rows([0.125] * 8)).replace("0.125", literal)
    response = client.post("/v2/models/sum/infer", content=content)
    assert response.status_code == 400, response.text
    assert "inputs[0].data[0][0]" in response.json()["error"]


def test_the_index_names_every_model_and_its_state(client: httpx.Client) -> None:
    index = client.post("/v2/repository/index").json()
    assert {one["name"]: one["state"] for one in index} == dict.fromkeys(
        ("mini", "echo", "sum"), "READY"
    )


def test_the_index_says_why_a_model_is_not_there(tmp_path: Path) -> None:
    with live_server(tmp_path, mini="dummy:embeddings") as live, live.client() as client:
        live.registry._engines["mini"] = None
        assert client.post("/v2/repository/index").json() == [
            {"name": "mini", "version": "1", "state": "UNAVAILABLE", "reason": "loading"}
        ]


def test_unknown_models_and_versions_are_404(client: httpx.Client) -> None:
    for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/models/mini/versions/2"):
        response = client.get(path)
        assert response.status_code == 404
        assert list(response.json()) == ["error"]


def test_malformed_json_says_at_which_place(client: httpx.Client) -> None:
    response = client.post("/v2/models/mini/infer", content=b'{"inputs": [}')
    assert response.status_code == 400
    assert "line 1 column 13" in response.json()["error"]
