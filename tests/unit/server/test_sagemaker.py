"""The container as SageMaker starts it, called with SageMaker's own client."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from botocore.exceptions import ClientError

from sixways_bundle import BundleError
from sixways_bundle.build import Result
from sixways_server import sagemaker
from sixways_server.auth import add_key
from tests.unit.bundle.conftest import Builder, builder, family, source
from tests.unit.server.sagemaker_front import Container, client, front

__all__ = ["builder", "family", "source"]
CHAT = {"messages": [{"role": "user", "content": "one two three"}]}
MODELS = [
    {"name": "mini", "path": "dummy:embeddings"},
    {"name": "echo", "path": "dummy:chat?delay=0.02"},
    {"name": "sum", "path": "dummy:tensor"},
]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    log = tmp_path_factory.mktemp("container") / "log"
    container = Container(log, SIXWAYS_MODELS=json.dumps(MODELS), SIXWAYS_LINGER_SECONDS="0")
    try:
        container.wait()
        yield container
        assert container.stop() == 0
    finally:
        container.child.kill()
        container.child.wait()


@pytest.fixture(scope="module")
def api(container: Container) -> Iterator[Any]:
    """boto3's `sagemaker-runtime`."""
    with front(container.url) as url, contextlib.closing(client(url)) as api:
        yield api


def invoke(api: Any, body: Any, **options: str) -> Any:
    given = {"ContentType": "application/json", **options}
    answer = api.invoke_endpoint(EndpointName="e", Body=json.dumps(body), **given)
    return json.loads(answer["Body"].read())


def test_boto3_gets_every_kind_of_answer(api: Any) -> None:
    chat = invoke(api, CHAT)
    assert chat["choices"][0]["message"]["content"] == "one two three"
    assert len(invoke(api, {"input": ["a", "b"]})["data"]) == 2
    answer = invoke(api, {"instances": [[1, 2, 3, 4]]})
    assert answer == {"predictions": [[10.0]]}
    answer = invoke(api, {"inputs": "a"}, TargetModel="mini.tar.gz")
    assert len(answer["predictions"][0]) == 8
    csv = api.invoke_endpoint(
        EndpointName="e", Body="a,b,c,d\n1,2,3,4\n", ContentType="text/csv", TargetModel="sum"
    )
    assert json.loads(csv["Body"].read()) == {"predictions": [[10.0]]}
    unnamed = api.invoke_endpoint(EndpointName="e", Body=b'{"input": "a"}')
    assert json.loads(unnamed["Body"].read())["model"] == "mini"


def test_boto3_reads_a_stream_as_it_is_made(api: Any) -> None:
    answer = api.invoke_endpoint_with_response_stream(
        EndpointName="e",
        Body=json.dumps({**CHAT, "stream": True}),
        ContentType="application/json",
        CustomAttributes="trace=1",
    )
    assert answer["ContentType"].startswith("text/event-stream")
    parts = [(event["PayloadPart"]["Bytes"], time.monotonic()) for event in answer["Body"]]
    lines = b"".join(part for part, _ in parts).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == "one two three"
    # Three words of 20 ms each: they did not come at once.
    assert parts[-1][1] - parts[0][1] > 0.03


def test_boto3_sends_tensors_as_triton_s_client_writes_them(api: Any) -> None:
    given = triton.InferInput("features", [2, 4], "FP32")
    given.set_data_from_numpy(np.arange(8, dtype=np.float32).reshape(2, 4))
    body, length = triton.InferenceServerClient.generate_request_body([given])
    prefix = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    answer = api.invoke_endpoint(EndpointName="e", ContentType=f"{prefix}{length}", Body=body)
    assert answer["ContentType"].startswith(prefix)
    result = triton.InferenceServerClient.parse_response_body(
        answer["Body"].read(), header_length=int(answer["ContentType"].removeprefix(prefix))
    )
    np.testing.assert_array_equal(result.as_numpy("prediction"), [[6.0], [22.0]])


def test_boto3_raises_the_container_s_own_error(api: Any) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(api, {**CHAT, "model": "other"})
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 404
    original = json.loads(caught.value.response["OriginalMessage"])
    assert original["error"]["code"] == "model_not_found"
    with pytest.raises(ClientError) as caught:
        api.invoke_endpoint(EndpointName="e", Body=b"x", ContentType="image/png")
    assert caught.value.response["OriginalStatusCode"] == 415


