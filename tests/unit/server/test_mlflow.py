"""MLflow's scoring protocol, spoken by MLflow's own client."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from sixways_server.engines.dummy import _Options
from tests.unit.server.conftest import Live, live_server
from tests.unit.server.test_predict import Two

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow about its own types
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ROWS = np.arange(8, dtype=float).reshape(2, 4)


@pytest.fixture
def api(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScoringServerClient]:
    """MLflow's client. It sends no key of its own; the library below it reads `.netrc`."""
    url = httpx.URL(live.url)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {url.host} login sixways password {live.key}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    return ScoringServerClient(url.host, url.port)


def post(client: httpx.Client, body: Any, status: int = 200) -> Any:
    response = client.post("/invocations", json=body)
    assert response.status_code == status, response.text
    return response.json()


def test_the_client_sees_a_server_that_is_ready(api: ScoringServerClient) -> None:
    api.wait_server_ready(timeout=5)
    assert api.get_version()


def test_the_client_sends_arrays_and_frames(api: ScoringServerClient) -> None:
    for data in (
        ROWS,
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, columns=list("abcd")),
        json.dumps({"inputs": {"features": ROWS.tolist()}}),
    ):
        answer = api.invoke(data)
        np.testing.assert_array_equal(answer.get_predictions("ndarray"), [[6.0], [22.0]])
        assert answer.get_predictions("dataframe").shape == (2, 1)


def test_the_client_sends_texts_to_an_encoder(
    api: ScoringServerClient, client: httpx.Client
) -> None:
    texts = ["a b", "c"]
    body = {"model": "mini", "input": texts}
    vectors = [
        item["embedding"] for item in client.post("/v1/embeddings", json=body).json()["data"]
    ]
    for data in (texts, pd.DataFrame({"text": texts}), np.array([["a b"], ["c"]])):
        answer = api.invoke(data, params={"model": "mini"})
        np.testing.assert_array_equal(answer.get_predictions("ndarray"), vectors)


def test_the_client_sends_prompts_and_chats_to_a_language_model(api: ScoringServerClient) -> None:
    params = {"model": "echo", "max_tokens": 2}
    for data in (["one two three", "x"], pd.DataFrame({"prompt": ["one two three", "x"]})):
        assert api.invoke(data, params=params)["predictions"] == ["one two ", "x"]
    chats = pd.DataFrame({"messages": [[{"role": "user", "content": "one two three"}]]})
    assert api.invoke(chats, params={"max_tokens": 1})["predictions"] == ["one "]


def test_the_client_raises_what_is_wrong(api: ScoringServerClient) -> None:
    with pytest.raises(Exception, match=re.escape("shape [2, 3] is not accepted")):
        api.invoke(ROWS[:, :3])


