"""Binary tensor data of the Open Inference Protocol V2, spoken by Triton's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from sixways_bundle.runtime.base import TensorSpec
from sixways_server.engines.dummy import DummyTensor, _Options
from sixways_server.protocols.v2_tensors import DATATYPES
from tests.unit.server.conftest import Live, live_server


class Same(DummyTensor):
    """Gives what it takes: one tensor of two axes of every type."""

    inputs = tuple(TensorSpec(name, dtype, (-1, -1)) for name, dtype in DATATYPES.items())  # type: ignore[assignment]
    outputs = inputs

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        for array in tensors.values():
            assert array.dtype.isnative
            assert array.flags.writeable
        return tensors


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    engine = Same("same", _Options(), 64)
    with live_server(tmp_path_factory.mktemp("same"), same=engine) as live:
        yield live


@pytest.fixture
def api(live: Live) -> Iterator[triton.InferenceServerClient]:
    """Triton's client with nothing set."""
    with triton.InferenceServerClient(live.url.removeprefix("http://")) as api:
        yield api


def tensor(name: str, array: NDArray[Any]) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def test_triton_s_client_asks_and_reads_with_its_defaults(
    api: triton.InferenceServerClient, live: Live
) -> None:
    headers = live.headers
    assert api.is_server_live()
    assert api.is_server_ready()
    assert api.is_model_ready("sum", headers=headers)
    assert "binary_tensor_data" in api.get_server_metadata(headers=headers)["extensions"]
    assert api.get_model_metadata("sum", "1", headers=headers)["versions"] == ["1"]
    assert len(api.get_model_repository_index(headers=headers)) == 3
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    for outputs in (None, [triton.InferRequestedOutput("prediction")]):
        answer = api.infer(
            "sum", [tensor("features", rows)], outputs=outputs, request_id="7", headers=headers
        )
        np.testing.assert_array_equal(answer.as_numpy("prediction"), [[6.0], [22.0]])
        assert answer.get_response()["id"] == "7"
        assert answer.get_output("prediction")["parameters"] == {"binary_data_size": 8}


def test_triton_s_client_sends_texts_and_token_ids(
    api: triton.InferenceServerClient, live: Live, client: httpx.Client
) -> None:
    texts = np.array(["a", "größer 🌊"], dtype=object)
    answer = api.infer("mini", [tensor("text", texts)], headers=live.headers)
    body = {"model": "mini", "input": texts.tolist()}
    other = [item["embedding"] for item in client.post("/v1/embeddings", json=body).json()["data"]]
    np.testing.assert_array_equal(answer.as_numpy("embedding"), other)
    ids, mask = np.array([[1, 2], [3, 9]]), np.array([[1, 1], [1, 0]])
    inputs = [tensor("input_ids", ids), tensor("attention_mask", mask)]
    answer = api.infer("mini", inputs, headers=live.headers)
    body = {"model": "mini", "input": [[1, 2], [3]]}
    other = [item["embedding"] for item in client.post("/v1/embeddings", json=body).json()["data"]]
    np.testing.assert_array_equal(answer.as_numpy("embedding"), other)


