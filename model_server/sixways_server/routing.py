"""Routes that read and write JSON in the fewest steps and still have a full OpenAPI document.

An endpoint is written as FastAPI wants it, and FastAPI makes the document from its signature
when somebody asks for it (see `document`). The request itself takes a short way over Starlette:
pydantic parses and checks the body's bytes in one pass (and can say at which line and column
they end to be JSON), and msgspec writes the answer. So a server that starts need not wait for
FastAPI's import, which takes longer than all the rest of the web framework.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sixways_server.body import off_loop, read_body
from sixways_server.errors import BadRequest

_SHOWN_ERRORS = 3
_SHOWN_CHARACTERS = 60
Endpoint = Callable[..., Awaitable[Any]]
Answer = Callable[[Request, bytes, Mapping[str, str]], Awaitable[Response]]
"""A response from a request, its body and the path's parameters."""
E = typing.TypeVar("E", bound=Endpoint)


@dataclass(frozen=True)
class Described:
    """A route and what the document says of it (arguments of `FastAPI.add_api_route`)."""

    method: str
    path: str
    endpoint: Endpoint
    options: dict[str, Any]


@dataclass
class Routes:
    """Collects the routes of a server.

    An endpoint takes `request`, the path's parameters and at most one of: `body`, a pydantic
    model that the JSON body must fit; `data`, the body as it came (`bodies` in the route's
    options describes it: a model for each content type; `headers` there describes headers that are
    read, by name). It returns a `Response`, or anything
    msgspec can write.

    Attributes:
        max_body_bytes: bytes that a body may have once it is unpacked.
    """

    max_body_bytes: int
    described: list[Described] = field(default_factory=list)
    _answers: dict[str, Answer] = field(default_factory=dict)

    def get(self, path: str, **options: Any) -> Callable[[E], E]:
        """Adds a route for GET; `options` describe it."""
        return self._add("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[E], E]:
        """Adds a route for POST; `options` describe it."""
        return self._add("POST", path, options)

    def _add(self, method: str, path: str, options: dict[str, Any]) -> Callable[[E], E]:
        def add(endpoint: E) -> E:
            self.described.append(Described(method, path, endpoint, options))
            if method == "POST":
                self._answers[path] = _answer(path, endpoint)
            return endpoint

        return add

    async def answer(self, path: str, request: Request, data: bytes, **parameters: str) -> Response:
        """What POST `path` answers to this body, for a route that only chooses another one."""
        return await self._answers[path](request, data, parameters)

    def served(self) -> list[Route]:
        """The routes as Starlette serves them."""
        return [Route(one.path, self._handler(one), methods=[one.method]) for one in self.described]

    def _handler(self, route: Described) -> Callable[[Request], Awaitable[Response]]:
        reads = route.method == "POST"
        answer = self._answers[route.path] if reads else _answer(route.path, route.endpoint)

        async def handle(request: Request) -> Response:
            data = await read_body(request, self.max_body_bytes) if reads else b""
            return await answer(request, data, request.path_params)

        return handle


def _answer(path: str, endpoint: Endpoint) -> Answer:
    model: type[BaseModel] | None = typing.get_type_hints(endpoint).get("body")
    names = set(inspect.signature(endpoint).parameters)
    for name in names - {"request", "body", "data"}:
        if f"{{{name}}}" not in path:
            raise TypeError(f"{path}: {name} is no parameter of the path")
    raw = "data" in names

    async def answer(request: Request, data: bytes, parameters: Mapping[str, str]) -> Response:
        arguments: dict[str, Any] = dict(parameters)
        if model is not None:
            arguments["body"] = await off_loop(len(data), parse, model, data)
        elif raw:
            arguments["data"] = data
        result = await endpoint(request=request, **arguments)
        if isinstance(result, Response):
            return result
        return Response(msgspec.json.encode(result), media_type="application/json")

    return answer


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
        given = f", given {shown(one['input'])}" if one["type"] != "missing" else ""
        parts.append(f"{field}: {_lower(one['msg'])}{given}")
    if len(found) > _SHOWN_ERRORS:
        parts.append(f"and {len(found) - _SHOWN_ERRORS} more")
    return BadRequest("; ".join(parts), field=_path(found[0]["loc"]))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"


def shown(value: object) -> str:
    """A value of a request as a message may name it, whatever its size."""
    if isinstance(value, int) and value.bit_length() > 64:  # thousands of digits, or too many
        return "a whole number of more than 64 bits"
    if isinstance(value, str):
        value = value[:_SHOWN_CHARACTERS]
    if isinstance(value, bool | int | float | str) or value is None:
        text = repr(value)
        cut = _SHOWN_CHARACTERS - 3
        return text if len(text) <= _SHOWN_CHARACTERS else text[:cut] + "..."
    return f"a {type(value).__name__}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
