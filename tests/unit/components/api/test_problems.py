"""What every gateway refuses, all of it at once."""

from __future__ import annotations

import copy
import re
from typing import Any

import pulumi
import pytest

from sixways.api.args import GatewayArgs
from sixways.api.defaults import ROUTES, burst, methods
from sixways.api.problems import check_gateway
from sixways.checks import Checks

KEY = "sk-0123456789abcdefghij"


def _args(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "upstream": {
            "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://10.0.0.2:5000"}],
            "health_path": "/readyz",
        },
        "plans": [{"name": "free", "requests_per_second": 5, "burst": 10}],
        "keys": [{"name": "ann", "plan": "free", "key": KEY}],
    }
    return {**copy.deepcopy(given), **changes}


def _found(args: dict[str, Any], **options: Any) -> dict[str, str]:
    checks = Checks()
    check_gateway(checks, args, GatewayArgs, **{"log_kinds": ("file", "http"), **options})
    return {problem.field: str(problem) for problem in checks.problems}


def test_good_inputs_have_no_problem() -> None:
    assert _found(_args()) == {}
    assert (
        _found(_args(routes=list(ROUTES), log={"kind": "file", "target": "/var/log/a.json"})) == {}
    )


def test_every_problem_is_told_at_once() -> None:
    args = _args(
        upstream={"instances": [{"url": "http://10.0.0.1:5000/v1"}], "api_key": "short"},
        plans=[
            {"name": "free", "requests_per_second": 5, "burst": 2},
            {"name": "free", "quota_period": "year"},
        ],
        keys=[
            {"name": "ann", "plan": "gold", "key": "hunter2"},
            {"name": "ann", "plan": "free", "key": KEY, "previous_key": KEY},
        ],
        routes=[{"path": "v1", "plans": ["silver"], "open": True}, {"path": "/a/../b"}],
        log={"kind": "cloudwatch"},
        max_body_bytes=0,
        colour="blue",
    )
    found = _found(args)
    assert sorted(found) == [
        "colour",
        "keys[0].key",
        "keys[0].plan",
        "keys[1].name",
        "keys[1].previous_key",
        "log.kind",
        "max_body_bytes",
        "plans[0].burst",
        "plans[1].name",
        "plans[1].quota_period",
        "plans[1].requests_per_second",
        "routes[0].path",
        "routes[0].plans",
        "routes[0].plans[0]",
        "routes[1].path",
        "upstream.api_key",
        "upstream.health_path",
        "upstream.instances",
        "upstream.instances[0].url",
    ]
    assert "at least requests_per_second, 5" in found["plans[0].burst"]
    assert "hunter2" not in "".join(found.values())


def test_what_is_missing_is_named() -> None:
    found = _found({"upstream": {}, "plans": [], "keys": [{}]})
    assert sorted(found) == ["keys[0].name", "keys[0].plan", "plans", "upstream"]
    found = _found(_args(upstream={"health_path": "/readyz"}))
    assert list(found) == ["upstream.instances"]


def test_one_instance_is_for_trials_or_stands_for_a_balancer() -> None:
    one = {"instances": [{"url": "http://10.0.0.1"}], "health_path": "/readyz"}
    assert "at least 2" in _found(_args(upstream=one))["upstream.instances"]
    assert _found(_args(upstream=one, dev=True)) == {}
    assert _found(_args(upstream=one), least_instances=1) == {}


def test_instances_speak_one_scheme_and_stand_there_once() -> None:
    upstream = {
        "instances": [
            {"url": "http://a:1", "ca_certificate": "-----BEGIN CERTIFICATE-----"},
            {"url": "https://b:1", "weight": 0},
            {"url": "http://a:1/"},
        ],
        "health_path": "/readyz",
    }
    assert sorted(_found(_args(upstream=upstream))) == [
        "upstream.instances",
        "upstream.instances[0].ca_certificate",
        "upstream.instances[1].weight",
        "upstream.instances[2].url",
    ]


def test_nobody_without_a_key_makes_the_instances_work() -> None:
    routes: list[dict[str, Any]] = [{"path": "/docs", "open": True}, {"path": "/v1/*"}]
    assert [methods(route) for route in routes] == [("GET",), ("GET", "POST")]
    routes = [{"path": "/v1/*", "open": True, "methods": ["HEAD", "POST", "GET"]}]
    assert list(_found(_args(routes=routes))) == ["routes[0].methods[1]"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keys", {"ann": KEY}),
        ("keys", [KEY]),
        ("keys", KEY),
        ("upstream", [{"api_key": KEY}]),
        (
            "upstream",
            {"instances": [{"url": f"http://ann:{KEY}@a:1/v1"}] * 2, "health_path": "/readyz"},
        ),
    ],
)
def test_a_key_in_a_wrong_place_is_not_shown(field: str, value: object) -> None:
    found = _found(_args(**{field: value}))
    assert {re.split(r"\W", name)[0] for name in found} == {field}
    assert KEY not in "".join(found.values())


def test_types_are_told_and_no_key_is_shown() -> None:
    keys = [{"name": "ann", "plan": "free", "key": 12345678901234567890}]
    found = _found(_args(keys=keys, plans="free", log={"kind": "file", "retention_days": "x"}))
    assert sorted(found) == ["keys[0].key", "log.retention_days", "plans"]
    assert "1234567890" not in found["keys[0].key"]


def test_what_is_not_known_yet_is_passed_over() -> None:
    later: Any = pulumi.Output.from_input("x")
    args = _args(
        upstream=later,
        plans=[{"name": later, "requests_per_second": later}],
        keys=[{"name": "ann", "plan": "gold", "key": later}],
    )
    assert _found(args) == {}


def test_a_burst_is_twice_the_rate_unless_it_is_given() -> None:
    assert burst({"requests_per_second": 2.2}) == 5
    assert burst({"requests_per_second": 2.2, "burst": 3}) == 3
