"""MLflow's scoring protocol: `POST /invocations`, JSON or CSV in, `{"predictions": …}` out.

An encoder predicts a vector for each text, a language model a text for each prompt or chat, a
model over tensors its output for each row (its outputs by name where there are several). A data
frame's columns are a model's inputs by name, or the columns of its only input in their order.
"""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.requests import Request
from typing_extensions import TypedDict

from sixways_server.engines.base import TensorEngine
from sixways_server.errors import BadRequest
from sixways_server.protocols import plain
from sixways_server.protocols.generation import Generation, Strict
from sixways_server.record import record_of
from sixways_server.stream import until_gone

if TYPE_CHECKING:
    from sixways_server.registry import Registry

KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Split(Strict):
    """A data frame: its columns' names and its rows."""

    columns: Annotated[list[str | int], Field(fail_fast=True)]
    data: Annotated[list[list[Any]], Field(fail_fast=True)]


class Params(Generation):
    """How a language model is to choose tokens; `model` names the model, if there are several."""

    model: str | None = None


class MLflowRequest(Strict):
    """Exactly one of `inputs`, `instances`, `dataframe_split` and `dataframe_records`."""

    inputs: Any = None
    instances: list[Any] | None = None
    dataframe_split: Split | None = None
    dataframe_records: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    params: Params | None = None
    model: str | None = None


class MLflowResponse(TypedDict):
    """The answer: one prediction for each row."""

    predictions: Any


class MLflowError(TypedDict):
    """The answer to a request that failed."""

    error_code: str
    message: str


@dataclass(frozen=True)
class Given:
    """What a model is asked about.

    Attributes:
        value: the rows or columns.
        field: where they stand in the request, for messages.
        params: what else was said.
        texts: the same as texts, where it came as text (CSV): "1984" may be a number or a title.
    """

    value: Any
    field: str
    params: Params
    texts: plain.Rows | None = None


async def answer(
    request: Request,
    registry: Registry,
    given: Given,
    *,
    model: str | None,
    max_inputs: int,
) -> MLflowResponse:
    """The predictions.

    Args:
        request: the request.
        registry: the models.
        given: what was sent.
        model: the model that the request names, or None.
        max_inputs: rows one request may hold for an encoder or a language model.

    Raises:
        BadRequest, PromptTooLong, TooBusy: as the engine.
    """
    engine = registry.choose(model, *plain.able_to_read(given.value))
    as_sent = given.texts is None or isinstance(engine, TensorEngine)
    work = plain.compute(
        record_of(request),
        engine,
        given.value if as_sent else given.texts,
        given.params,
        field=given.field,
        chat=False,
        max_inputs=max_inputs,
    )
    return {"predictions": await until_gone(request.receive, work)}


def from_json(body: MLflowRequest) -> Given:
    """What a JSON body asks.

    Raises:
        BadRequest: it holds none or several of the four forms, or a form that is no table.
    """
    forms = [key for key in KEYS if getattr(body, key) is not None]
    if len(forms) != 1:
        raise BadRequest(
            f"{' and '.join(forms) or 'none'} given; accepted: exactly one of {', '.join(KEYS)}",
            field=(forms or KEYS)[0],
        )
    field, params = forms[0], body.params or Params()
    if body.dataframe_split is not None:
        split = body.dataframe_split
        columns = _columns([str(name) for name in split.columns], split.data, f"{field}.data")
        return Given(columns, field, params)
    value: Any = getattr(body, field)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = _from_records(value, field)
    return Given(value, field, params)


def from_csv(data: bytes) -> Given:
    """What a CSV body asks; its first line names the columns.

    Raises:
        BadRequest: it is no such CSV.
    """
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
        names, *rows = [line for line in lines if line] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"the body is no CSV in UTF-8: {error}", code="invalid_csv") from None
    if not names or not rows or all(_number(name) is not None for name in names):
        raise BadRequest(
            "the body's first line must name the columns, and rows must follow", code="invalid_csv"
        )
    texts = _columns(names, rows, "csv")
    numbers = {name: _numbers(column) for name, column in texts.items()}
    return Given(numbers, "csv", Params(), texts)


def _columns(names: list[str], rows: list[list[Any]], field: str) -> dict[str, list[Any]]:
    if len({*names}) != len(names):
        raise BadRequest(f"{field}: two columns have the same name", field=field)
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise BadRequest(
                f"{field}[{index}]: {len(row)} values, but there are {len(names)} columns",
                field=field,
            )
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _from_records(records: list[Any], field: str) -> dict[str, list[Any]]:
    names = [*records[0]]
    for index, record in enumerate(records):
        if not isinstance(record, dict) or record.keys() != records[0].keys():
            raise BadRequest(
                f"{field}[{index}]: has other columns than the first; accepted: "
                + ", ".join(map(str, names))[:200],
                field=field,
            )
    return {name: [record[name] for record in records] for name in names}


def _numbers(column: list[str]) -> list[Any]:
    """The column as numbers, if every one is a number."""
    numbers = [_number(cell) for cell in column]
    return column if None in numbers else numbers


def _number(cell: str) -> int | float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return None if "_" in cell else kind(cell)
    return None
