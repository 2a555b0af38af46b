"""`POST /predict`: one URL and no schema to learn.

`{"features": …}` is answered with `{"prediction": …}`, `{"input": …}` with `{"result": …}`. What
comes back follows the model: an encoder's vector, a language model's answer, the output of a model
over tensors; for a list of texts or rows, a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired

from starlette.requests import Request
from typing_extensions import TypedDict

from sixways_server.engines.base import Engine, TensorEngine
from sixways_server.errors import BadRequest
from sixways_server.protocols import failures, plain
from sixways_server.protocols.generation import Generation
from sixways_server.record import record_of
from sixways_server.routing import Routes
from sixways_server.stream import until_gone

if TYPE_CHECKING:
    from sixways_server.registry import Registry

_ANSWERED_AS = {"features": "prediction", "input": "result"}


class PredictRequest(Generation):
    """Either `features` or `input`: a text, a row of numbers, a list of either, or a model's
    inputs by name. `model` may be left out where only one model reads such a thing."""

    features: Any = None
    input: Any = None
    model: str | None = None


class PredictResponse(TypedDict):
    """`prediction` for `features`, `result` for `input`."""

    prediction: NotRequired[Any]
    result: NotRequired[Any]


class PredictErrorDetail(TypedDict):
    """What went wrong, where, and a stable word for it."""

    message: str
    field: str | None
    code: str


class PredictError(TypedDict):
    """The answer to a request that failed."""

    error: PredictErrorDetail


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the route of this protocol."""

    @routes.post(
        "/predict",
        response_model=PredictResponse,
        tags=["Plain"],
        responses=failures(PredictError),
    )
    async def predict(request: Request, body: PredictRequest) -> dict[str, Any]:
        """What a model makes of a text or of numbers."""
        given = [name for name in _ANSWERED_AS if getattr(body, name) is not None]
        if len(given) != 1:
            raise BadRequest(
                f'{" and ".join(given) or "none"} given; accepted: either {{"features": …}} or '
                '{"input": …}',
                field=(given or ["input"])[0],
            )
        field = given[0]
        value = getattr(body, field)
        engine = registry.choose(body.model, *plain.able_to_read(value))
        one = _is_one(engine, value)
        work = plain.compute(
            record_of(request),
            engine,
            [value] if one else value,
            body,
            field=field,
            chat=True,
            max_inputs=max_inputs,
        )
        result = await until_gone(request.receive, work)
        return {_ANSWERED_AS[field]: _first(result) if one else result}


def _is_one(engine: Engine, value: Any) -> bool:
    """Whether it is a single row or text, not a list of them."""
    if isinstance(value, dict):
        return False
    if not isinstance(engine, TensorEngine):
        return not isinstance(value, list)
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return len(engine.inputs) == 1 and depth == len(engine.inputs[0].shape) - 1


def _first(result: Any) -> Any:
    """The answer for the only row; an output that has no rows stays as it is."""
    if isinstance(result, dict):
        return {name: _first(rows) for name, rows in result.items()}
    return result[0] if isinstance(result, list) and len(result) == 1 else result