def test_triton_s_client_reads_generated_texts(
    api: triton.InferenceServerClient, live: Live
) -> None:
    prompts = np.array(["größer und höher", "x"], dtype=object)
    answer = api.infer(
        "echo", [tensor("prompt", prompts)], parameters={"max_tokens": 2}, headers=live.headers
    )
    texts = [text.decode() for text in answer.as_numpy("text")]
    assert texts == ["größer und ", "x"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_triton_s_client_may_compress_what_it_sends(
    api: triton.InferenceServerClient, live: Live, algorithm: str
) -> None:
    rows = np.ones((20000, 4), np.float32)
    answer = api.infer(
        "sum",
        [tensor("features", rows)],
        headers=live.headers,
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(answer.as_numpy("prediction"), np.full((20000, 1), 4))


def test_triton_s_client_raises_what_is_wrong(
    api: triton.InferenceServerClient, live: Live
) -> None:
    rows = tensor("features", np.zeros((2, 3), np.float32))
    with pytest.raises(InferenceServerException, match=r"features: float32 of shape \[2, 3\]"):
        api.infer("sum", [rows], headers=live.headers)
    with pytest.raises(InferenceServerException, match=r"401.*no API key"):
        api.infer("sum", [rows])


def of_every_type() -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype in DATATYPES.items():
        if name == "BYTES":
            arrays[name] = np.array([["a", ""], ["ü", "line\nbreak"]], dtype=object)
        elif name == "BOOL":
            arrays[name] = np.array([[True, False], [False, True]])
        else:
            kind = np.dtype(dtype)
            low, high = (
                (np.iinfo(kind).min, np.iinfo(kind).max)
                if kind.kind in "iu"
                else (np.finfo(kind).min, np.finfo(kind).max)
            )
            arrays[name] = np.array([[low, high], [0, 1]], dtype=kind)
    return arrays


@pytest.mark.parametrize("binary", [True, False])
def test_every_type_arrives_and_returns_as_it_was(same: Live, binary: bool) -> None:
    arrays = of_every_type()
    with triton.InferenceServerClient(same.url.removeprefix("http://")) as api:
        inputs = []
        for name, array in arrays.items():
            given = triton.InferInput(name, list(array.shape), name)
            given.set_data_from_numpy(array, binary_data=binary or name == "FP16")
            inputs.append(given)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in arrays]
        answer = api.infer("same", inputs, outputs=outputs, headers=same.headers)
    for name, array in arrays.items():
        found = answer.as_numpy(name)
        if name == "BYTES" and binary:
            found = np.array([text.decode() for text in found.ravel()]).reshape(found.shape)
        np.testing.assert_array_equal(found, array, err_msg=name)


def test_some_outputs_may_be_binary_and_others_json(same: Live) -> None:
    arrays = of_every_type()
    inputs = [tensor(name, array) for name, array in arrays.items()]
    outputs = [
        triton.InferRequestedOutput("INT8", binary_data=True),
        triton.InferRequestedOutput("FP32", binary_data=False),
        triton.InferRequestedOutput("UINT16", binary_data=True),
    ]
    with triton.InferenceServerClient(same.url.removeprefix("http://")) as api:
        answer = api.infer("same", inputs, outputs=outputs, headers=same.headers)
    assert [one["name"] for one in answer.get_response()["outputs"]] == ["INT8", "FP32", "UINT16"]
    for name in ("INT8", "FP32", "UINT16"):
        np.testing.assert_array_equal(answer.as_numpy(name), arrays[name])


def body(
    binary: bytes, size: int | None = None, shape: Any = (1, 4), name: str = "features", **rest: Any
) -> tuple[bytes, bytes]:
    parameters = {"binary_data_size": len(binary) if size is None else size}
    one = {"name": name, "shape": shape, "datatype": "FP32", "parameters": parameters, **rest}
    return json.dumps({"inputs": [one]}).encode(), binary


WRONG = [
    (
        *body(b"\0" * 15),
        "inputs[0].parameters.binary_data_size: 15 bytes, but FP32 of shape [1, 4]",
    ),
    (*body(b"\0" * 16, 17), "17, but 16 bytes are left"),
    (*body(b"\0" * 16, 12), "12 bytes, but FP32 of shape [1, 4] has 16"),
    (*body(b"\0" * 12, 12, (1, 3)), "features: float32 of shape [1, 3]"),
    (body(b"\0" * 16)[0], b"\0" * 20, "4 bytes behind the JSON belong to no input"),
    (body(b"\0" * 16)[0], b"", "16, but 0 bytes are left"),
    (*body(np.array([1, np.nan, 1, 1], "<f4").tobytes()), "not finite"),
    (*body(np.array([1, np.inf, 1, 1], "<f4").tobytes()), "not finite"),
    (*body(b"", -1), "binary_data_size"),
    (*body(b"\0" * 16, data=[0, 0, 0, 0]), "needs either data or"),
]


@pytest.mark.parametrize(("header", "binary", "message"), WRONG)
def test_wrong_binary_data_says_where(
    client: httpx.Client, header: bytes, binary: bytes, message: str
) -> None:
    response = client.post(
        "/v2/models/sum/infer",
        content=header + binary,
        headers={"inference-header-content-length": str(len(header))},
    )
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


@pytest.mark.parametrize("length", ["", "0", "-1", "x", "1.5", "9" * 30, "100000", "²"])
def test_a_wrong_header_length_is_refused(client: httpx.Client, length: str) -> None:
    header, binary = body(b"\0" * 16)
    response = client.post(
        "/v2/models/sum/infer",
        content=header + binary,
        headers={"inference-header-content-length": length.encode()},
    )
    assert response.status_code == 400, response.text
    assert "inference-header-content-length" in response.json()["error"]


BYTES = [
    (b"\x01\0\0\0a", (2,)),
    (b"\x01\0\0\0a\x01\0\0", (2,)),
    (b"\xff\xff\xff\xffa", (1,)),
    (b"\x01\0\0\0a\x01\0\0\0b", (1,)),
    (b"\x01\0\0\0\xff", (1,)),
    (b"", (1,)),
]


@pytest.mark.parametrize(("binary", "shape"), BYTES)
def test_wrong_lengths_of_texts_are_refused(
    client: httpx.Client, binary: bytes, shape: tuple[int, ...]
) -> None:
    header, _ = body(binary, shape=shape, name="text", datatype="BYTES")
    response = client.post(
        "/v2/models/mini/infer",
        content=header + binary,
        headers={"inference-header-content-length": str(len(header))},
    )
    assert response.status_code == 400, response.text
    assert "inputs[0]" in response.json()["error"]


def test_a_bool_is_zero_or_one(same: Live) -> None:
    arrays = of_every_type()
    parts = {name: array.astype(object) for name, array in arrays.items()}
    one = {"name": "BOOL", "shape": [2, 2], "datatype": "BOOL"}
    inputs = [{**one, "parameters": {"binary_data_size": 4}}] + [
        {"name": name, "shape": [2, 2], "datatype": name, "data": part.tolist()}
        for name, part in parts.items()
        if name not in ("BOOL", "FP16")
    ]
    inputs.append(
        {"name": "FP16", "shape": [2, 2], "datatype": "FP16", "data": [1.0, 2.0, 0.5, 0.0]}
    )
    header = json.dumps({"inputs": inputs}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    with same.client() as client:
        right, wrong = (
            client.post("/v2/models/same/infer", content=header + flags, headers=headers)
            for flags in (b"\1\0\0\1", b"\1\0\2\1")
        )
    assert (right.status_code, wrong.status_code) == (200, 400), right.text + wrong.text
    assert "a BOOL is one byte" in wrong.json()["error"]
