"""JSON values as arrays, for every protocol whose tensors come as lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from sixways_server.errors import BadRequest
from sixways_server.routing import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_AXES = 16
_KINDS: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
_WORDS = {
    "b": "true or false",
    "i": "a whole number",
    "u": "a whole number from 0",
    "f": "a number",
}


def from_lists(value: object, dtype: str, field: str) -> NDArray[Any]:
    """A number, a text, or lists in lists, as an array of the shape that they have.

    Args:
        value: decoded JSON.
        dtype: numpy's name of the type; `str` gives an array of `str` objects.
        field: where it stands in the request, for messages.

    Raises:
        BadRequest: rows of different lengths, a value of another kind or out of range.
    """
    flat: list[Any] = [value]
    shape: list[int] = []
    while flat and type(flat[0]) is list:
        if len(shape) == MOST_AXES:
            raise BadRequest(f"{field}: more than {MOST_AXES} lists in lists", field=field)
        width = len(flat[0])
        if not all(type(row) is list and len(row) == width for row in flat):
            raise BadRequest(
                f"{field}: its rows differ in length, or single values stand beside rows",
                field=field,
            )
        shape.append(width)
        flat = list(chain.from_iterable(flat))
    return from_flat(flat, dtype, shape, field)


def from_flat(values: Sequence[Any], dtype: str, shape: Sequence[int], field: str) -> NDArray[Any]:
    """Single values, row by row, as an array; their number must be that of the shape.

    Raises:
        BadRequest: a value of another kind, out of range, or not finite.
    """
    kind, numpy_type = _numpy_type(dtype, field)
    accepted = _KINDS.get(kind, (str,))
    if not {*map(type, values)} <= {*accepted}:
        index = next(i for i, value in enumerate(values) if type(value) not in accepted)
        raise _wrong(values[index], index, kind, dtype, shape, field)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=numpy_type)
    except OverflowError:
        index = next(i for i, value in enumerate(values) if not _fits(value, numpy_type))
        raise _wrong(values[index], index, kind, dtype, shape, field) from None
    if kind == "f" and not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise _wrong(values[index], index, kind, dtype, shape, field)
    return array.reshape(shape)


def _numpy_type(dtype: str, field: str) -> tuple[str, np.dtype[Any]]:
    if dtype == "str":
        return "O", np.dtype(object)
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(complex)
    if found.kind not in _KINDS:  # bfloat16 …: numpy itself cannot hold them
        raise BadRequest(f"{field}: {dtype} values cannot be sent as JSON", field=field)
    return found.kind, found


def _fits(value: int | float, numpy_type: np.dtype[Any]) -> bool:
    try:
        np.array(value, dtype=numpy_type)
    except OverflowError:
        return False
    return True


def _wrong(
    value: object, index: int, kind: str, dtype: str, shape: Sequence[int], field: str
) -> BadRequest:
    place = "".join(f"[{int(axis)}]" for axis in np.unravel_index(index, shape)) if shape else ""
    accepted = "a text" if kind == "O" else f"{_WORDS[kind]} that fits {dtype}"
    return BadRequest(
        f"{field}{place}: {shown(value)} is not accepted; accepted: {accepted}", field=field
    )
