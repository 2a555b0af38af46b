"""Open Inference Protocol V2 (REST): health, metadata, infer, and binary tensor data.

A model over tensors takes and gives its own. An encoder takes BYTES `text` [n], or INT64
`input_ids` and `attention_mask` [n, length], and gives FP32 `embedding` [n, dimensions]. A
language model takes BYTES `prompt` [n] and gives BYTES `text` [n]; the request's `parameters` may
hold max_tokens, temperature, top_p, top_k, seed, stop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sixways_server import operations, sixways_version
from sixways_server.body import off_loop
from sixways_server.engines.base import EmbeddingEngine, Engine, TensorEngine, TextEngine
from sixways_server.errors import BadRequest, UnknownModel
from sixways_server.protocols import failures
from sixways_server.protocols.v2_types import (
    IndexedModel,
    InferRequest,
    InferResponse,
    ModelMetadata,
    Ready,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
    V2Error,
)
from sixways_server.record import Record, record_of
from sixways_server.routing import Routes, parse
from sixways_server.stream import until_gone

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sixways_bundle.runtime.base import TensorSpec
    from sixways_server.registry import Registry

VERSION = "1"
"""A bundle is named by its digest, so a served model has one version."""
INFER = "/v2/models/{model}/infer"
HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are its JSON; binary data stands behind them."""
SAGEMAKER_BINARY = "application/vnd.sagemaker-triton.binary+json"
"""The content type of the same where headers do not pass (SageMaker); its parameter
`json-header-size` says how many bytes are JSON."""
_HEADER_SIZE = f"{SAGEMAKER_BINARY};json-header-size="
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the routes of this protocol."""
    shared: dict[str, Any] = {"tags": ["Open Inference V2"]}
    read = {**shared, "responses": failures(V2Error, computes=False)}
    not_ready: dict[int | str, Any] = {503: {"model": Ready | V2Error}}
    state = {**shared, "responses": {**failures(V2Error, computes=False), **not_ready}}
    computed = {
        **shared,
        "response_model": InferResponse,
        "responses": failures(V2Error, content={"application/octet-stream": _BINARY}),
        "bodies": {"application/json": InferRequest, "application/octet-stream": None},
        "headers": {
            HEADER_LENGTH: "How many bytes at the beginning of the body are JSON; left out: all."
        },
    }

    @routes.get("/v2", response_model=ServerMetadata, **read)
    async def server(request: Request) -> ServerMetadata:
        """Name and version of this server."""
        extensions = ["binary_tensor_data"]
        return {"name": "sixways", "version": sixways_version(), "extensions": extensions}

    @routes.get("/v2/health/live", response_model=ServerLive, **shared)
    async def live(request: Request) -> ServerLive:
        """Whether the process answers."""
        return {"live": True}

    @routes.get(
        "/v2/health/ready",
        response_model=ServerReady,
        **shared,
        responses={503: {"model": ServerReady}},
    )
    async def ready(request: Request) -> Response:
        """Whether every model is ready; 503 if not."""
        return _readiness({"ready": registry.ready}, registry.ready)

    @routes.post("/v2/repository/index", response_model=list[IndexedModel], **read)
    async def index(request: Request) -> list[IndexedModel]:
        """Every model and its state."""
        reasons = dict.fromkeys(registry.names, "")
        reasons.update(dict.fromkeys(registry.loading, "loading"))
        reasons.update(dict.fromkeys(registry.broken, "broken"))
        return [
            {
                "name": name,
                "version": VERSION,
                "state": "UNAVAILABLE" if reason else "READY",
                "reason": reason,
            }
            for name, reason in reasons.items()
        ]

    async def metadata(request: Request, model: str) -> ModelMetadata:
        """Inputs and outputs of a model."""
        return _metadata(registry.get(model))

    async def model_ready(request: Request, model: str) -> Response:
        """Whether a model is ready; 503 if not."""
        engine = registry.get(model)
        return _readiness({"name": model}, engine.ready and not registry.draining)

    async def infer(request: Request, model: str, data: bytes) -> Response:
        """Runs a model over tensors, in JSON or as binary data behind the JSON."""
        engine = registry.get(model)
        return await _infer(request, engine, data, max_inputs)

    @routes.get("/v2/models/{model}/versions/{version}", response_model=ModelMetadata, **read)
    async def metadata_of_version(request: Request, model: str, version: str) -> ModelMetadata:
        """Inputs and outputs of a model."""
        _check_version(version)
        return await metadata(request, model)

    @routes.get("/v2/models/{model}/versions/{version}/ready", response_model=Ready, **state)
    async def ready_of_version(request: Request, model: str, version: str) -> Response:
        """Whether a model is ready; 503 if not."""
        _check_version(version)
        return await model_ready(request, model)

    @routes.post("/v2/models/{model}/versions/{version}/infer", **computed)
    async def infer_version(request: Request, model: str, version: str, data: bytes) -> Response:
        """Runs a model over tensors, in JSON or as binary data behind the JSON."""
        _check_version(version)
        return await infer(request, model, data)

    routes.get("/v2/models/{model}", response_model=ModelMetadata, **read)(metadata)
    routes.get("/v2/models/{model}/ready", response_model=Ready, **state)(model_ready)
    routes.post(INFER, **computed)(infer)


def takes(engine: Engine, names: Collection[str]) -> bool:
    """Whether a model can be called with inputs of these names."""
    return any({one["name"] for one in way} == {*names} for way in _ways(engine))


def header_length(request: Request) -> str | None:
    """What the request says of how many bytes of its body are JSON; None: all."""
    kind = request.headers.get("content-type", "")
    if kind.startswith(SAGEMAKER_BINARY):
        return kind.replace(" ", "").removeprefix(_HEADER_SIZE)
    return request.headers.get(HEADER_LENGTH)


def split(request: Request, data: bytes) -> tuple[bytes, memoryview]:
    """The body's JSON and the binary data behind it.

    Raises:
        BadRequest: the request does not say right where the JSON ends.
    """
    given = header_length(request)
    if given is None:
        return data, memoryview(b"")
    # isdecimal alone takes digits of every script.
    length = int(given) if given.isascii() and given.isdecimal() and len(given) < 16 else -1
    if not 0 < length <= len(data):
        raise BadRequest(
            f"{HEADER_LENGTH}: {given[:40]!r} is not accepted; accepted: the bytes of the JSON at "
            f"the beginning of the body, 1 to {len(data)}",
            field=HEADER_LENGTH,
        )
    return data[:length], memoryview(data)[length:]


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
    return {
        "name": info.name,
        "versions": [VERSION],
        "platform": info.engine,
        "inputs": _ways(engine)[0],
        "outputs": _outputs(engine),
        "parameters": {"digest": info.digest, "variant": info.variant, "task": info.task},
    }


def _ways(engine: Engine) -> list[list[TensorMetadata]]:
    """The sets of inputs that a model can be called with; the first is the usual one."""
    if isinstance(engine, EmbeddingEngine):
        tokens: list[TensorMetadata] = [
            {"name": name, "datatype": "INT64", "shape": [-1, -1]}
            for name in ("input_ids", "attention_mask")
        ]
        return [[{"name": "text", "datatype": "BYTES", "shape": [-1]}], tokens]
    if isinstance(engine, TensorEngine):
        return [_described(engine.inputs)]
    return [[{"name": "prompt", "datatype": "BYTES", "shape": [-1]}]]


def _outputs(engine: Engine) -> list[TensorMetadata]:
    if isinstance(engine, EmbeddingEngine):
        shape = [-1, engine.info.dimensions]
        return [{"name": "embedding", "datatype": "FP32", "shape": shape}]
    if isinstance(engine, TensorEngine):
        return _described(engine.outputs)
    return [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


def _described(specs: Sequence[TensorSpec]) -> list[TensorMetadata]:
    from sixways_server.protocols.v2_tensors import datatype

    return [
        {"name": one.name, "datatype": datatype(one.dtype), "shape": list(one.shape)}
        for one in specs
    ]


async def _infer(request: Request, engine: Engine, data: bytes, max_inputs: int) -> Response:
    from sixways_server.protocols import v2_tensors  # brings numpy, which takes its time

    content, binary = split(request, data)
    body = await off_loop(len(content), parse, InferRequest, content)
    body.refuse_unsupported()
    wanted = _wanted(engine, body)
    _check_inputs(engine, body)
    tensors = await off_loop(len(data), v2_tensors.read, body, binary)
    record = record_of(request)
    work = _compute(record, engine, body, tensors, max_inputs)
    arrays = await until_gone(request.receive, work)
    head = {"model_name": engine.info.name, "model_version": VERSION}
    if body.id is not None:
        head["id"] = body.id
    outputs = [(name, arrays[name], as_binary) for name, as_binary in wanted]
    size = sum(array.nbytes for _, array, _ in outputs)
    answer, length = await off_loop(size, v2_tensors.write, head, outputs)
    if length is None:
        return Response(answer, media_type="application/json")
    kind = "application/octet-stream"
    if request.headers.get("content-type", "").startswith(SAGEMAKER_BINARY):
        kind = f"{_HEADER_SIZE}{length}"
    return Response(answer, headers={HEADER_LENGTH: str(length)}, media_type=kind)


def _wanted(engine: Engine, body: InferRequest) -> list[tuple[str, bool]]:
    """The outputs to send, and whether as binary data."""
    known = [output["name"] for output in _outputs(engine)]
    for index, output in enumerate(body.outputs or ()):
        if output.name not in known:
            raise BadRequest(
                f"outputs[{index}].name: {output.name[:80]!r} is not an output of "
                f"{engine.info.name!r}; it has {', '.join(map(repr, known))}",
                field=f"outputs[{index}].name",
            )
    if not body.outputs:
        return [(name, body.wants_binary(None)) for name in known]
    # A name that is asked for twice is sent once, as it was asked for last.
    return [*{output.name: body.wants_binary(output) for output in body.outputs}.items()]


def _check_inputs(engine: Engine, body: InferRequest) -> None:
    """Names and datatypes; shapes are looked at with the data."""
    names = {tensor.name for tensor in body.inputs}
    ways = _ways(engine)
    way = next((way for way in ways if {one["name"] for one in way} == names), None)
    if way is None:
        given = ", ".join(tensor.name[:80] for tensor in body.inputs)
        accepted = ", or ".join(
            " and ".join(f"{one['name']} ({one['datatype']})" for one in way) for way in ways
        )
        raise BadRequest(f"inputs: {given} given; this model takes {accepted}", field="inputs")
    datatypes = {one["name"]: one["datatype"] for one in way}
    for index, tensor in enumerate(body.inputs):
        if tensor.datatype != datatypes[tensor.name]:
            raise BadRequest(
                f"inputs[{index}].datatype: {tensor.datatype[:40]!r} is not accepted; "
                f"{tensor.name} is {datatypes[tensor.name]}",
                field=f"inputs[{index}].datatype",
            )


async def _compute(
    record: Record,
    engine: Engine,
    body: InferRequest,
    tensors: Mapping[str, NDArray[Any]],
    max_inputs: int,
) -> Mapping[str, NDArray[Any]]:
    if isinstance(engine, TensorEngine):
        return await operations.infer(record, engine, tensors)
    import numpy as np

    places = {tensor.name: f"inputs[{index}]" for index, tensor in enumerate(body.inputs)}
    if isinstance(engine, EmbeddingEngine):
        inputs: Sequence[str | Sequence[int]]
        if "text" in tensors:
            inputs = _texts(tensors["text"], places["text"])
        else:
            inputs = _token_ids(tensors["input_ids"], tensors["attention_mask"], places)
        record.operation = "embeddings"
        result = await operations.embed(record, engine, inputs, max_inputs)
        return {"embedding": result.vectors}
    language_model = cast("TextEngine", engine)
    record.operation = "text_completion"
    record.begin(engine.info.name)
    texts = _texts(tensors["prompt"], places["prompt"])
    sampling = body.parameters.sampling(engine.info)
    prompts = await operations.text_prompts(language_model, texts, sampling, max_inputs)
    done = await operations.complete_all(record, language_model, prompts, sampling)
    return {"text": np.array([one.text for one in done], dtype=object)}


def _texts(array: NDArray[Any], where: str) -> list[str]:
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise BadRequest(
            f"{where}.shape: {list(array.shape)} is not accepted; accepted: [n] or [n, 1]",
            field=f"{where}.shape",
        )
    texts: list[str] = array.ravel().tolist()
    return texts


def _token_ids(ids: NDArray[Any], mask: NDArray[Any], places: Mapping[str, str]) -> list[list[int]]:
    where, mask_where = places["input_ids"], places["attention_mask"]
    if ids.ndim != 2 or ids.shape != mask.shape:
        raise BadRequest(
            f"{where}.shape: {list(ids.shape)}, and {list(mask.shape)} of attention_mask, are not "
            "accepted; accepted: [n, length], the same of both",
            field=f"{where}.shape",
        )
    for name, array, most in ((where, ids, 2**31 - 1), (mask_where, mask, 1)):
        if ids.size and (array.min() < 0 or array.max() > most):
            raise BadRequest(f"{name}.data: accepted are 0 to {most}", field=f"{name}.data")
    rows = [row[keep != 0].tolist() for row, keep in zip(ids, mask, strict=True)]
    for index, row in enumerate(rows):
        if not row:
            raise BadRequest(
                f"{mask_where}.data: row {index} keeps no token", field=f"{mask_where}.data"
            )
    return rows
