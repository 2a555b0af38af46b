"""What is wrong with the inputs of an `ApiGateway`: all at once, without a call to AWS.

Limits: botocore's models of `apigateway`, `apigatewayv2` and `wafv2`, and AWS's page "Amazon API
Gateway quotas and important notes".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pulumi

from sixways.api.aws.args import (
    ApiGatewayArgs,
    CanaryArgs,
    CognitoArgs,
    DomainArgs,
    JwtArgs,
    MethodThrottleArgs,
    PrivateLinkArgs,
    SageMakerTargetArgs,
    ThrottleArgs,
    WafArgs,
)
from sixways.api.aws.document import BUFFERED_SECONDS, STREAM_SECONDS
from sixways.api.aws.routes import operations
from sixways.api.defaults import ROUTES
from sixways.api.problems import check_gateway
from sixways.checks import DIGEST, Checks, is_number, is_plain
from sixways.cloud.formats import KMS_KEY, LOG_DAYS, SAGEMAKER_NAME, TOPIC
from sixways.cloud.regions import check_region, configured_region
from sixways.observability.slo import check_slo
from sixways_bundle import Problem

REST, HTTP = "rest", "http"
HTTP_SECONDS = 30
"""Longest integration timeout of an HTTP API (`CreateIntegration`: 30,000 ms)."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")
_STAGE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[\w-]+")
_BALANCER = re.compile(
    r"arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\d{12}:loadbalancer/(app|net)/[^/\s]+/\w+"
)
_TARGET = re.compile(
    r"arn:aws[a-z-]*:(elasticloadbalancing:[a-z0-9-]+:\d{12}:listener/(app|net)/\S+"
    r"|servicediscovery:[a-z0-9-]+:\d{12}:service/\S+)"
)
_ACL = re.compile(r"arn:aws[a-z-]*:wafv2:[a-z0-9-]+:\d{12}:regional/webacl/\S+")
_POOL = re.compile(r"arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:\d{12}:userpool/\S+")
_PARTS: dict[str, Any] = {
    "canary": CanaryArgs,
    "cognito": CognitoArgs,
    "domain": DomainArgs,
    "jwt": JwtArgs,
    "private_link": PrivateLinkArgs,
    "sagemaker": SageMakerTargetArgs,
    "throttle": ThrottleArgs,
    "waf": WafArgs,
}
# They decide what is made.
_PLAIN = ("account_log_role", "canary", "dev", "domain", "jwt", "keys", "kind", "plans",
          "private_link", "quota_percent", "client_error_rate", "routes", "sagemaker", "stream",
          "upstream", "waf", "method_throttles", "openapi_file")  # fmt: skip
_REST_ONLY = {
    "canary": "promote with two gateways, or choose kind: rest",
    "cognito": "use jwt",
    "keys": "use jwt: an HTTP API knows no keys",
    "method_throttles": "choose kind: rest",
    "openapi": "the server checks the bodies itself",
    "openapi_file": "the server checks the bodies itself",
    "plans": "use jwt and throttle: an HTTP API knows no usage plans",
    "stage_name": "an HTTP API answers without a stage in its path",
    "stream": "choose kind: rest: an HTTP API holds an answer back until it is whole",
    "waf": "AWS has no web ACL for HTTP APIs: choose kind: rest",
    "sagemaker": "choose kind: rest",
    "account_log_role": "an HTTP API writes its log without it",
}


