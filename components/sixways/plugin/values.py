"""Property values as plain Python: unknowns as `UNKNOWN`, secrets unwrapped on the way in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from pulumi.provider.experimental.property_value import PropertyValue, PropertyValueType
from pulumi.runtime import rpc


class _Unknown:
    def __repr__(self) -> str:
        return "(known after the update)"


UNKNOWN: Final = _Unknown()
"""Stands for a value that a preview cannot know yet."""


def is_unknown(value: object) -> bool:
    """Whether the value, or anything in it, is not known yet."""
    if isinstance(value, Mapping):
        return any(is_unknown(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(is_unknown(item) for item in value)
    return value is UNKNOWN


def plain(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    """Plain values of a property map; nulls are left out."""
    converted = {name: _plain(value) for name, value in values.items()}
    return {name: value for name, value in converted.items() if value is not None}


def wrap(values: Mapping[str, Any], secrets: Collection[str] = ()) -> dict[str, PropertyValue]:
    """A property map of plain values; those named in `secrets` are marked as secrets."""
    return {
        name: _wrap(value).with_secret(name in secrets)
        for name, value in values.items()
        if value is not None
    }


def _plain(value: PropertyValue) -> Any:
    kind, inner = value.type, value.value
    # On the wire an unknown value is a text that nothing else is.
    if kind is PropertyValueType.COMPUTED or inner == rpc.UNKNOWN:
        return UNKNOWN
    if kind is PropertyValueType.MAP and isinstance(inner, Mapping):
        return plain(inner)
    if kind is PropertyValueType.ARRAY and isinstance(inner, Sequence):
        return [_plain(item) for item in inner if isinstance(item, PropertyValue)]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)  # the wire has only doubles
    return inner


def _wrap(value: Any) -> PropertyValue:
    if value is UNKNOWN:
        return PropertyValue(rpc.UNKNOWN)  # the SDK reads computed values and cannot write them
    if value is None:
        return PropertyValue.null()
    if isinstance(value, Mapping):
        return PropertyValue(wrap(value))
    if isinstance(value, list | tuple):
        return PropertyValue([_wrap(item) for item in value])
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value))
    return PropertyValue(value)
