"""`sixways:index:ApiKey` as the engine calls it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from sixways.plugin.api_key import KEY, ApiKeyResource
from sixways.plugin.resource import Call
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError


def call() -> Call:
    return Call("urn:pulumi:dev::p::sixways:index:ApiKey::key", lambda *_: None)


def made(**inputs: Any) -> dict[str, Any]:
    checked, problems = ApiKeyResource().check(call(), inputs)
    assert problems == []
    return ApiKeyResource().create(call(), checked, preview=False)[1]


def test_a_key_is_long_and_known_by_its_hash() -> None:
    one, other = made(), made()
    assert KEY.fullmatch(one["key"])
    assert len(one["key"]) > 40
    assert one["sha256"] == hashlib.sha256(one["key"].encode()).hexdigest()
    assert one["key"] != other["key"]


def test_a_preview_makes_none() -> None:
    made_id, outputs = ApiKeyResource().create(call(), {"generation": 1}, preview=True)
    assert made_id == ""
    assert is_unknown(outputs["key"])


def test_another_generation_is_another_key() -> None:
    resource, state = ApiKeyResource(), made()
    assert not resource.diff(call(), state, {"generation": 1})
    assert resource.diff(call(), state, {"generation": 2}).replace == ["generation"]
    with pytest.raises(BundleError):
        resource.update(call(), state, {"generation": 2}, preview=False)


def test_a_refresh_leaves_it_and_an_import_finds_nothing() -> None:
    state = made()
    assert ApiKeyResource().read(call(), "x", state) == state
    assert ApiKeyResource().read(call(), "x", {}) is None


@pytest.mark.parametrize("given", [True, "2", 1.5])
def test_a_generation_is_a_whole_number(given: object) -> None:
    _, problems = ApiKeyResource().check(call(), {"generation": given})
    assert [problem.field for problem in problems] == ["generation"]
    assert ApiKeyResource().check(call(), {"generation": UNKNOWN})[1] == []
