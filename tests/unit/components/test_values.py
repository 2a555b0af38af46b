"""Property values in and out of the plugin."""

from __future__ import annotations

from pulumi.provider.experimental.property_value import PropertyValue

from sixways.naming import to_camel, to_snake
from sixways.plugin.values import UNKNOWN, is_unknown, plain, wrap


def test_plain_values_come_back_as_they_went_in() -> None:
    values = {"n": 5000, "x": 0.5, "t": "a", "b": True, "l": [{"k": "v"}, 2], "u": UNKNOWN}
    assert plain(wrap(values)) == values


def test_secrets_are_marked_and_others_are_not() -> None:
    wrapped = wrap({"apiKey": "k", "url": "u"}, {"apiKey"})
    assert wrapped["apiKey"].is_secret
    assert not wrapped["url"].is_secret


def test_nulls_are_left_out() -> None:
    assert plain({"a": PropertyValue.null()}) == {}
    assert wrap({"a": None}) == {}


def test_an_unknown_value_is_found_anywhere() -> None:
    assert is_unknown({"a": [{"b": UNKNOWN}]})
    assert not is_unknown({"a": [{"b": "text"}], "c": 1})


def test_names_translate_both_ways() -> None:
    for name in ("health_url", "url", "reference_size", "source_sha256", "api_key"):
        assert to_snake(to_camel(name)) == name
