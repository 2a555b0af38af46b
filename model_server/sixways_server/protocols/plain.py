"""Plain values to a model and back: rows of texts or numbers, without types of a protocol's own.

What `/predict`, MLflow's scoring protocol and GraphQL have in common. A value is a list of rows,
or a mapping of columns (equally long lists) by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from sixways_server import operations
from sixways_server.body import off_loop
from sixways_server.engines.base import (
    EmbeddingEngine,
    Engine,
    Prompt,
    Sampling,
    TensorEngine,
    TextEngine,
)
from sixways_server.errors import BadRequest
from sixways_server.protocols.openai_types import Message
from sixways_server.routing import bad_request, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sixways_bundle.runtime.base import TensorSpec
    from sixways_server.protocols.generation import Generation
    from sixways_server.record import Record

Rows = list[Any] | Mapping[str, list[Any]]
_CHAT = TypeAdapter(list[Message])


def able_to_read(value: Any) -> tuple[Callable[[Engine], bool], str]:
    """Which engines could take such a value, and what that is in words (see `Registry.choose`)."""
    leaf = value
    names: set[str] = set()
    while leaf and isinstance(leaf, list | Mapping):
        if isinstance(leaf, Mapping):
            names |= {*leaf}
        leaf = next(iter(leaf.values() if isinstance(leaf, Mapping) else leaf))
    if "messages" in names or "prompt" in names:
        return (lambda engine: isinstance(engine, TextEngine)), "write text"
    if isinstance(leaf, str):
        return _reads_text, "read text"
    return (lambda engine: isinstance(engine, TensorEngine)), "compute on numbers"


def _reads_text(engine: Engine) -> bool:
    return not isinstance(engine, TensorEngine) or any(one.dtype == "str" for one in engine.inputs)


def _rows(value: Any) -> Rows:
    """A single value is a list of one, in a column too."""
    if isinstance(value, Mapping):
        return {name: one if isinstance(one, list) else [one] for name, one in value.items()}
    return value if isinstance(value, list) else [value]


async def compute(
    record: Record,
    engine: Engine,
    value: Any,
    generation: Generation,
    *,
    field: str,
    chat: bool,
    max_inputs: int,
) -> Any:
    """What the model makes of the value, as JSON has it: see `embed`, `write` and `infer`."""
    value = _rows(value)
    if isinstance(engine, EmbeddingEngine):
        return await embed(record, engine, value, max_inputs, field)
    if isinstance(engine, TensorEngine):
        return await infer(record, engine, value, field)
    text = cast("TextEngine", engine)
    sampling = generation.sampling(engine.info)
    return await write(record, text, value, sampling, max_inputs, field, chat=chat)


async def embed(
    record: Record, engine: EmbeddingEngine, value: Rows, max_inputs: int, field: str
) -> list[list[float]]:
    """A vector for each row, which is a text.

    Raises:
        BadRequest, PromptTooLong, TooBusy: as `operations.embed`.
    """
    record.operation = "embeddings"
    result = await operations.embed(record, engine, texts(value, field), max_inputs)
    vectors: list[list[float]] = await off_loop(result.vectors.nbytes, result.vectors.tolist)
    return vectors


async def write(
    record: Record,
    engine: TextEngine,
    value: Rows,
    sampling: Sampling,
    max_inputs: int,
    field: str,
    *,
    chat: bool,
) -> list[str]:
    """A text for each row.

    Args:
        record: the request's record.
        engine: the language model.
        value: texts, or a column `messages` of chats.
        sampling: how to choose tokens.
        max_inputs: rows one request may hold.
        field: where `value` stands in the request, for messages.
        chat: a text is what a user says, and is answered; else it is gone on from.

    Raises:
        BadRequest, PromptTooLong, TooBusy: as `operations.text_prompts` and `generate`.
    """
    record.operation = "text_completion"
    record.begin(engine.info.name)
    prompts: list[Prompt]
    if isinstance(value, Mapping) and "messages" in value:
        chat = True
        chats = [messages(one, f"{field}.messages[{i}]") for i, one in enumerate(value["messages"])]
    else:
        given = texts(value, field)
        chats = [[{"role": "user", "content": one}] for one in given]
    if chat:
        record.operation = "chat"
        prompts = await operations.chat_prompts(engine, chats, sampling, max_inputs)
    else:
        prompts = await operations.text_prompts(engine, given, sampling, max_inputs)
    done = await operations.complete_all(record, engine, prompts, sampling)
    return [one.text for one in done]


async def infer(record: Record, engine: TensorEngine, value: Rows, field: str) -> Any:
    """The model's only output as lists in lists, or all its outputs by name; see `outputs`."""
    lists = await outputs(record, engine, value, field)
    return next(iter(lists.values())) if len(lists) == 1 else lists


