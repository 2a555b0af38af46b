"""Types of plain inputs, as the TypedDicts name them."""

from __future__ import annotations

import asyncio
from typing import Any, NotRequired, TypedDict

import pulumi
import pytest

from sixways.shapes import misfits


class Inner(TypedDict):
    """Inside another."""

    text: pulumi.Input[str]
    flag: NotRequired[pulumi.Input[bool]]


class Outer(TypedDict):
    """All forms that inputs have."""

    inner: NotRequired[pulumi.Input[Inner]]
    inners: NotRequired[pulumi.Input[list[pulumi.Input[Inner]]]]
    named: NotRequired[dict[str, Inner]]
    numbers: NotRequired[list[float]]
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]


def told(value: Any) -> dict[str, str]:
    return {problem.field: problem.accepted for problem in misfits(value, Outer)}


@pytest.mark.parametrize(
    ("value", "field", "accepted"),
    [
        ({"inner": "x"}, "inner", "a mapping of flag, text"),
        ({"inner": {"text": 1}}, "inner.text", "a text"),
        ({"inner": {"flag": 1}}, "inner.flag", "true or false"),
        ({"inners": {"text": "x"}}, "inners", "a list"),
        ({"inners": [{}, None]}, "inners[1]", "a mapping of flag, text"),
        ({"named": ["x"]}, "named", "a mapping"),
        ({"named": {"a": {"text": []}}}, "named.a.text", "a text"),
        ({"numbers": "1"}, "numbers", "a list"),
        ({"numbers": [None]}, "numbers[0]", "a number"),
        ({"tags": {"a": 1}}, "tags.a", "a text"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_place(
    value: Any, field: str, accepted: str
) -> None:
    assert told(value) == {field: accepted}


def test_what_fits_is_not_known_yet_or_left_out_is_nothing_to_tell() -> None:
    with asyncio.Runner() as runner:  # outputs need a loop
        runner.get_loop()
        later: pulumi.Output[Any] = pulumi.Output.from_input("x")
        assert told({"inner": {"text": later, "flag": True}, "inners": [later, {"text": ""}]}) == {}
        assert told({"inner": None, "tags": later, "numbers": [1, 2.5], "unknown": object}) == {}
