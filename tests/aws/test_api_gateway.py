"""`ApiGateway` from its first update to its destroy, against an AWS on this machine."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import ACCOUNT, REGION, Aws, serve_aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_PROGRAM = """
import json
import pulumi
from sixways.api.api_gateway import ApiGateway

config = pulumi.Config()
for name, args in json.loads(config.require("gateways")).items():
    for part in [*args.get("keys", []), args.get("upstream", {})]:
        for field in ("key", "previous_key", "api_key"):
            if field in part:
                part[field] = config.require_secret(part[field])
    gateway = ApiGateway(name, args)
    outputs = [field for field in ApiGateway.__annotations__ if not field.startswith("_")]
    pulumi.export(name, {field: getattr(gateway, field) for field in outputs})
"""
_FIRST, _SECOND, _OTHER = (f"sk-{word}-0123456789abcdef" for word in ("one", "two", "other"))
_UPSTREAM = "upstream-key-0123456789"
_BODY = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
_OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/v1/embeddings": {
            "post": {"requestBody": {"content": {"application/json": {"schema": _BODY}}}}
        }
    },
}
_REST = {
    "upstream": {
        "instances": [{"url": "https://models.example.com"}],
        "health_path": "/readyz",
        "api_key": "upstream",
    },
    "plans": [
        {"name": "basic", "requests_per_second": 10, "burst": 20, "quota": 1000},
        {"name": "steady", "requests_per_second": 2},
    ],
    "keys": [
        {"name": "search", "plan": "basic", "key": "first"},
        {"name": "shop", "plan": "steady"},
    ],
    "openapi": json.dumps(_OPENAPI),
    "bundle_digest": f"sha256:{'a' * 64}",
    "tags": {"team": "search"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aws")


@pytest.fixture(scope="module")
def aws(folder: Path) -> Iterator[Aws]:
    """An empty AWS; its log tells the order of the calls."""
    with serve_aws(folder) as server:
        yield server


@pytest.fixture
def calls(folder: Path) -> Callable[[], list[tuple[str, str]]]:
    """The changing calls since it was asked last."""
    log = folder / "aws.log"
    seen = log.stat().st_size

    def since() -> list[tuple[str, str]]:
        nonlocal seen
        with log.open("rb") as file:
            file.seek(seen)
            text = file.read().decode()
            seen = file.tell()
        return re.findall(r"(POST|PUT|PATCH|DELETE) (/\w\S+) HTTP", text)

    return since


@pytest.fixture
def stack(aws_env: dict[str, str], project: Path) -> Iterator[Stack]:
    (project / "__main__.py").write_text(_PROGRAM)
    with Stack(project, aws_env, timeout_s=400) as stack:
        stack.secret(first=_FIRST, second=_SECOND, other=_OTHER, upstream=_UPSTREAM)
        yield stack


def _up(stack: Stack, *arguments: str, check: bool = True, **gateways: Any) -> Any:
    stack.config(gateways=json.dumps(gateways))
    return stack.up("--skip-preview", *arguments, check=check)


def test_a_gateway_lives(
    aws: Aws, stack: Stack, calls: Callable[[], list[tuple[str, str]]]
) -> None:
    args: dict[str, Any] = copy.deepcopy(_REST)
    assert aws.left() == []
    _up(stack, models=args)
    first = stack.outputs()["models"]
    assert first["api_key"] == first["api_keys"]["search"] == _FIRST
    assert first["url"].endswith("/live")
    assert first["health_url"] == f"{first['url']}/readyz"
    assert first["bundle_digest"] == args["bundle_digest"]
    _assert_methods(aws, first)
    _assert_around(aws, first)
    shown = stack.run("stack", "export", "--stack", stack.name).stdout
    for key in (*first["api_keys"].values(), _UPSTREAM):
        assert key not in shown
    _up(stack, "--expect-no-changes", models=args)

    # A plan is changed in place. A rotation: both keys are valid, and the old one is not touched.
    calls()
    args["plans"][0] |= {"requests_per_second": 12.5, "burst": 30, "quota": 2000}
    args["keys"][0] |= {"key": "second", "previous_key": "first"}
    _up(stack, models=args)
    gateway = aws.client("apigateway")
    plan = gateway.get_usage_plan(usagePlanId=first["usage_plan_ids"]["basic"])
    assert plan["throttle"] == {"rateLimit": 12.5, "burstLimit": 30}
    assert plan["quota"]["limit"] == 2000
    assert _values(aws, first, "basic") == {_FIRST, _SECOND}
    changes = calls()
    assert [path for method, path in changes if method == "POST" and path == "/apikeys"]
    assert not [path for method, path in changes if method == "DELETE"]
    rotated = stack.outputs()["models"]
    assert rotated["api_key"] == _SECOND
    for field in ("api_id", "usage_plan_ids", "stage_name", "url", "web_acl_arn"):
        assert rotated[field] == first[field]
    assert set(rotated["key_ids"]["search"]) > set(first["key_ids"]["search"])
    assert rotated["key_ids"]["shop"] == first["key_ids"]["shop"]

    # Its end; and a key that is changed at once is made before the old one goes.
    # A canary: the stage stays where it is, and a tenth goes to the new deployment.
    before = _stage(aws, first)
    del args["keys"][0]["previous_key"]
    args["keys"][1]["key"] = "other"
    args["routes"] = [{"path": "/v1/*"}, {"path": "/readyz", "methods": ["GET"], "open": True}]
    args["canary"] = {"percent": 10}
    _up(stack, models=args)
    assert _values(aws, first, "basic") == {_SECOND}
    assert _values(aws, first, "steady") == {_OTHER}
    changes = calls()
    steps = [method for method, path in changes if re.fullmatch(r"/apikeys(/\w+)?", path)]
    assert steps == ["POST", "DELETE", "DELETE"]
    during = _stage(aws, first)
    assert during["deploymentId"] == before["deploymentId"]
    assert during["canarySettings"]["percentTraffic"] == 10
    assert during["canarySettings"]["deploymentId"] != before["deploymentId"]

    # Promoted by taking one input away: a new deployment, then the stage, then the old ones go.
    calls()
    del args["canary"]
    _up(stack, models=args)
    after = _stage(aws, first)
    assert "canarySettings" not in after
    assert after["deploymentId"] not in (before["deploymentId"], None)
    changes = [(method, path.split("/")[3]) for method, path in calls() if "/restapis/" in path]
    assert changes[0] == ("POST", "deployments")
    assert changes.index(("PATCH", "stages")) < changes.index(("DELETE", "deployments"))
    there = gateway.get_deployments(restApiId=first["api_id"])["items"]
    assert [one["id"] for one in there] == [after["deploymentId"]]

    # A stage of another name is another stage; the API, plans and keys stay.
    args["stage_name"] = "v2"
    _up(stack, models=args)
    replaced = stack.outputs()["models"]
    assert [one["stageName"] for one in _stages(aws, first)] == ["v2"]
    assert replaced["url"] == first["url"].removesuffix("live") + "v2"
    for field in ("api_id", "usage_plan_ids", "web_acl_arn"):
        assert replaced[field] == first[field]
    plan = gateway.get_usage_plan(usagePlanId=first["usage_plan_ids"]["basic"])
    assert plan["apiStages"] == [{"apiId": first["api_id"], "stage": "v2"}]

    stack.destroy()
    assert aws.left() == []


def _stages(aws: Aws, outputs: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = aws.client("apigateway").get_stages(restApiId=outputs["api_id"])[
        "item"
    ]
    return found


def _stage(aws: Aws, outputs: dict[str, Any]) -> dict[str, Any]:
    (stage,) = _stages(aws, outputs)
    return stage


def _values(aws: Aws, outputs: dict[str, Any], plan: str) -> set[str]:
    """The keys that are valid in a plan."""
    gateway = aws.client("apigateway")
    plan_id = outputs["usage_plan_ids"][plan]
    ids = [one["id"] for one in gateway.get_usage_plan_keys(usagePlanId=plan_id)["items"]]
    keys = [gateway.get_api_key(apiKey=one, includeValue=True) for one in ids]
    assert all(key["enabled"] for key in keys)
    return {key["value"] for key in keys}


def _methods(aws: Aws, outputs: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    gateway = aws.client("apigateway")
    api = outputs["api_id"]
    return {
        (one["path"], method): gateway.get_method(
            restApiId=api, resourceId=one["id"], httpMethod=method
        )
        for one in gateway.get_resources(restApiId=api, limit=500)["items"]
        for method in one.get("resourceMethods", {})
    }


def _assert_methods(aws: Aws, outputs: dict[str, Any]) -> None:
    methods = _methods(aws, outputs)
    opened = {path for (path, _), method in methods.items() if not method["apiKeyRequired"]}
    assert opened == {"/healthz", "/readyz", "/docs", "/docs/{proxy+}", "/openapi.json"}
    assert ("/v1/embeddings", "POST") in methods
    for method in methods.values():
        integration = method["methodIntegration"]
        assert integration["responseTransferMode"] == "STREAM"
        assert integration["uri"].startswith("https://models.example.com/")
        given = integration["requestParameters"]
        assert given["integration.request.header.x-api-key"] == f"'{_UPSTREAM}'"


def _assert_around(aws: Aws, outputs: dict[str, Any]) -> None:
    stage = _stage(aws, outputs)
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 1000
    assert stage["methodSettings"]["*/*"]["dataTraceEnabled"] is False
    log = stage["accessLogSettings"]
    assert log["destinationArn"].endswith(f":log-group:{outputs['log_group_name']}")
    assert json.loads(log["format"])["key_id"] == "$context.identity.apiKeyId"
    assert stage["webAclArn"] == outputs["web_acl_arn"]
    (group,) = aws.client("logs").describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 30
    filters = aws.client("logs").describe_metric_filters(logGroupName=group["logGroupName"])
    counted = {
        one["metricTransformations"][0]["metricName"]: one["metricTransformations"][0]
        for one in filters["metricFilters"]
    }
    assert counted["Requests"]["dimensions"] == {"KeyId": "$.key_id"}
    alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    by_name = {re.sub(r"-[0-9a-f]{7}$", "", one["AlarmName"]): one for one in alarms}
    quota = next(one for name, one in by_name.items() if "-quota-search-" in name)
    assert not [name for name in by_name if "-quota-shop-" in name]  # its plan has none
    (key_id,) = outputs["key_ids"]["search"]
    assert quota["Dimensions"] == [{"Name": "KeyId", "Value": key_id}]
    assert set(by_name) >= {f"models-{key}" for key in ("latency", "errors", "client-errors")}
    assert all(one["AlarmActions"] == [outputs["topic_arn"]] for one in alarms)


def test_a_balancer_in_a_vpc_an_http_api_and_sagemaker(aws: Aws, stack: Stack) -> None:
    inner = _load_balancer(aws, "inner", "application", 2)
    single = _load_balancer(aws, "single", "network", 1)
    certificate = aws.client("acm").request_certificate(DomainName="api.example.com")
    ours = {"alarm_topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:ours"}
    link = {"subnet_ids": _subnets(aws), "security_group_ids": _security_groups(aws)}
    domain = {"name": "api.example.com", "certificate_arn": certificate["CertificateArn"]}
    upstream = {"instances": [{"url": "https://inner.example.com"}], "health_path": "/readyz"}
    pool = f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/{REGION}_a"
    plain = {field: _REST[field] for field in ("plans", "keys")}
    gateways: dict[str, Any] = {
        "inner": {
            **plain,
            "upstream": upstream,
            "private_link": {**link, "load_balancer_arn": inner},
            "domain": {**domain, "base_path": "models"},
            "cognito": {"user_pool_arns": [pool]},
            "account_log_role": True,
            **ours,
            "openapi": json.dumps(_OPENAPI),
            "method_throttles": [
                {"path": "/v1/embeddings", "method": "POST", "requests_per_second": 5, "burst": 9}
            ],
        },
        "open": {
            "kind": "http",
            "upstream": upstream,
            "private_link": {**link, "target_arn": _listener(aws, inner)},
            "jwt": {"issuer": "https://issuer.example.com", "audience": ["models"]},
            "domain": {**domain, "name": "open.example.com"},
            **ours,
        },
        "runtime": {
            "sagemaker": {"endpoint_name": "Search"},
            "plans": [{"name": "all", "quota": 10, "quota_period": "day"}],
            "keys": [{"name": "ann", "plan": "all"}],
            "waf": {"managed_rules": False},
            **ours,
        },
    }
    _up(stack, **gateways)
    outputs = stack.outputs()
    _assert_private(aws, outputs["inner"], inner)
    _assert_http(aws, outputs["open"])
    _assert_sagemaker(aws, outputs["runtime"])
    _up(stack, "--expect-no-changes", **gateways)

    # A load balancer in one zone is refused by what AWS says of it, before the API is changed.
    gateways["inner"]["private_link"]["load_balancer_arn"] = single
    said = _up(stack, check=False, **gateways)
    assert said.returncode != 0
    assert "private_link.load_balancer_arn" in said.stdout
    assert "2 zones" in said.stdout
    _assert_private(aws, outputs["inner"], inner)

    stack.destroy()
    assert [one for one in aws.left() if not one.startswith("elbv2 ")] == []
    _remove_load_balancers(aws)
    aws.client("acm").delete_certificate(CertificateArn=certificate["CertificateArn"])
    assert aws.left() == []


def _assert_private(aws: Aws, outputs: dict[str, Any], balancer: str) -> None:
    gateway = aws.client("apigateway")
    assert outputs["url"] == "https://api.example.com/models"
    (domain,) = gateway.get_domain_names()["items"]
    assert domain["securityPolicy"] == "TLS_1_2"
    assert domain["regionalDomainName"] == outputs["domain_target"]
    assert gateway.get_rest_api(restApiId=outputs["api_id"])["disableExecuteApiEndpoint"] is True
    method = _methods(aws, outputs)["/v1/embeddings", "POST"]
    integration = method["methodIntegration"]
    assert integration["connectionType"] == "VPC_LINK"
    assert integration["integrationTarget"] == balancer
    links = aws.client("apigatewayv2").get_vpc_links()["Items"]
    assert integration["connectionId"] in {one["VpcLinkId"] for one in links}
    stage = _stage(aws, outputs)
    assert stage["methodSettings"]["v1/embeddings/POST"]["throttlingRateLimit"] == 5
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 1000
    assert ":role/inner-logs-" in gateway.get_account()["cloudwatchRoleArn"]


def _assert_http(aws: Aws, outputs: dict[str, Any]) -> None:
    gateway = aws.client("apigatewayv2")
    assert outputs["url"] == "https://open.example.com"
    assert outputs["api_key"] == ""
    (domain,) = gateway.get_domain_names()["Items"]
    assert domain["DomainNameConfigurations"][0]["SecurityPolicy"] == "TLS_1_2"
    routes = gateway.get_routes(ApiId=outputs["api_id"])["Items"]
    guarded = {one["RouteKey"] for one in routes if one["AuthorizationType"] == "JWT"}
    assert {one["RouteKey"] for one in routes} - guarded == {
        f"GET /{path}" for path in ("healthz", "readyz", "docs", "docs/{proxy+}", "openapi.json")
    }
    (integration,) = gateway.get_integrations(ApiId=outputs["api_id"])["Items"]
    assert integration["ConnectionType"] == "VPC_LINK"
    assert integration["TlsConfig"] == {"ServerNameToVerify": "inner.example.com"}
    (stage,) = gateway.get_stages(ApiId=outputs["api_id"])["Items"]
    assert stage["StageName"] == "$default"
    assert stage["AccessLogSettings"]["DestinationArn"]


def _assert_sagemaker(aws: Aws, outputs: dict[str, Any]) -> None:
    methods = _methods(aws, outputs)
    assert set(methods) == {("/invocations", "POST"), ("/healthz", "GET")}
    invoke = methods["/invocations", "POST"]
    assert invoke["apiKeyRequired"] is True
    integration = invoke["methodIntegration"]
    assert integration["uri"].endswith(":runtime.sagemaker:path/endpoints/Search/invocations")
    role = integration["credentials"].rsplit("/", 1)[1]
    iam = aws.client("iam")
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policy = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert statement["Action"] == "sagemaker:InvokeEndpoint"
    assert statement["Resource"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/search"


def _subnets(aws: Aws) -> list[str]:
    return [one["SubnetId"] for one in aws.client("ec2").describe_subnets()["Subnets"]][:2]


def _security_groups(aws: Aws) -> list[str]:
    return [
        one["GroupId"] for one in aws.client("ec2").describe_security_groups()["SecurityGroups"]
    ]


def _load_balancer(aws: Aws, name: str, kind: str, zones: int) -> str:
    made = aws.client("elbv2").create_load_balancer(
        Name=name, Subnets=_subnets(aws)[:zones], Type=kind, Scheme="internal"
    )
    return str(made["LoadBalancers"][0]["LoadBalancerArn"])


def _listener(aws: Aws, balancer: str) -> str:
    elb = aws.client("elbv2")
    answer = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
    made = elb.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[answer]
    )
    return str(made["Listeners"][0]["ListenerArn"])


def _remove_load_balancers(aws: Aws) -> None:
    elb = aws.client("elbv2")
    for one in elb.describe_load_balancers()["LoadBalancers"]:
        elb.delete_load_balancer(LoadBalancerArn=one["LoadBalancerArn"])


def test_bad_inputs_are_named_all_at_once_and_nothing_is_made(aws: Aws, stack: Stack) -> None:
    args: dict[str, Any] = copy.deepcopy(_REST)
    args["upstream"] = {"instances": [{"url": f"https://{host}.example.com"} for host in "ab"]}
    args["plans"] = [{"name": "basic", "requests_per_second": 5, "burst": 2}, {"name": "free"}]
    args["keys"] = [{"name": "ann", "plan": "basic"}, {"name": "ann", "plan": "gold"}]
    said = _up(stack, check=False, models=args)
    assert said.returncode != 0
    for field in (
        "upstream.health_path",
        "upstream.instances",
        "plans[0].burst",
        "plans[1].requests_per_second",
        "keys[1].name",
        "keys[1].plan",
    ):
        assert f"- {field}:" in said.stdout, said.stdout
    assert aws.left() == []
