"""The requests and answers of the Open Inference Protocol V2.

Fields that are not listed are ignored. Fields that would change the meaning of the answer and
that no model here can honour are listed and refused.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from sixways_server.errors import BadRequest
from sixways_server.protocols.generation import Generation, Strict

_COUNT = 2**31 - 1  # of tokens, of rows …
_MOST_TENSORS = 64
_MOST_AXES = 16


class Parameters(Generation):
    """How a language model is to choose tokens; left out: greedy, up to 16 tokens."""

    max_tokens: Annotated[int, Field(ge=1, le=_COUNT)] = 16
    binary_data_output: bool = False
    sequence_id: Any = None


class InputParameters(Strict):
    """Where an input's data is, if not in `data`."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    """Bytes that the input has behind the JSON, in the order of the inputs."""
    shared_memory_region: Any = None


class InputTensor(Strict):
    """One input; `data` is flat or nested, row by row."""

    name: str
    shape: Annotated[
        list[Annotated[int, Field(ge=1, le=_COUNT)]],
        Field(fail_fast=True, min_length=1, max_length=_MOST_AXES),
    ]
    datatype: str
    data: list[Any] | None = None
    parameters: InputParameters | None = None


class OutputParameters(Strict):
    """How an output is to come."""

    binary_data: bool | None = None
    classification: Any = None
    shared_memory_region: Any = None


class RequestedOutput(Strict):
    """One output that is wanted."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(Strict):
    """`POST /v2/models/{model}/infer`"""

    id: str | None = None
    inputs: Annotated[
        list[InputTensor], Field(fail_fast=True, min_length=1, max_length=_MOST_TENSORS)
    ]
    outputs: (
        Annotated[list[RequestedOutput], Field(fail_fast=True, max_length=_MOST_TENSORS)] | None
    ) = None
    parameters: Parameters = Parameters()

    def refuse_unsupported(self) -> None:
        """Raises BadRequest for the first extension that is asked for and not offered."""
        asked = {"parameters.sequence_id": self.parameters.sequence_id}
        for index, tensor in enumerate(self.inputs):
            if tensor.parameters is not None:
                where = f"inputs[{index}].parameters.shared_memory_region"
                asked[where] = tensor.parameters.shared_memory_region
        for index, output in enumerate(self.outputs or ()):
            if output.parameters is not None:
                where = f"outputs[{index}].parameters"
                asked[f"{where}.classification"] = output.parameters.classification
                asked[f"{where}.shared_memory_region"] = output.parameters.shared_memory_region
        for field, value in asked.items():
            if value:
                raise BadRequest(
                    f"{field}: not offered by this server (its extensions: binary_tensor_data); "
                    "leave it out",
                    field=field,
                )

    def wants_binary(self, output: RequestedOutput | None) -> bool:
        """Whether this output is to come behind the JSON."""
        own = output.parameters.binary_data if output and output.parameters else None
        return self.parameters.binary_data_output if own is None else own


class TensorParameters(TypedDict):
    """Bytes that an output has behind the JSON, in the order of the outputs."""

    binary_data_size: int


class OutputTensor(TypedDict):
    """One output; `data` is flat, row by row; with `parameters`, it stands behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: NotRequired[list[Any]]
    parameters: NotRequired[TensorParameters]


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


class ServerLive(TypedDict):
    """Whether the process answers."""

    live: bool


class ServerReady(TypedDict):
    """Whether every model is ready."""

    ready: bool


class IndexedModel(TypedDict):
    """One model of the index."""

    name: str
    version: str
    state: str
    reason: str


class V2Error(TypedDict):
    """The answer to a request that failed."""

    error: str
