"""Kong's declarative configuration, and Kong's own schema of it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from sixways.api.kong.configuration import declarative
from sixways.api.kong.limits import windows
from tests.conftest import require

# decK's library, which embeds the schema of the format; a pinned version of a Go module.
_MODULE = "github.com/kong/go-database-reconciler@v1.31.0"
_SCHEMA = "pkg/file/kong_json_schema.json"
_SHA256 = "26542d29fb6ec4eaa46231b96fbfd9fd0984917b9b89c00687b7747ffac71c6a"
_AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_NUMBER, _TEXT, _FLAG = (
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "string"},
    {"type": "boolean"},
)
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_HEADERS = {"type": "object", "properties": {"headers": _TEXTS}, "additionalProperties": False}
_REDIS = {
    "type": "object",
    "properties": {
        "host": _TEXT, "port": {"type": "integer"}, "username": _TEXT, "password": _TEXT,
        "database": {"type": "integer"}, "timeout": {"type": "integer"}, "ssl": _FLAG,
        "ssl_verify": _FLAG, "server_name": _TEXT,
    },
    "additionalProperties": False,
}  # fmt: skip
# Kong's schema of the format leaves a plugin's fields open. These are the ones that we write, as
# the plugins' pages of Kong Gateway 3.9 describe them.
_FIELDS: dict[str, dict[str, Any]] = {
    "acl": {"allow": _TEXTS, "hide_groups_header": _FLAG},
    "correlation-id": {
        "header_name": _TEXT, "echo_downstream": _FLAG,
        "generator": {"enum": ["uuid", "uuid#counter", "tracker"]},
    },
    "file-log": {"path": _TEXT, "custom_fields_by_lua": {"additionalProperties": _TEXT}},
    "http-log": {
        "http_endpoint": _TEXT, "method": {"enum": ["PATCH", "POST", "PUT"]},
        "timeout": {"type": "number"}, "custom_fields_by_lua": {"additionalProperties": _TEXT},
    },
    "key-auth": {
        "key_names": _TEXTS, "key_in_header": _FLAG, "key_in_query": _FLAG, "key_in_body": _FLAG,
        "hide_credentials": _FLAG,
    },
    "prometheus": {
        "per_consumer": _FLAG, "status_code_metrics": _FLAG, "latency_metrics": _FLAG,
        "bandwidth_metrics": _FLAG, "upstream_health_metrics": _FLAG,
    },
    "rate-limiting": {
        **dict.fromkeys(("second", "minute", "hour", "day", "month"), _NUMBER),
        "limit_by": {"enum": ["consumer"]}, "fault_tolerant": _FLAG, "redis": _REDIS,
        "policy": {"enum": ["local", "redis"]},
    },
    "request-size-limiting": {
        "allowed_payload_size": {"type": "integer"}, "require_content_length": _FLAG,
        "size_unit": {"enum": ["bytes", "kilobytes", "megabytes"]},
    },
    "request-transformer": {"remove": _HEADERS, "replace": _HEADERS, "add": _HEADERS},
    "sixways-tokens": {
        "minute": _NUMBER, "policy": {"enum": ["local", "redis"]}, "redis": _REDIS,
    },
}  # fmt: skip


def _args(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "upstream": {
            "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://b", "weight": 3}],
            "health_path": "/readyz",
            "api_key": "the-key-of-the-instances",
        },
        "plans": [
            {"name": "free", "requests_per_second": 2},
            {"name": "paid", "requests_per_second": 50, "burst": 80, "tokens_per_minute": 1001},
        ],
        "keys": [
            {"name": "ann", "plan": "free", "key": "a-key-of-ann"},
            {"name": "bob", "plan": "paid", "key": "new-of-bob", "previous_key": "old-of-bob"},
        ],
        "tls": True,
    }
    return {**copy.deepcopy(given), **changes}


_SECURE = {
    "instances": [
        {"url": "https://a.example.com", "ca_certificate": _AUTHORITY},
        {"url": "https://b.example.com:8443", "ca_certificate": _AUTHORITY},
    ],
    "health_path": "/readyz",
    "tls_name": "models.example.com",
}
_CASES: dict[str, dict[str, Any]] = {
    "least": _args(),
    "https": _args(upstream=_SECURE, tls=False),
    "redis": _args(redis={"host": "redis.example.com", "username": "kong", "password": "secret"}),
    "log": _args(log={"kind": "http", "target": "https://logs.example.com/in"}),
    "routes": _args(routes=[{"path": "/v1/embeddings", "plans": ["paid"]}, {"path": "/*"},
                            {"path": "/docs", "open": True, "methods": ["GET", "HEAD"]}]),
}  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> Any:
    """Kong's own, as it is published for decK."""
    require("cluster", None if shutil.which("go") else "go is not on PATH")
    done = subprocess.run(["go", "mod", "download", "-json", _MODULE], capture_output=True,
                          text=True, check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = (Path(json.loads(done.stdout)["Dir"]) / _SCHEMA).read_bytes()
    assert hashlib.sha256(text).hexdigest() == _SHA256
    return jsonschema_rs.Draft4Validator(json.loads(text))


@pytest.mark.parametrize("case", _CASES)
def test_the_configuration_is_one_by_kongs_own_schema(schema: Any, case: str) -> None:
    found = declarative(_CASES[case], pods=2)
    assert [error.message for error in schema.iter_errors(found)] == []


def test_kongs_schema_refuses_what_is_none_of_its_fields(schema: Any) -> None:
    found = declarative(_args(), pods=2)
    found["services"][0]["routes"][0]["stripPath"] = False
    found["consumers"][0]["keyauth_credentials"][0]["key"] = 5
    del found["upstreams"][0]["name"]
    assert len([error.message for error in schema.iter_errors(found)]) == 3


@pytest.mark.parametrize("case", _CASES)
def test_plugins_have_the_fields_that_kong_knows(case: str) -> None:
    plugins = list(_plugins(declarative(_CASES[case], pods=2)))
    assert len(plugins) >= 10
    for plugin in plugins:
        fields = {"properties": _FIELDS[plugin["name"]], "additionalProperties": False}
        errors = jsonschema_rs.Draft202012Validator(fields).iter_errors(plugin["config"])
        assert [f"{plugin['name']}: {error.message}" for error in errors] == []


def _plugins(value: Any) -> Any:
    for name, item in value.items():
        for one in item if isinstance(item, list) else []:
            if name == "plugins":
                yield one
            elif isinstance(one, dict):
                yield from _plugins(one)


def test_a_caller_has_its_keys_its_plan_and_its_limits() -> None:
    ann, bob = declarative(_args(), pods=2)["consumers"]
    assert ann["acls"] == [{"group": "free"}]
    keys = [one["key"] for one in bob["keyauth_credentials"]]
    assert keys == ["new-of-bob", "Bearer new-of-bob", "old-of-bob", "Bearer old-of-bob"]
    (limit,) = ann["plugins"]
    assert (limit["config"]["second"], limit["config"]["minute"]) == (2, 60), "a pod's half"
    requests, tokens = bob["plugins"]
    assert (requests["config"]["second"], requests["config"]["minute"]) == (40, 1500)
    assert tokens == {"name": "sixways-tokens", "config": {"minute": 501, "policy": "local"}}


def test_with_redis_all_pods_count_together() -> None:
    ann, bob = declarative(_CASES["redis"], pods=2)["consumers"]
    config = ann["plugins"][0]["config"]
    assert (config["second"], config["minute"], config["policy"]) == (4, 120, "redis")
    assert bob["plugins"][1]["config"]["minute"] == 1001
    assert config["redis"] | {"timeout": 0} == {
        "host": "redis.example.com", "port": 6379, "database": 0, "timeout": 0, "ssl": True,
        "ssl_verify": True, "server_name": "redis.example.com", "username": "kong",
        "password": "secret",
    }  # fmt: skip


def test_only_open_routes_need_no_key_and_each_lets_its_plans_through() -> None:
    some, rest, docs, health = declarative(_CASES["routes"], pods=2)["services"][0]["routes"]
    assert some["paths"] == ["~/v1/embeddings$"]
    assert rest["paths"] == ["/"]
    assert docs["plugins"] == []
    assert docs["methods"] == ["GET", "HEAD"]
    # `health_url` promises an answer without a key, whatever the routes are.
    assert (health["paths"], health["plugins"]) == (["~/readyz$"], [])
    assert health["methods"] == ["GET"]
    for route, plans in ((some, ["paid"]), (rest, ["free", "paid"])):
        auth, acl = route["plugins"]
        assert auth["name"] == "key-auth"
        assert auth["config"]["hide_credentials"] is True
        assert acl["config"]["allow"] == plans
    for route in declarative(_args(), pods=2)["services"][0]["routes"]:
        assert bool(route["plugins"]) == (route["paths"][0].removeprefix("~").rstrip("$/") in (
            "/v1", "/v2", "/invocations")), route["paths"]  # fmt: skip
        assert route["response_buffering"] is False, "tokens pass as they come"
        assert route["protocols"] == ["https"]


def test_the_instances_get_their_own_key_and_never_a_callers() -> None:
    (transform,) = _named(declarative(_args(), pods=1)["services"][0], "request-transformer")
    own = ["authorization:Bearer the-key-of-the-instances"]
    assert transform == {
        "remove": {"headers": ["x-api-key"]}, "replace": {"headers": own}, "add": {"headers": own}
    }  # fmt: skip
    (transform,) = _named(declarative(_CASES["https"], pods=1)["services"][0],
                          "request-transformer")  # fmt: skip
    assert transform == {"remove": {"headers": ["x-api-key", "authorization"]}}


def _named(entity: Any, name: str) -> list[Any]:
    return [one["config"] for one in entity["plugins"] if one["name"] == name]


def test_instances_are_weighed_asked_and_passed_over() -> None:
    (upstream,) = declarative(_args(), pods=1)["upstreams"]
    assert upstream["targets"] == [
        {"target": "10.0.0.1:5000", "weight": 100}, {"target": "b:80", "weight": 300}
    ]  # fmt: skip
    active, passive = upstream["healthchecks"]["active"], upstream["healthchecks"]["passive"]
    assert (active["type"], active["http_path"]) == ("http", "/readyz")
    assert 429 not in passive["unhealthy"]["http_statuses"]
    found = declarative(_CASES["https"], pods=1)
    (upstream,), (service,) = found["upstreams"], found["services"]
    assert upstream["host_header"] == "models.example.com"
    assert upstream["healthchecks"]["active"]["https_verify_certificate"] is True
    assert [one["target"] for one in upstream["targets"]] == [
        "a.example.com:443", "b.example.com:8443"
    ]  # fmt: skip
    (authority,) = found["ca_certificates"]
    assert service["ca_certificates"] == [authority["id"]]
    assert (service["tls_verify"], service["tls_verify_depth"]) == (True, 3)


def test_a_line_of_the_log_has_the_callers_name_and_no_key() -> None:
    for case, name in (("least", "file-log"), ("log", "http-log")):
        (log,) = _named(declarative(_CASES[case], pods=1), name)
        fields = log["custom_fields_by_lua"]
        # Headers hold the key, the others a query.
        for field in ("request", "upstream_uri", "response", "authenticated_entity"):
            assert fields[field] == "return nil"
        assert "username" in fields["key"]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"requests_per_second": 5}, {"second": 10, "minute": 300}),
        ({"requests_per_second": 0.1}, {"second": 1, "minute": 6}),
        ({"requests_per_second": 0.01, "burst": 7}, {"second": 7, "hour": 36}),
        ({"requests_per_second": 0.001}, {"second": 1, "day": 86}),
        ({"requests_per_second": 1e6}, {"second": 2_000_000, "minute": 60_000_000}),
        # A window never lets through less than a shorter one: Kong refuses that.
        ({"requests_per_second": 0.05, "burst": 9}, {"second": 3, "minute": 3}),
        ({"requests_per_second": 5, "quota": 100}, {"second": 10, "minute": 100, "month": 100}),
        ({"requests_per_second": 0.001, "quota": 20, "quota_period": "day"},
         {"second": 1, "day": 20}),
        ({"quota": 1000, "quota_period": "day"}, {"day": 1000}),
        ({"tokens_per_minute": 5}, {}),
    ],
)  # fmt: skip
def test_a_plan_becomes_windows(plan: dict[str, Any], expected: dict[str, int]) -> None:
    assert windows(plan, 1) == expected