def test_without_a_key_it_is_refused_in_mlflow_s_words(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", "/dev/null")
    url = httpx.URL(live.url)
    api = ScoringServerClient(url.host, url.port)
    api.ping()
    with pytest.raises(Exception, match=r'error code 401.*"error_code":"INVALID_API_KEY"'):
        api.invoke(ROWS)


def test_every_form_of_a_table_means_the_same(client: httpx.Client) -> None:
    rows = ROWS.tolist()
    split = {"columns": list("abcd"), "data": rows}
    records = [dict(zip("abcd", row, strict=True)) for row in rows]
    for body in (
        {"inputs": rows},
        {"instances": rows},
        {"instances": [{"features": row} for row in rows]},
        {"inputs": {"features": rows}},
        {"dataframe_split": {**split, "index": [0, 1]}},
        {"dataframe_records": records},
        {"dataframe_records": records, "params": {"unknown": 1}},
        {"dataframe_split": {"columns": ["features"], "data": [[row] for row in rows]}},
    ):
        assert post(client, body) == {"predictions": [[6.0], [22.0]]}, body


def test_a_frame_s_columns_are_inputs_by_name_where_they_are_called_so(tmp_path: Path) -> None:
    with live_server(tmp_path, two=Two("two", _Options(), 4)) as live, live.client() as client:
        split = {"columns": ["b", "a"], "data": [[2, 1.5], [-2, 2.0]]}
        answer = {"predictions": {"sum": [3.5, 0.0], "positive": [True, False]}}
        assert post(client, {"dataframe_split": split}) == answer
        csv = "b,a\r\n2,1.5\r\n-2,2\r\n"
        headers = {"content-type": "text/csv; charset=utf-8"}
        response = client.post("/invocations", content=csv, headers=headers)
        assert response.json() == answer
        message = post(client, {"dataframe_records": [{"a": 1.0, "c": 2}]}, 400)["message"]
        assert message == "dataframe_records: a, c given; two takes a (float32), b (int64)"


def test_csv_is_numbers_or_texts_as_the_model_reads(tmp_path: Path) -> None:
    headers = {"content-type": "text/csv"}
    with live_server(tmp_path, sum="dummy:tensor") as live, live.client() as client:
        csv = "a,b,c,d\n1,2,3,4\n\n0,0,0,.5\n"
        response = client.post("/invocations", content=csv, headers=headers)
        assert response.json() == {"predictions": [[10.0], [0.5]]}
    with live_server(tmp_path, mini="dummy:embeddings") as live, live.client() as client:
        csv = 'text\n1984\n"a, b\nc"\n'
        target = {"x-amzn-sagemaker-target-model": "mini"}
        response = client.post("/invocations", content=csv, headers={**headers, **target})
        other = client.post("/v1/embeddings", json={"model": "mini", "input": ["1984", "a, b\nc"]})
        vectors = [item["embedding"] for item in other.json()["data"]]
        assert response.json() == {"predictions": vectors}


CSV = [
    (b"", "first line must name the columns"),
    (b"a,b,c,d\n", "first line must name the columns"),
    (b"1,2,3,4\n5,6,7,8\n", "first line must name the columns"),
    (b"a,b,c,d\n1,2,3\n", "csv[0]: 3 values, but there are 4 columns"),
    (b"a,a,c,d\n1,2,3,4\n", "two columns have the same name"),
    (b"a,b,c,d\n1,2,3,\n", "csv[0][3]: '' is not accepted"),
    (b"a,b,c,d\n1,2,3,nan\n", "csv[0][3]: nan is not accepted"),
    (b"a,b,c,d\n1,2,3,1_0\n", "csv[0][3]: '1_0' is not accepted"),
    (b'a,b,c,d\n1,2,3,"4\n', "no CSV in UTF-8"),
    (b"a,b,c,d\n1,2,3,\xff\n", "no CSV in UTF-8"),
    (b"a,b,c,d\n1,2,3," + b"9" * 200_000, "no CSV in UTF-8"),
    (b"a,b,c,d\n1,2,3," + b"9" * 5000, "csv[0][3]"),
]


@pytest.mark.parametrize(("content", "message"), CSV)
def test_csv_that_is_none_is_refused(client: httpx.Client, content: bytes, message: str) -> None:
    headers = {"content-type": "text/csv", "x-amzn-sagemaker-target-model": "sum"}
    response = client.post("/invocations", content=content, headers=headers)
    assert response.status_code == 400, response.text
    assert response.json()["error_code"] == "BAD_REQUEST"
    assert message in response.json()["message"]


WRONG = [
    ({"inputs": [1], "instances": [1]}, "instances and inputs given; accepted: exactly one of"),
    ({"instances": None}, "none given; accepted: exactly one of"),
    ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "2 values, but there are 1"),
    ({"dataframe_split": {"columns": [1, "1"], "data": [[1, 2]]}}, "the same name"),
    ({"dataframe_split": {"columns": ["a"], "data": [1]}}, "dataframe_split.data[0]"),
    ({"dataframe_records": [{"a": 1}, {"b": 1}]}, "instances[1]"),
    ({"dataframe_records": [1]}, "dataframe_records[0]"),
    ({"instances": [{"a": 1}, 2]}, "instances[1]: has other columns than the first"),
    ({"instances": []}, "shape [0] is not accepted"),
    ({"instances": [[1, 2, 3, "x"]], "model": "sum"}, "instances[0][3]: 'x' is not accepted"),
    ({"inputs": [["a", "b"]], "model": "mini"}, "inputs[0]: a list is not accepted"),
    ({"inputs": {"a": ["x"], "b": ["y"]}, "model": "mini"}, "2 columns; this model takes one"),
    ({"inputs": "a"}, "model: is missing; name one of: mini, echo"),
    (
        {"inputs": [{"messages": [{"role": "who", "content": ""}]}]},
        "inputs.messages[0][0].role:",
    ),
    ({"inputs": {"messages": [[]]}}, "messages[0]: holds no message"),
    ({"inputs": {"messages": "hello"}}, "inputs.messages[0]: input should be a valid list"),
    ({"inputs": ["a"], "params": {"temperature": -1}}, "params.temperature"),
    ({"inputs": ["a"], "params": 1}, "params"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_a_wrong_request_says_where(client: httpx.Client, body: Any, message: str) -> None:
    answer = post(client, body, 400)
    assert set(answer) == {"error_code", "message"}
    assert message.replace("instances[1]", "[1]") in answer["message"]
    assert len(answer["message"]) < 500
