"""`ApiGateway`: what it refuses, and the plain parts around the API."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest

from sixways.api.api_gateway import ApiGateway
from sixways.api.aws.alarms import quota_alarm, section
from sixways.api.aws.args import ApiGatewayArgs
from sixways.api.aws.http import address, tls_host
from sixways.api.aws.logs import log_format
from sixways.api.aws.policies import (
    endpoint_arn,
    invoke_policy,
    log_policy,
    runtime_uri,
    trust_policy,
)
from sixways.api.aws.problems import problems
from sixways.api.aws.rest import create_rest_api
from sixways.api.aws.waf import rules
from sixways.checks import InputsRefused
from sixways.observability.slo import Slo

KEY = "sk-0123456789abcdefghij"
ARN = "arn:aws:{}:eu-west-1:123456789012:{}"
BALANCER = ARN.format("elasticloadbalancing", "loadbalancer/app/inner/0123456789abcdef")
LISTENER = ARN.format("elasticloadbalancing", "listener/app/inner/0123456789abcdef/fedcba")
CERTIFICATE = ARN.format("acm", "certificate/0a1b")
LINK = {"subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["group-1"]}
JWT = {"issuer": "https://issuer.example.com", "audience": ["models"]}


def args(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "upstream": {
            "instances": [{"url": "https://models.example.com"}],
            "health_path": "/readyz",
        },
        "plans": [{"name": "free", "requests_per_second": 5, "burst": 10, "quota": 1000}],
        "keys": [{"name": "ann", "plan": "free", "key": KEY}],
    }
    return {**copy.deepcopy(given), **changes}


def found(given: dict[str, Any], name: str = "models") -> dict[str, str]:
    return {one.field: str(one) for one in problems(name, cast(ApiGatewayArgs, given))}


@pytest.mark.parametrize(
    "given",
    [
        args(),
        args(upstream={"instances": [{"url": pulumi.Output.from_input("https://a.b")}],
                       "health_path": "/readyz", "api_key": pulumi.Output.secret("k")}),
        args(private_link={**LINK, "load_balancer_arn": BALANCER},
             upstream={"instances": [{"url": "http://inner:5000"}], "health_path": "/readyz"}),
        {**args(sagemaker={"endpoint_name": "search"}, upstream=None)},
        {"kind": "http", "upstream": args()["upstream"], "jwt": JWT},
        {"kind": "http", "upstream": args()["upstream"], "jwt": JWT,
         "private_link": {**LINK, "target_arn": LISTENER}},
        args(domain={"name": "api.example.com", "certificate_arn": CERTIFICATE},
             canary={"percent": 10}, waf={"requests_per_address": 100, "window_seconds": 60},
             throttle={"requests_per_second": 50, "burst": 100},
             method_throttles=[{"path": "/v1/{proxy+}", "method": "POST",
                                "requests_per_second": 1, "burst": 2}],
             log={"kind": "cloudwatch", "retention_days": 90}, slo={"latency_ms": 5000}),
    ],
)  # fmt: skip
def test_good_inputs_have_no_problem(given: dict[str, Any]) -> None:
    assert found(given) == {}


def test_every_problem_is_told_at_once() -> None:
    given = args(
        upstream={
            "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://10.0.0.2:5000"}],
            "request_seconds": 1000,
            "api_key": "0123456789'abcdef",
        },
        plans=[
            {"name": "free", "requests_per_second": 5, "burst": 2},
            {"name": "none"},
            {"name": "words", "tokens_per_minute": 100},
        ],
        keys=[
            {"name": "ann", "plan": "free", "key": KEY},
            {"name": "ann", "plan": "gold", "key": "hunter2"},
        ],
        routes=[{"path": "/v1/*", "plans": ["free"]}],
        openapi="openapi.json",
        max_body_bytes=1000,
        jwt=JWT,
        canary={"percent": 80},
        domain={"name": "api", "certificate_arn": "mine"},
        waf={"requests_per_address": 5, "window_seconds": 61},
        log={"kind": "file", "target": "/var/log/a.json"},
        method_throttles=[{"path": "/v1", "method": "POST", "requests_per_second": 5, "burst": 1}],
        private_link={"subnet_ids": ["subnet-1"], "security_group_ids": ["group-1"]},
        colour="blue",
    )
    told = found(given, "1models")
    assert set(told) >= {
        "name",
        "colour",
        "upstream.health_path",
        "upstream.instances",
        "upstream.request_seconds",
        "upstream.api_key",
        "plans[0].burst",
        "plans[1].requests_per_second",
        "plans[2].tokens_per_minute",
        "keys[1].name",
        "keys[1].plan",
        "keys[1].key",
        "routes[0].plans",
        "openapi",
        "max_body_bytes",
        "jwt",
        "canary.percent",
        "domain.name",
        "domain.certificate_arn",
        "waf.requests_per_address",
        "waf.window_seconds",
        "log.kind",
        "method_throttles[0].burst",
        "private_link.subnet_ids",
        "private_link.load_balancer_arn",
    }
    assert "load balancer" in told["upstream.instances"]
    assert not [words for words in told.values() if "hunter2" in words or "0123456789'" in words]


def test_what_an_http_api_cannot_hold_is_refused_by_name() -> None:
    told = found(
        args(kind="http", waf={}, canary={"percent": 5}, stream=True, stage_name="live",
             upstream={**args()["upstream"], "api_key": KEY, "request_seconds": 60})
    )  # fmt: skip
    assert set(told) == {
        "plans", "keys", "jwt", "waf", "canary", "stream", "stage_name", "upstream.api_key",
        "upstream.request_seconds",
    }  # fmt: skip


def test_a_plain_http_upstream_is_for_a_link_or_a_trial() -> None:
    plain = {"instances": [{"url": "http://models.example.com"}], "health_path": "/readyz"}
    assert set(found(args(upstream=plain))) == {"upstream.instances[0].url"}
    assert found(args(upstream=plain, dev=True)) == {}


def test_without_streaming_29_seconds_are_the_most() -> None:
    slow = {**args()["upstream"], "request_seconds": 30}
    assert found(args(upstream=slow)) == {}
    assert set(found(args(upstream=slow, stream=False))) == {"upstream.request_seconds"}


def test_a_throttle_names_a_method_that_the_api_has() -> None:
    throttle = {"path": "/v1/models", "method": "GET", "requests_per_second": 1, "burst": 1}
    assert set(found(args(method_throttles=[throttle]))) == {"method_throttles[0].path"}
    document = {"openapi": "3.1.0", "paths": {"/v1/models": {"get": {}}}}
    assert found(args(method_throttles=[throttle], openapi=json.dumps(document))) == {}


def test_a_document_in_a_file_is_read_before_anything_is_made(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    given = args(openapi_file=str(file))
    assert found(given) == {}  # nothing is read to check
    with pytest.raises(InputsRefused, match="openapi_file"):
        ApiGateway("models", cast(ApiGatewayArgs, given))
    file.write_text("{}")
    with pytest.raises(InputsRefused, match="an OpenAPI 3 document"):
        ApiGateway("models", cast(ApiGatewayArgs, given))
    assert set(found(args(openapi="{}", openapi_file=str(file)))) == {"openapi", "openapi_file"}


def test_sagemaker_takes_the_place_of_an_upstream() -> None:
    told = found(args(sagemaker={"endpoint_name": "search_1"}, routes=[{"path": "/v1/*"}]))
    assert set(told) == {"sagemaker.endpoint_name", "upstream", "routes"}


def test_what_decides_what_is_made_must_be_plain() -> None:
    told = found(args(keys=pulumi.Output.from_input([])))
    assert "keys" in told
    plan = {"name": "free", "quota": pulumi.Output.from_input(5)}
    assert "plans[0].quota" in found(args(plans=[plan]))


@pytest.mark.parametrize(
    "document",
    [
        trust_policy("123456789012"),
        invoke_policy(endpoint_arn("aws", "eu-west-1", "123456789012", "Search")),
        log_policy("aws", "eu-west-1", "123456789012"),
    ],
)
def test_no_policy_has_a_wildcard_action_or_every_resource(document: str) -> None:
    for statement in json.loads(document)["Statement"]:
        actions, resources = statement["Action"], statement.get("Resource", [])
        assert not [one for one in _list(actions) if "*" in one]
        assert "*" not in _list(resources)
        assert statement["Effect"] == "Allow"


def test_the_role_may_call_one_endpoint() -> None:
    policy = json.loads(invoke_policy(endpoint_arn("aws", "eu-west-1", "123456789012", "Search")))
    [statement] = policy["Statement"]
    assert statement["Action"] == "sagemaker:InvokeEndpoint"
    assert statement["Resource"] == ARN.format("sagemaker", "endpoint/search")
    assert runtime_uri("aws", "eu-west-1", "Search") == (
        "arn:aws:apigateway:eu-west-1:runtime.sagemaker:path/endpoints/Search/invocations"
    )
    [trust] = json.loads(trust_policy("123456789012"))["Statement"]
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("rest", [True, False])
def test_the_log_is_json_and_shows_no_key(rest: bool) -> None:
    fields = json.loads(log_format(rest))
    assert fields["request"] == "$context.requestId"  # AWS wants it in every format
    assert "$context.identity.apiKey" not in fields.values()
    assert ("key_id" in fields) is rest
    assert not [value for value in fields.values() if "query" in value.lower()]


def test_the_web_acl_lets_prompts_with_code_through() -> None:
    rate, *managed = rules({"requests_per_address": 500, "window_seconds": 60})
    assert rate["statement"]["rate_based_statement"]["limit"] == 500
    assert "block" in rate["action"]
    common = next(one for one in managed if one["name"] == "AWSManagedRulesCommonRuleSet")
    group = common["statement"]["managed_rule_group_statement"]
    counted = {one["name"] for one in group["rule_action_overrides"]}
    assert {"SizeRestrictions_BODY", "CrossSiteScripting_BODY"} <= counted
    assert all("count" in one["action_to_use"] for one in group["rule_action_overrides"])
    priorities = [one["priority"] for one in (rate, *managed)]
    assert priorities == sorted(set(priorities))
    assert [one["name"] for one in rules({"managed_rules": False})] == ["rate"]


@pytest.mark.parametrize(
    ("plan", "percent", "threshold"),
    [
        ({"quota": 1000, "quota_period": "day"}, None, 800),
        ({"quota": 7000, "quota_period": "week"}, None, 2000),
        ({"quota": 30_000}, None, 2000),
        ({"quota": 30_000}, 50, 500),
    ],
)
def test_a_quota_is_watched_by_its_pace(
    plan: dict[str, Any], percent: float | None, threshold: float
) -> None:
    alarm = quota_alarm("ann", plan, "abc123", percent)
    [metric] = alarm.metrics
    assert alarm.threshold == threshold
    assert metric.dimensions == {"KeyId": "abc123"}
    assert metric.period_s * alarm.evaluation_periods <= 604_800  # CloudWatch's longest look back


def test_alarms_follow_the_objective() -> None:
    slo = Slo(latency_ms=5000, latency_quantile=0.99, error_rate=0.02)
    of = {"ApiName": "models", "Stage": "live"}
    shown = section(slo, 0.3, of, rest=True, with_quota=True, api_id="a1")
    alarms = {one.key: one for one in shown.alarms}
    assert set(alarms) == {"latency", "errors", "client-errors", "exhausted"}
    assert alarms["latency"].threshold == 5000
    assert alarms["latency"].metrics[0].statistic == "p99"
    assert alarms["errors"].threshold == 0.02
    assert [one.name for one in alarms["errors"].metrics] == ["Count", "5XXError"]
    assert alarms["client-errors"].threshold == 0.3
    other = section(slo, 0.3, of, rest=False, with_quota=False, api_id="a1")
    names = {metric.name for one in other.alarms for metric in one.metrics}
    assert names == {"Latency", "Count", "5xx", "4xx"}


def test_behind_a_link_the_certificates_name_counts() -> None:
    upstream = {"instances": [{"url": "https://10.0.0.1:8443/"}], "tls_name": "inner.example.com"}
    assert address(upstream) == "https://inner.example.com:8443"
    assert tls_host(upstream) == "inner.example.com"
    assert tls_host({"instances": [{"url": "http://inner"}]}) == ""


class _Mocks(pulumi.runtime.Mocks):
    """Keeps what is registered."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[args.name] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


def _rest(**changes: Any) -> dict[str, dict[str, Any]]:
    mocks = _Mocks()
    pulumi.runtime.set_mocks(mocks, project="shop", stack="prod", preview=False)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def registered() -> pulumi.Output[Any]:
        parent = pulumi.ComponentResource("test:index:Parent", "parent")
        body = pulumi.Output.secret("{}")
        log = {"destination_arn": "arn:log", "format": "{}"}
        made = create_rest_api("models", body, changes, log, {}, parent=parent, depends_on=[])
        return made.stage.urn

    registered()
    return mocks.made


def test_the_apis_own_address_goes_with_a_new_deployment() -> None:
    domain = {"name": "api.example.com", "certificate_arn": CERTIFICATE}
    before, after = _rest(), _rest(domain=domain)
    assert after["models-api"]["disableExecuteApiEndpoint"] is True
    triggers = [made["models-deployment"]["triggers"] for made in (before, after)]
    assert triggers[0]["document"] == triggers[1]["document"]
    # AWS switches the address off with the next deployment alone.
    assert triggers[0] != triggers[1]
