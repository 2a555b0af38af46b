"""Whether plain inputs have the types that a component's TypedDicts name, at every depth.

A type checker tells a Python program; settings from YAML, and programs without one, are told here.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union

import pulumi

from sixways_bundle import Problem

_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def fields(hint: object) -> Mapping[str, Any] | None:
    """The fields of a TypedDict and their types; None where the type is no TypedDict.

    A dict of types stands for a TypedDict of those fields.
    """
    if typing.is_typeddict(hint):
        return _fields(hint)
    return hint if isinstance(hint, Mapping) else None


@cache
def _fields(args: Any) -> Mapping[str, Any]:
    # pulumi.Input names `Output[T]` by a string, which is looked up here.
    hints = typing.get_type_hints(args, localns={"Output": pulumi.Output, "T": Any})
    return {name: plain(hint) for name, hint in hints.items()}


def plain(hint: Any) -> Any:
    """The type of the value itself: `int` for `pulumi.Input[int]`."""
    if typing.get_origin(hint) in (Union, UnionType):
        for option in typing.get_args(hint):
            if typing.get_origin(option) not in (pulumi.Output, Awaitable):
                return plain(option)
    return hint


def items(hint: Any) -> Any:
    """The type of a list's items or a dict's values."""
    return plain(typing.get_args(hint)[-1])


def misfits(value: object, hint: Any, where: str = "") -> Iterator[Problem]:
    """Every value of another type than its field's. Outputs, and None in a field, are passed over.

    Names that are no fields are told by `Checks.known`, and numbers by `Checks.number`, which knows
    their limits.

    Args:
        value: an input, or all of a component's.
        hint: its type.
        where: its name in messages; empty for all inputs of a component.
    """
    kind = typing.get_origin(hint) or hint
    known = fields(hint)
    if isinstance(value, pulumi.Output | Awaitable) or kind is Any:
        return
    if known is not None or kind is dict:
        if not isinstance(value, dict):
            words = "a mapping" if known is None else f"a mapping of {', '.join(sorted(known))}"
            yield Problem(where, _text(value), words, "give it as NAME: VALUE")
            return
        for name, item in value.items():
            if known is None:
                yield from misfits(item, items(hint), f"{where}.{name}")
            elif name in known and item is not None:
                yield from misfits(item, known[name], f"{where}.{name}" if where else name)
    elif kind is list:
        if not isinstance(value, list):
            yield Problem(where, _text(value), "a list", "give it as a list, also of one")
            return
        for index, item in enumerate(value):
            yield from misfits(item, items(hint), f"{where}[{index}]")
    elif kind in _WORDS and not _is(value, kind):
        fix = "put it in quotes" if kind is str and isinstance(value, int | float) else ""
        yield Problem(where, _text(value), _WORDS[kind], fix)


def _is(value: object, kind: type) -> bool:
    return value is not None if kind in (int, float) else isinstance(value, kind)


def _text(value: object) -> str:
    return "null" if value is None else str(value) or "''"