def problems(name: str, args: ApiGatewayArgs) -> list[Problem]:
    """Everything that is wrong with the inputs; outputs are passed over.

    Args:
        name: the component's name.
        args: its inputs.
    """
    checks = Checks()
    given: dict[str, Any] = {key: value for key, value in args.items() if value is not None}
    check_gateway(checks, given, ApiGatewayArgs, log_kinds=("cloudwatch",), least_instances=1)
    kind = given.get("kind", REST)
    checks.problems = [one for one in checks.problems if not _needless(one, given, kind)]
    checks.matches("name", name, _NAME, "up to 40 letters, digits and dashes, a letter first")
    check_region(checks, configured_region(), "apigateway")
    checks.one_of("kind", kind, (REST, HTTP))
    for field in _PLAIN:
        if field in given and not isinstance(given[field], Mapping | list) and not is_plain(
            given[field]
        ):  # fmt: skip
            checks.add(field, "an output", "a plain value: it decides what is made",
                       "take it from the stack's settings")  # fmt: skip
    for field, part in _PARTS.items():
        if isinstance(given.get(field), Mapping):
            checks.known(given[field], part, f"{field}.")
            checks.required(given[field], *sorted(part.__required_keys__), prefix=f"{field}.")
    _check_kind(checks, given, kind)
    _check_target(checks, given, kind)
    _check_link(checks, given, kind)
    _check_plans(checks, given)
    _check_routes(checks, given)
    _check_around(checks, given)
    return checks.problems


def _needless(problem: Problem, given: Mapping[str, Any], kind: object) -> bool:
    """Whether every gateway but this one needs the field that is missing."""
    if problem.value or problem.field in given:
        return False
    with_target = problem.field == "upstream" and "sagemaker" in given
    return with_target or (problem.field in ("plans", "keys") and kind == HTTP)


def _check_kind(checks: Checks, given: Mapping[str, Any], kind: object) -> None:
    if kind == HTTP:
        for field, fix in _REST_ONLY.items():
            if field in given:
                checks.add(field, "given", "nothing with kind: http", fix)
        if "jwt" not in given:
            checks.add("jwt", None, "issuer and audience of the callers' tokens",
                       "add it: an HTTP API has no keys that could guard it")  # fmt: skip
    elif kind == REST and "jwt" in given:
        checks.add("jwt", "given", "nothing with kind: rest", "use cognito, or kind: http")
    if "max_body_bytes" in given:
        checks.add("max_body_bytes", given["max_body_bytes"], "nothing: API Gateway takes 10 MB",
                   "set max_body_bytes of the server behind it")  # fmt: skip


def _check_target(checks: Checks, given: Mapping[str, Any], kind: object) -> None:
    upstream, sagemaker = given.get("upstream"), given.get("sagemaker")
    if isinstance(sagemaker, Mapping):
        checks.matches("sagemaker.endpoint_name", sagemaker.get("endpoint_name"), SAGEMAKER_NAME,
                       "up to 63 letters, digits and dashes")  # fmt: skip
        for field in ("upstream", "routes", "private_link", "stream"):
            if field in given:
                checks.add(field, "given", "nothing with sagemaker", "remove one of the two")
        return
    if not isinstance(upstream, Mapping):
        return
    instances = upstream.get("instances")
    instances = instances if isinstance(instances, list) else []
    private = "private_link" in given
    if len(instances) > 1:
        checks.add("upstream.instances", len(instances), "one: API Gateway sends to one address",
                   "put a load balancer in front of them and name that, with private_link if it "
                   "stands in a VPC")  # fmt: skip
    for index, one in enumerate(instances[:1]):
        here = f"upstream.instances[{index}]."
        if not isinstance(one, Mapping):
            continue
        for field, fix in (
            ("weight", "remove it: there is one address"),
            ("ca_certificate", "take a certificate of a public authority, which API Gateway knows"),
        ):
            if one.get(field) is not None:
                checks.add(f"{here}{field}", "given", "nothing here", fix)
        url = one.get("url")
        if isinstance(url, str) and url.startswith("http:") and not (private or given.get("dev")):
            checks.add(f"{here}url", url, "https: keys and texts cross the internet",
                       "give the server TLS, or use private_link")  # fmt: skip
    if upstream.get("tls_name") is not None and not private:
        checks.add("upstream.tls_name", str(upstream["tls_name"]), "nothing without private_link",
                   "use the name in the instance's url")  # fmt: skip
    key = upstream.get("api_key")
    if key is not None and kind == HTTP:
        checks.add("upstream.api_key", "(not shown)", "nothing with kind: http: a caller's token "
                   "stays in Authorization, where the server looks for its key",
                   "choose kind: rest")  # fmt: skip
    elif isinstance(key, str) and re.search(r"['\"$\\]", key):
        checks.add("upstream.api_key", "(not shown)", "a key without quotes, $ and \\",
                   "make another one")  # fmt: skip
    streams = kind == REST and given.get("stream", True) is True
    most = STREAM_SECONDS if streams else HTTP_SECONDS if kind == HTTP else BUFFERED_SECONDS
    seconds = upstream.get("request_seconds")
    if is_number(seconds) and seconds > most:
        checks.add("upstream.request_seconds", seconds, f"at most {most}",
                   "lower it" if streams else "choose kind: rest with stream: true")  # fmt: skip


