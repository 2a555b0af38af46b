"""Routes that read and write JSON fast, and still describe themselves in the OpenAPI document.

FastAPI builds the document from an endpoint's signature as always. The request itself takes a
short way: pydantic parses and checks the body's bytes in one pass (and can say at which line and
column JSON ends to be JSON), and msgspec writes the answer.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from sixways_server.errors import BadRequest

_SHOWN_ERRORS = 3


class JSONRoute(APIRoute):
    """A route whose endpoint takes `request`, path parameters and at most one model, `body`.

    The endpoint returns a `Response`, or anything msgspec can write.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook for a route's handler."""
        endpoint = self.endpoint
        hints = typing.get_type_hints(endpoint)
        model: type[BaseModel] | None = hints.get("body")
        extra = set(inspect.signature(endpoint).parameters) - {"request", "body"}
        if extra != set(self.param_convertors):
            raise TypeError(f"{self.path}: parameters {extra} are not those of the path")

        async def handle(request: Request) -> Response:
            arguments = dict(request.path_params)
            if model is not None:
                arguments["body"] = parse(model, await request.body())
            result = await endpoint(request=request, **arguments)
            if isinstance(result, Response):
                return result
            return Response(msgspec.json.encode(result), media_type="application/json")

        return handle


M = typing.TypeVar("M", bound=BaseModel)


def parse(model: type[M], data: bytes) -> M:
    """The body as `model`.

    Raises:
        BadRequest: it is not JSON (with line and column), or not such a model (with the field).
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise bad_request(error) from None


def bad_request(error: ValidationError) -> BadRequest:
    """pydantic's findings in one sentence; the first names the field."""
    found = error.errors(include_url=False, include_context=False)
    parts = []
    for one in found[:_SHOWN_ERRORS]:
        if one["type"] == "json_invalid":
            return BadRequest(
                f"the body is not JSON: {one['msg'].removeprefix('Invalid JSON: ')}",
                code="invalid_json",
            )
        field = _path(one["loc"])
        given = _shown(one["input"]) if one["type"] != "missing" else ""
        parts.append(f"{field}: {_lower(one['msg'])}{given}")
    if len(found) > _SHOWN_ERRORS:
        parts.append(f"and {len(found) - _SHOWN_ERRORS} more")
    return BadRequest("; ".join(parts), field=_path(found[0]["loc"]))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float | str) or value is None:
        text = repr(value)
        return f", given {text if len(text) <= 60 else text[:57] + '...'}"
    return f", given a {type(value).__name__}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
