"""What the Bundle resource accepts, and what a preview of it does not do."""

from __future__ import annotations

from typing import Any

import pytest

from sixways.plugin import bundle as module
from sixways.plugin.bundle import BundleResource
from sixways.plugin.resource import Call
from sixways_bundle import BundleError

INPUTS = {"name": "mini", "source": "hf:org/name@main", "variants": ["auto"]}


@pytest.fixture
def call() -> Call:
    return Call("urn:pulumi:dev::x::sixways:index:Bundle::mini", lambda *_: None)


@pytest.mark.parametrize(
    ("field", "value"),
    [("variants", 3), ("variants", [3]), ("qualityThreshold", "high"),
     ("qualityThreshold", True), ("name", 3), ("source", 3)],
)  # fmt: skip
def test_an_input_of_another_type_is_named(call: Call, field: str, value: Any) -> None:
    _, problems = BundleResource().check(call, {**INPUTS, field: value})
    assert [problem.field for problem in problems] == [field]


def test_a_preview_downloads_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, "find", asked.append)
    BundleResource().create(call, INPUTS, preview=True)
    assert asked == []


def test_a_whole_threshold_is_the_same_request_as_its_float() -> None:
    one = module._request({**INPUTS, "qualityThreshold": 1})
    assert isinstance(one.quality_threshold, float)


def test_a_bundle_is_not_imported(call: Call) -> None:
    with pytest.raises(BundleError, match="built, not imported"):
        BundleResource().read(call, "sha256:1", {})