def _check_link(checks: Checks, given: Mapping[str, Any], kind: object) -> None:
    link = given.get("private_link")
    if not isinstance(link, Mapping):
        return
    subnets = link.get("subnet_ids")
    if isinstance(subnets, list) and subnets and (
        len(subnets) < 2 or (is_plain(subnets) and len(set(subnets)) < 2)
    ) and not given.get("dev"):  # fmt: skip
        checks.add("private_link.subnet_ids", len(subnets), "subnets in at least 2 zones",
                   "add one in another zone, or dev: true")  # fmt: skip
    wanted, other = ("load_balancer_arn", "target_arn")
    form, words = _BALANCER, "the ARN of an Application or Network Load Balancer"
    if kind == HTTP:
        wanted, other = other, wanted
        form, words = _TARGET, "the ARN of a listener or of a Cloud Map service"
    if link.get(wanted) is None:
        checks.add(f"private_link.{wanted}", None, words, f"kind: {kind} needs it")
    if link.get(other) is not None:
        checks.add(f"private_link.{other}", "given", f"nothing with kind: {kind}",
                   f"use {wanted}")  # fmt: skip
    checks.matches(f"private_link.{wanted}", link.get(wanted), form, words)


def _check_plans(checks: Checks, given: Mapping[str, Any]) -> None:
    plans = given.get("plans")
    for index, plan in enumerate(plans if isinstance(plans, list) else []):
        if not isinstance(plan, Mapping):
            continue
        for field in ("name", "quota", "quota_period"):
            if isinstance(plan.get(field), pulumi.Output):
                checks.add(f"plans[{index}].{field}", "an output", "a plain value: alarms are made "
                           "from it", "take it from the stack's settings")  # fmt: skip
        if plan.get("tokens_per_minute") is not None:
            checks.add(f"plans[{index}].tokens_per_minute", plan["tokens_per_minute"],
                       "nothing here: usage plans count requests",
                       "use KongGateway, or requests_per_second and quota")  # fmt: skip


def _check_routes(checks: Checks, given: Mapping[str, Any]) -> None:
    routes = given.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, Mapping) and route.get("plans") is not None:
            checks.add(f"routes[{index}].plans", "given", "nothing here: a usage plan covers all "
                       "routes", "make a second gateway for the others")  # fmt: skip
    document = given.get("openapi")
    if document is not None and "openapi_file" in given:
        checks.add("openapi_file", "given", "nothing beside openapi", "remove one of the two")
    paths: Mapping[str, Any] = {}
    if isinstance(document, str):
        try:
            read = json.loads(document)
            paths = read["paths"]
            if not str(read["openapi"]).startswith("3.") or not isinstance(paths, Mapping):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            checks.add("openapi", f"{len(document)} characters", "an OpenAPI 3 document as JSON",
                       "give the text of /openapi.json; a path is openapi_file")  # fmt: skip
            paths = {}
    throttles = given.get("method_throttles")
    if not isinstance(throttles, list):
        return
    usable = "openapi_file" not in given and is_plain(routes) and is_plain(document) and not any(
        one.field.startswith(("routes", "openapi")) for one in checks.problems
    )  # fmt: skip
    there = (
        {(one.path, one.method) for one in operations(routes or ROUTES, paths)} if usable else ()
    )
    for index, one in enumerate(throttles):
        here = f"method_throttles[{index}]."
        if not isinstance(one, Mapping):
            continue
        checks.known(one, MethodThrottleArgs, here)
        checks.required(one, *sorted(MethodThrottleArgs.__annotations__), prefix=here)
        _check_throttle(checks, one, here)
        asked = (one.get("path"), one.get("method"))
        if there and is_plain(asked) and None not in asked and asked not in there:
            checks.add(f"{here}path", f"{asked[1]} {asked[0]}", "a method of the API",
                       "write it as the API does: " + ", ".join(
                           f"{method} {path}" for path, method in sorted(there)))  # fmt: skip


