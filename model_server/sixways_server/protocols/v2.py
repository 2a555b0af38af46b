"""Open Inference Protocol V2 (REST, JSON tensors): health, metadata, infer.

An encoder takes BYTES `text` [n], or INT64 `input_ids` and `attention_mask` [n, length], and
gives FP32 `embedding` [n, dimensions]. A language model takes BYTES `prompt` [n] and gives BYTES
`text` [n]; the request's `parameters` may hold max_tokens, temperature, top_p, top_k, seed, stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from sixways_server import operations, sixways_version
from sixways_server.engines.base import EmbeddingEngine, Engine, Sampling, TextEngine
from sixways_server.errors import BadRequest, UnknownModel
from sixways_server.record import Record, record_of
from sixways_server.routing import Routes, shown
from sixways_server.stream import until_gone

if TYPE_CHECKING:
    from sixways_server.registry import Registry

VERSION = "1"
"""A bundle is named by its digest, so a served model has one version."""
_LARGEST = 2**63 - 1
_COUNT = 2**31 - 1  # of tokens, of rows …
_MOST_TENSORS = 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Parameters(_Strict):
    """How a language model is to choose tokens; left out: greedy, up to 16 tokens."""

    max_tokens: Annotated[int, Field(ge=1, le=_COUNT)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    seed: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True, max_length=16)] = []
    binary_data_output: bool = False


class InputTensor(_Strict):
    """One input; `data` is flat or nested, row by row."""

    name: str
    shape: Annotated[
        list[Annotated[int, Field(ge=0, le=_COUNT)]],
        Field(fail_fast=True, min_length=1, max_length=2),
    ]
    datatype: str
    data: list[Any]


class RequestedOutput(_Strict):
    """One output that is wanted."""

    name: str


class InferRequest(_Strict):
    """`POST /v2/models/{model}/infer`"""

    id: str | None = None
    inputs: Annotated[
        list[InputTensor], Field(fail_fast=True, min_length=1, max_length=_MOST_TENSORS)
    ]
    outputs: (
        Annotated[list[RequestedOutput], Field(fail_fast=True, max_length=_MOST_TENSORS)] | None
    ) = None
    parameters: Parameters = Parameters()


class OutputTensor(TypedDict):
    """One output; `data` is flat, row by row."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferResponse(TypedDict):
    """Answer of infer."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[OutputTensor]


class TensorMetadata(TypedDict):
    """A tensor of a model; -1: any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """Answer of `GET /v2/models/{model}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


class ServerMetadata(TypedDict):
    """Answer of `GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class Ready(TypedDict):
    """Whether a model is ready."""

    name: str
    ready: bool


class V2Error(TypedDict):
    """The answer to a request that failed."""

    error: str


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": V2Error} for status in (400, 401, 404, 413, 429, 503)
}


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the routes of this protocol."""
    shared: dict[str, Any] = {"tags": ["Open Inference V2"], "responses": _ERRORS}

    @routes.get("/v2", response_model=ServerMetadata, **shared)
    async def server(request: Request) -> ServerMetadata:
        """Name and version of this server."""
        return {"name": "sixways", "version": sixways_version(), "extensions": []}

    @routes.get("/v2/health/live", **shared)
    async def live(request: Request) -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @routes.get("/v2/health/ready", **shared)
    async def ready(request: Request) -> Response:
        """Whether every model is ready; 503 if not."""
        return _readiness({"ready": registry.ready}, registry.ready)

    async def metadata(request: Request, model: str) -> ModelMetadata:
        """Inputs and outputs of a model."""
        return _metadata(registry.get(model))

    async def model_ready(request: Request, model: str) -> Response:
        """Whether a model is ready; 503 if not."""
        engine = registry.get(model)
        return _readiness({"name": model}, engine.ready and not registry.draining)

    async def infer(request: Request, model: str, body: InferRequest) -> InferResponse:
        """Runs a model over tensors."""
        record = record_of(request)
        engine = registry.get(model)
        if body.parameters.binary_data_output:
            raise BadRequest(
                "parameters.binary_data_output: the binary tensor extension is not offered; "
                "ask for JSON",
                field="parameters.binary_data_output",
            )
        for wanted in body.outputs or ():
            name = _metadata(engine)["outputs"][0]["name"]
            if wanted.name != name:
                raise BadRequest(
                    f"outputs: {wanted.name[:80]!r} is not an output of {model!r}; it has {name!r}",
                    field="outputs",
                )
        if isinstance(engine, EmbeddingEngine):
            work = _embed(record, engine, body, max_inputs)
        elif isinstance(engine, TextEngine):
            work = _generate(record, engine, body, max_inputs)
        else:
            raise BadRequest(f"model: {model!r} cannot be called with tensors", field="model")
        output = await until_gone(request.receive, work)
        answer: InferResponse = {
            "model_name": model, "model_version": VERSION, "outputs": [output]
        }  # fmt: skip
        if body.id is not None:
            answer["id"] = body.id
        return answer

    @routes.get("/v2/models/{model}/versions/{version}", response_model=ModelMetadata, **shared)
    async def metadata_of_version(request: Request, model: str, version: str) -> ModelMetadata:
        """Inputs and outputs of a model."""
        _check_version(version)
        return await metadata(request, model)

    @routes.get("/v2/models/{model}/versions/{version}/ready", response_model=Ready, **shared)
    async def ready_of_version(request: Request, model: str, version: str) -> Response:
        """Whether a model is ready; 503 if not."""
        _check_version(version)
        return await model_ready(request, model)

    @routes.post(
        "/v2/models/{model}/versions/{version}/infer", response_model=InferResponse, **shared
    )
    async def infer_version(
        request: Request, model: str, version: str, body: InferRequest
    ) -> InferResponse:
        """Runs a model over tensors."""
        _check_version(version)
        return await infer(request, model, body)

    routes.get("/v2/models/{model}", response_model=ModelMetadata, **shared)(metadata)
    routes.get("/v2/models/{model}/ready", response_model=Ready, **shared)(model_ready)
    routes.post("/v2/models/{model}/infer", response_model=InferResponse, **shared)(infer)


def _check_version(version: str) -> None:
    if version != VERSION:
        raise UnknownModel(
            f"version: {version[:40]!r} of this model is not served; served is {VERSION!r}",
            field="version",
        )


def _readiness(body: dict[str, object], ready: bool) -> Response:
    return Response(
        msgspec.json.encode({**body, "ready": ready}),
        status_code=200 if ready else 503,
        media_type="application/json",
    )


def _metadata(engine: Engine) -> ModelMetadata:
    info = engine.info
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    if isinstance(engine, EmbeddingEngine):
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        outputs = [{"name": "embedding", "datatype": "FP32", "shape": [-1, info.dimensions]}]
    else:
        inputs = [{"name": "prompt", "datatype": "BYTES", "shape": [-1]}]
        outputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    return {
        "name": info.name,
        "versions": [VERSION],
        "platform": info.engine,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"digest": info.digest, "variant": info.variant, "task": info.task},
    }


async def _embed(
    record: Record, engine: EmbeddingEngine, body: InferRequest, max_inputs: int
) -> OutputTensor:
    record.operation = "embeddings"
    tensors = _by_name(body)
    inputs: Sequence[str | Sequence[int]]
    if set(tensors) == {"text"}:
        inputs = _texts(*tensors["text"])
    elif set(tensors) == {"input_ids", "attention_mask"}:
        ids, length = _integers(*tensors["input_ids"])
        mask, mask_length = _integers(*tensors["attention_mask"])
        if (len(ids), length) != (len(mask), mask_length):
            raise BadRequest("attention_mask: its shape must be that of input_ids", field="inputs")
        inputs = [
            [token for token, keep in zip(row, keeps, strict=True) if keep]
            for row, keeps in zip(_rows(ids, length), _rows(mask, length), strict=True)
        ]
        for index, row in enumerate(inputs):
            if not row:
                raise BadRequest(f"attention_mask: row {index} keeps no token", field="inputs")
    else:
        raise _wrong_names(tensors, "text (BYTES), or input_ids and attention_mask (INT64)")
    result = await operations.embed(record, engine, inputs, max_inputs)
    return {
        "name": "embedding",
        "shape": list(result.vectors.shape),
        "datatype": "FP32",
        "data": result.vectors.ravel().tolist(),
    }


async def _generate(
    record: Record, engine: TextEngine, body: InferRequest, max_inputs: int
) -> OutputTensor:
    record.operation = "text_completion"
    record.begin(engine.info.name)
    tensors = _by_name(body)
    if set(tensors) != {"prompt"}:
        raise _wrong_names(tensors, "prompt (BYTES)")
    texts = _texts(*tensors["prompt"])
    wanted = body.parameters
    sampling = Sampling(
        max_tokens=wanted.max_tokens,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        seed=wanted.seed,
        stop=(wanted.stop,) if isinstance(wanted.stop, str) else tuple(wanted.stop),
    )
    prompts = await operations.text_prompts(engine, texts, sampling, max_inputs)
    done = await operations.complete_all(record, engine, prompts, sampling)
    return {
        "name": "text",
        "shape": [len(done)],
        "datatype": "BYTES",
        "data": [one.text for one in done],
    }


def _by_name(body: InferRequest) -> dict[str, tuple[str, InputTensor]]:
    tensors: dict[str, tuple[str, InputTensor]] = {}
    for index, tensor in enumerate(body.inputs):
        if tensor.name in tensors:
            raise BadRequest(f"inputs[{index}].name: {tensor.name[:80]!r} is given twice")
        tensors[tensor.name] = (f"inputs[{index}]", tensor)
    return tensors


def _wrong_names(tensors: dict[str, Any], accepted: str) -> BadRequest:
    given = ", ".join(name[:80] for name in tensors)
    return BadRequest(f"inputs: {given} given; this model takes {accepted}", field="inputs")


def _flat(where: str, tensor: InputTensor, datatype: str, kind: type) -> list[Any]:
    if tensor.datatype != datatype:
        raise BadRequest(
            f"{where}.datatype: {tensor.datatype[:40]!r} is not accepted; "
            f"{tensor.name} is {datatype}",
            field=f"{where}.datatype",
        )
    data: list[Any] = tensor.data
    if data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise BadRequest(f"{where}.data: rows and single values are mixed", field=where)
        lengths = [len(row) for row in data]
        if [len(data), *sorted(set(lengths))] != tensor.shape:
            raise BadRequest(
                f"{where}.data: {len(data)} rows of {min(lengths)} to {max(lengths)} values, but "
                f"shape is {tensor.shape}",
                field=f"{where}.data",
            )
        data = [value for row in data for value in row]
    if len(data) != math.prod(tensor.shape):
        raise BadRequest(
            f"{where}.data: {len(data)} values, but shape {tensor.shape} holds "
            f"{math.prod(tensor.shape)}",
            field=f"{where}.data",
        )
    for index, value in enumerate(data):
        if type(value) is not kind:
            raise BadRequest(
                f"{where}.data[{index}]: a {type(value).__name__} is not accepted; "
                f"{datatype} is a {kind.__name__}",
                field=f"{where}.data",
            )
    return data


def _texts(where: str, tensor: InputTensor) -> list[str]:
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise BadRequest(
            f"{where}.shape: {tensor.shape} is not accepted; {tensor.name} is [n] or [n, 1]",
            field=f"{where}.shape",
        )
    return _flat(where, tensor, "BYTES", str)


def _integers(where: str, tensor: InputTensor) -> tuple[list[int], int]:
    if len(tensor.shape) != 2:
        raise BadRequest(
            f"{where}.shape: {tensor.shape} is not accepted; {tensor.name} is [n, length]",
            field=f"{where}.shape",
        )
    data = _flat(where, tensor, "INT64", int)
    for index, value in enumerate(data):
        if not 0 <= value < 2**31:
            raise BadRequest(f"{where}.data[{index}]: {shown(value)} is no token id", field=where)
    return data, tensor.shape[1]


def _rows(flat: list[int], length: int) -> list[list[int]]:
    return [flat[start : start + length] for start in range(0, len(flat), length)] if length else []