def test_nothing_but_ping_and_invocations_is_open(container: Container) -> None:
    assert "no SIXWAYS_KEYS_FILE" in container.log.read_text()
    with httpx.Client(base_url=container.url) as http:
        assert http.post("/invocations", json={"input": "a"}).status_code == 200
        for path in ("/v1/embeddings", "/predict", "/v2/models/mini/infer", "/invocations/"):
            assert http.post(path, json={"input": "a"}).status_code == 401, path
        for path in ("/v1/models", "/version", "/openapi.json", "/v2"):
            assert http.get(path).status_code == 401, path
            headers = {"x-api-key": "guess"}
            assert http.get(path, headers=headers).status_code == 401, path


def test_ping_answers_at_once_while_the_model_loads(tmp_path: Path) -> None:
    models = [{"name": "slow", "path": "dummy:embeddings?load=1.5"}]
    container = Container(tmp_path / "log", SIXWAYS_MODELS=json.dumps(models))
    try:
        began = time.monotonic()
        container.wait(503, seconds=10)
        first = time.monotonic() - began
        response = httpx.post(f"{container.url}/invocations", json={"input": "a"}, timeout=5)
        assert response.status_code == 503
        container.wait(200)
        assert first < time.monotonic() - began
    finally:
        assert container.stop() == 0


def test_with_a_keys_file_invocations_want_a_key_as_everywhere(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys)
    environment = {"SIXWAYS_KEYS_FILE": str(keys), "SIXWAYS_LINGER_SECONDS": "0"}
    container = Container(tmp_path / "log", SIXWAYS_MODELS=json.dumps(MODELS), **environment)
    try:
        container.wait()
        with httpx.Client(base_url=container.url) as http:
            assert http.post("/invocations", json={"input": "a"}).status_code == 401
            http.headers["x-api-key"] = key
            assert http.post("/invocations", json={"input": "a"}).status_code == 200
    finally:
        assert container.stop() == 0


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=("openvino-int8", "onnx-int8"))


def test_one_bundle_in_the_folder_has_its_own_name_or_a_given_one(bundle: Result) -> None:
    environment = {"SM_MODEL_DIR": str(bundle.path), "SIXWAYS_VARIANT": "onnx-int8"}
    raw = sagemaker.configuration(environment)
    model = {"name": "mini", "path": str(bundle.path), "variant": "onnx-int8"}
    assert (raw["models"], raw["host"], raw["port"]) == ([model], "0.0.0.0", 8080)  # noqa: S104
    raw = sagemaker.configuration({**environment, "SIXWAYS_NAME": "other"})
    assert raw["models"] == [{**model, "name": "other"}]


def test_several_bundles_have_the_names_of_their_folders(bundle: Result, tmp_path: Path) -> None:
    for name in ("b", "a"):
        shutil.copytree(bundle.path, tmp_path / "models" / name)
    (tmp_path / "models" / "code").mkdir()
    environment = {"SM_MODEL_DIR": str(tmp_path / "models"), "SIXWAYS_VARIANT": "torch-int8"}
    models = sagemaker.configuration(environment)["models"]
    assert [(model["name"], model["variant"]) for model in models] == [("a", None), ("b", None)]
    environment["SIXWAYS_VARIANT"] = "onnx-int8"
    models = sagemaker.configuration(environment)["models"]
    assert [model["variant"] for model in models] == ["onnx-int8"] * 2


def test_settings_come_from_the_environment() -> None:
    raw = sagemaker.configuration(
        {
            "SIXWAYS_MODELS": json.dumps(MODELS),
            "SIXWAYS_THREADS": "2",
            "SIXWAYS_LINGER_SECONDS": "1.5",
            "SIXWAYS_CONSOLE": "true",
            "SIXWAYS_PUBLIC_KEY": "/keys/public.pem",
            "SIXWAYS_HOST": "127.0.0.1",
            "SAGEMAKER_BIND_TO_PORT": "8081",
            "SAGEMAKER_SAFE_PORT_RANGE": "21000-21099",
        }
    )
    assert raw == {
        "models": MODELS,
        "threads": 2,
        "linger_seconds": 1.5,
        "drain_seconds": 25.0,
        "console": True,
        "public_key": "/keys/public.pem",
        "host": "0.0.0.0",  # noqa: S104
        "port": 8081,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIXWAYS_THREADS", "many"),
        ("SIXWAYS_CONSOLE", "perhaps"),
        ("SIXWAYS_MODELS", "[{"),
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SM_MODEL_DIR", "/nothing/here"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(BundleError, match=name) as caught:
        sagemaker.configuration(
            {"SIXWAYS_MODELS": "[]", name: value} if name[:2] != "SM" else {name: value}
        )
    assert value in str(caught.value)


def test_a_wrong_environment_ends_with_a_message(tmp_path: Path) -> None:
    container = Container(tmp_path / "log", SM_MODEL_DIR=str(tmp_path))
    assert container.child.wait(20) == 1
    text = container.log.read_text()
    assert "there is no model" in text
    assert "Traceback" not in text