def _check_throttle(checks: Checks, throttle: Mapping[str, Any], here: str) -> None:
    rate, burst = throttle.get("requests_per_second"), throttle.get("burst")
    checks.number(f"{here}requests_per_second", rate, 0.001, 1e6)
    checks.number(f"{here}burst", burst, 1, 1e6, whole=True)
    if is_number(rate) and is_number(burst) and burst < rate:
        checks.add(f"{here}burst", burst, f"at least requests_per_second, {rate:g}", "raise it")


def _check_around(checks: Checks, given: Mapping[str, Any]) -> None:
    domain, waf, canary = (
        part if isinstance(part := given.get(field), Mapping) else {}
        for field in ("domain", "waf", "canary")
    )
    checks.matches("domain.name", domain.get("name"), _DOMAIN, "a domain name: api.example.com")
    checks.matches("domain.certificate_arn", domain.get("certificate_arn"), _CERTIFICATE,
                   "the ARN of a certificate in ACM", "aws acm list-certificates")  # fmt: skip
    checks.matches("domain.base_path", domain.get("base_path"), re.compile(r"[A-Za-z0-9._-]+"),
                   "one part of a path without a slash")  # fmt: skip
    checks.number("waf.requests_per_address", waf.get("requests_per_address"), 10, 2e9, whole=True)
    window = waf.get("window_seconds")
    if window is not None and is_plain(window) and window not in (60, 120, 300, 600):
        checks.add("waf.window_seconds", window, "60, 120, 300 or 600")
    checks.matches("waf.web_acl_arn", waf.get("web_acl_arn"), _ACL, "the ARN of a regional web ACL")
    if waf.get("web_acl_arn") is not None and len(waf) > 1:
        checks.add("waf.web_acl_arn", "given", "nothing beside it", "remove one of the two")
    checks.number("canary.percent", canary.get("percent"), 0.1, 50)
    if isinstance(given.get("throttle"), Mapping):
        _check_throttle(checks, given["throttle"], "throttle.")
    pools = given.get("cognito", {}).get("user_pool_arns") if isinstance(
        given.get("cognito"), Mapping
    ) else None  # fmt: skip
    for index, pool in enumerate(pools if isinstance(pools, list) else []):
        checks.matches(f"cognito.user_pool_arns[{index}]", pool, _POOL, "the ARN of a user pool")
    if isinstance(given.get("jwt"), Mapping):
        checks.matches("jwt.issuer", given["jwt"].get("issuer"), re.compile(r"https://\S+"),
                       "the issuer's https address")  # fmt: skip
    checks.matches("stage_name", given.get("stage_name"), _STAGE,
                   "up to 128 letters, digits, dashes and underscores")  # fmt: skip
    checks.matches("log_kms_key_arn", given.get("log_kms_key_arn"), KMS_KEY,
                   "the ARN of a KMS key (not of an alias)")  # fmt: skip
    checks.matches("alarm_topic_arn", given.get("alarm_topic_arn"), TOPIC, "the ARN of a topic")
    checks.matches("bundle_digest", given.get("bundle_digest"),
                   re.compile(f"({DIGEST.pattern})?"), "sha256: and 64 hex digits")  # fmt: skip
    checks.number("client_error_rate", given.get("client_error_rate"), 0.001, 0.99)
    checks.number("quota_percent", given.get("quota_percent"), 1, 10_000)
    check_slo(checks, given.get("slo"))
    log = given.get("log")
    days = log.get("retention_days") if isinstance(log, Mapping) else None
    if days is not None and is_plain(days) and days not in LOG_DAYS:
        checks.add("log.retention_days", days, ", ".join(map(str, LOG_DAYS)))