async def outputs(record: Record, engine: TensorEngine, value: Any, field: str) -> dict[str, Any]:
    """The model's outputs by name as lists in lists.

    Args:
        record: the request's record.
        engine: the model.
        value: rows of its only input, or its inputs by name; columns of other names are the
            columns of its only input, in their order.
        field: where it stands in the request, for messages.

    Raises:
        BadRequest, TooBusy: as `operations.infer`.
    """
    value = _rows(value)
    tensors = await off_loop(_bytes(value), _tensors, engine, value, field)
    arrays = await operations.infer(record, engine, tensors)
    return {name: await off_loop(array.nbytes, array.tolist) for name, array in arrays.items()}


def texts(value: Rows, field: str) -> list[str]:
    """The texts of rows or of the only column; a row may be a list of one text.

    Raises:
        BadRequest: there are several columns, or other values than texts.
    """
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise BadRequest(
                f"{field}: {len(value)} columns; this model takes one column of texts", field=field
            )
        value = next(iter(value.values()))
    rows = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in value]
    for index, row in enumerate(rows):
        if not isinstance(row, str):
            raise BadRequest(
                f"{field}[{index}]: {shown(row)} is not accepted; accepted: a text", field=field
            )
    return rows


def messages(value: object, field: str) -> list[dict[str, str]]:
    """The messages of a chat, as chat templates know them.

    Raises:
        BadRequest: it is no list of messages with role and text.
    """
    try:
        found = _CHAT.validate_python(value, strict=True)
    except ValidationError as error:
        wrong = bad_request(error).message
        where = "" if wrong.startswith("[") else ": "
        raise BadRequest(f"{field}{where}{wrong.removeprefix('body: ')}", field=field) from None
    if not found:
        raise BadRequest(f"{field}: holds no message", field=field)
    return [message.as_text(index) for index, message in enumerate(found)]


def _tensors(engine: TensorEngine, value: Rows, field: str) -> dict[str, NDArray[Any]]:
    specs = list(engine.inputs)
    if isinstance(value, Mapping):
        if value.keys() == {spec.name for spec in specs}:
            return {
                spec.name: _array(value[spec.name], spec, f"{field}.{spec.name}") for spec in specs
            }
        if len(specs) == 1 and len(specs[0].shape) == 2:
            columns = list(value.values())
            if len({*map(len, columns)}) > 1:
                raise BadRequest(f"{field}: its columns differ in length", field=field)
            return {
                specs[0].name: _array([*map(list, zip(*columns, strict=True))], specs[0], field)
            }
    elif len(specs) == 1:
        return {specs[0].name: _array(value, specs[0], field)}
    given = ", ".join(name[:80] for name in value) if isinstance(value, Mapping) else "one list"
    raise BadRequest(
        f"{field}: {given} given; {engine.info.name} takes "
        + ", ".join(f"{spec.name} ({spec.dtype})" for spec in specs),
        field=field,
    )


def _bytes(value: Any) -> int:
    """About the memory of its numbers; exact for rows of equal lengths, which alone are read."""
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    count = 8
    while isinstance(value, list):
        count *= len(value)
        value = value[0] if value else None
    return count


def _array(value: object, spec: TensorSpec, field: str) -> NDArray[Any]:
    from sixways_server.protocols.arrays import from_lists

    array = from_lists(value, spec.dtype, field)
    # A column of single values is what data frames have; models often want it as (n, 1).
    if array.ndim == 1 and len(spec.shape) == 2 and spec.shape[1] == 1:
        return array[:, None]
    return array
