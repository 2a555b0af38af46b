"""`ApiGateway`: a model as an API of Amazon API Gateway."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_aws as aws

from sixways.api.aws.alarms import RUNBOOK, create_counters, quota_alarm, section
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
from sixways.api.aws.document import HEALTH, Document, Proxy, SageMaker, text
from sixways.api.aws.domain import address as domain_address
from sixways.api.aws.domain import create_http_domain, create_rest_domain
from sixways.api.aws.http import address, create_http_api
from sixways.api.aws.keys import Caller, Place, callers, create_keys, create_plans
from sixways.api.aws.link import create_link, in_two_zones
from sixways.api.aws.logs import create_account_role, create_log_group, log_format
from sixways.api.aws.policies import endpoint_arn, invoke_policy, runtime_uri, trust_policy
from sixways.api.aws.problems import HTTP, REST, problems
from sixways.api.aws.rest import create_rest_api
from sixways.api.aws.routes import default_routes, is_open, operations
from sixways.api.aws.waf import create_web_acl
from sixways.api.defaults import REQUEST_SECONDS
from sixways.checks import InputsRefused
from sixways.cloud.dashboard import console_url, dashboard_body
from sixways.cloud.surroundings import Surroundings
from sixways.cloud.topic import ALARMS, create_topic
from sixways.observability.cloudwatch import create_alarm
from sixways.observability.slo import Slo
from sixways_bundle import Problem

__all__ = [
    "ApiGateway",
    "ApiGatewayArgs",
    "CanaryArgs",
    "CognitoArgs",
    "DomainArgs",
    "JwtArgs",
    "MethodThrottleArgs",
    "PrivateLinkArgs",
    "SageMakerTargetArgs",
    "ThrottleArgs",
    "WafArgs",
    "problems",
]

CLIENT_ERROR_RATE = 0.2


class ApiGateway(pulumi.ComponentResource):
    """An endpoint behind Amazon API Gateway: keys and plans, or tokens; limits, logs and alarms.

    Every route is guarded but the open ones. A change is deployed beside what is served, and the
    stage is led to it.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """The upstream's health through the gateway, without a key where `routes` leave it open. With
    `sagemaker` it says that the gateway answers."""
    api_key: pulumi.Output[str]
    """The first caller's key, a secret; callers show it as `x-api-key`. Empty with `kind: http`."""
    api_keys: pulumi.Output[dict[str, str]]
    """Every caller's key by the caller's name, a secret."""
    key_ids: pulumi.Output[dict[str, list[str]]]
    """The ids of every caller's keys, which the access log shows as `key_id`."""
    bundle_digest: pulumi.Output[str]
    """As given."""
    dashboard: pulumi.Output[str]
    """The dashboard's page in AWS's console."""
    api_id: pulumi.Output[str]
    """The API's id."""
    stage_name: pulumi.Output[str]
    """The stage that callers reach."""
    usage_plan_ids: pulumi.Output[dict[str, str]]
    """The usage plans' ids by their names."""
    log_group_name: pulumi.Output[str]
    """The log group of the access log."""
    web_acl_arn: pulumi.Output[str]
    """The web ACL; empty with `kind: http`."""
    topic_arn: pulumi.Output[str]
    """The SNS topic that alarms tell."""
    domain_target: pulumi.Output[str]
    """What the domain's record must point to; empty without `domain`."""

    def __init__(
        self, name: str, args: ApiGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the gateway.

        Args:
            name: the resource's name.
            args: see `ApiGatewayArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem, and nothing is made.
        """
        found = problems(name, args)
        if not found and args.get("openapi_file") is not None:
            args = _with_document(name, args)
            found = problems(name, args)
        if found:
            raise InputsRefused(f"ApiGateway {name}", found)
        super().__init__("sixways:api:ApiGateway", name, None, opts)
        # Nothing given and None given are the same.
        self._args: dict[str, Any] = {k: v for k, v in args.items() if v is not None}
        self._name = name
        self._opts = pulumi.ResourceOptions(parent=self)
        self._tags: dict[str, pulumi.Input[str]] = dict(self._args.get("tags") or {})
        self._around = Surroundings.of(self)
        self._routes = self._args.get("routes") or default_routes("sagemaker" in self._args)
        self._rest = self._args.get("kind", REST) != HTTP
        if self._args.get("dev"):
            pulumi.log.warn("dev: an http upstream or a single zone is let through", self)

        logs = create_log_group(
            name,
            self._args.get("log") or {},
            self._args.get("log_kms_key_arn"),
            self._tags,
            self._opts,
        )
        self.topic_arn = pulumi.Output.from_input(
            self._args.get("alarm_topic_arn")
            or create_topic(f"{name}-alarms", ALARMS, self._tags, self)
        )
        access_log: dict[str, pulumi.Input[str]] = {
            "destination_arn": logs.arn,
            "format": log_format(self._rest),
        }
        self.api_key = pulumi.Output.secret("")
        self.api_keys = pulumi.Output.secret({})
        self.key_ids = pulumi.Output.from_input({})
        self.usage_plan_ids = pulumi.Output.from_input({})
        self.web_acl_arn = pulumi.Output.from_input("")
        self.domain_target = pulumi.Output.from_input("")
        self._key_alarms: pulumi.Output[list[str]] = pulumi.Output.from_input([])
        dimensions = self._make_rest(access_log) if self._rest else self._make_http(access_log)
        self.log_group_name = logs.name
        self.bundle_digest = pulumi.Output.from_input(self._args.get("bundle_digest", ""))
        self.health_url = self._health_url()
        self.dashboard = self._watch(dimensions)
        outputs = (output for output in ApiGateway.__annotations__ if not output.startswith("_"))
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _make_rest(self, access_log: dict[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
        args, name, tags, opts = self._args, self._name, self._tags, self._opts
        account = (
            [create_account_role(name, self._around, tags, opts)]
            if args.get("account_log_role")
            else []
        )
        target, waits = self._target()
        made = create_rest_api(
            name,
            self._body(target),
            args,
            access_log,
            tags,
            parent=self,
            depends_on=[*account, *waits],
        )
        self.api_id, self.stage_name = made.api.id, made.stage.stage_name
        self.url = made.stage.invoke_url.apply(lambda url: url.rstrip("/"))
        if "domain" in args:
            self.domain_target = create_rest_domain(
                name, args["domain"], made.api, made.stage.stage_name, tags, opts
            )
            self.url = domain_address(args["domain"])
        self.web_acl_arn = create_web_acl(name, args.get("waf") or {}, made.stage.arn, tags, opts)
        self._make_keys()
        return {"ApiName": made.api.name, "Stage": made.stage.stage_name}

    def _make_http(self, access_log: dict[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
        args, name, tags, opts = self._args, self._name, self._tags, self._opts
        link = (
            create_link(name, args["private_link"], tags, opts) if "private_link" in args else None
        )
        made = create_http_api(
            name,
            operations(self._routes),
            pulumi.Output.from_input(args["upstream"]),
            link,
            args,
            access_log,
            tags,
            opts,
        )
        self.api_id, self.stage_name = made.api.id, made.stage.name
        self.url = made.api.api_endpoint
        if "domain" in args:
            self.domain_target = create_http_domain(
                name, args["domain"], made.api, made.stage, tags, opts
            )
            self.url = domain_address(args["domain"])
        return {"ApiId": made.api.id, "Stage": made.stage.name}

    def _target(self) -> tuple[pulumi.Output[Proxy | SageMaker], list[pulumi.Resource]]:
        """Where a REST API sends requests, and what must be there before it does."""
        args, name = self._args, self._name
        if "sagemaker" in args:
            return self._sagemaker(args["sagemaker"]["endpoint_name"])
        link_id: pulumi.Input[str] = ""
        balancer: pulumi.Input[str] = ""
        waits: list[pulumi.Resource] = []
        if "private_link" in args:
            link = create_link(name, args["private_link"], self._tags, self._opts)
            balancer = in_two_zones(
                f"ApiGateway {name}",
                args["private_link"]["load_balancer_arn"],
                self,
                bool(args.get("dev")),
            )
            link_id = link.id
            waits.append(link)
        known: pulumi.Output[dict[str, Any]] = pulumi.Output.all(
            upstream=args["upstream"],
            key=_secret(args["upstream"].get("api_key")),
            link=link_id,
            balancer=balancer,
            stream=args.get("stream", True),
        )
        return known.apply(_proxy), waits

    def _sagemaker(
        self, endpoint: pulumi.Input[str]
    ) -> tuple[pulumi.Output[Proxy | SageMaker], list[pulumi.Resource]]:
        around = self._around
        role = aws.iam.Role(
            f"{self._name}-invoke",
            description="API Gateway calls one SageMaker endpoint",
            assume_role_policy=around.account.apply(trust_policy),
            tags=self._tags,
            opts=self._opts,
        )
        where = pulumi.Output.all(around.partition, around.region, around.account, endpoint)
        policy = aws.iam.RolePolicy(
            f"{self._name}-invoke",
            role=role.name,
            policy=where.apply(lambda known: invoke_policy(endpoint_arn(*known))),
            opts=self._opts,
        )
        target = pulumi.Output.all(where, role.arn).apply(
            lambda known: SageMaker(runtime_uri(known[0][0], known[0][1], known[0][3]), known[1])
        )
        return target, [policy]

    def _body(self, target: pulumi.Output[Proxy | SageMaker]) -> pulumi.Output[str]:
        cognito = self._args.get("cognito") or {}
        title = f"{pulumi.get_project()}-{pulumi.get_stack()}-{self._name}"
        known: pulumi.Output[dict[str, Any]] = pulumi.Output.all(
            target=target,
            openapi=self._args.get("openapi"),
            pools=cognito.get("user_pool_arns") or [],
            scopes=cognito.get("scopes") or [],
        )
        return known.apply(
            lambda given: text(
                Document(
                    title,
                    self._routes,
                    given["target"],
                    json.loads(given["openapi"]) if given["openapi"] else None,
                    given["pools"],
                    given["scopes"],
                ).render()
            )
        )

    def _make_keys(self) -> None:
        args, name = self._args, self._name
        plans = {plan["name"]: plan for plan in args["plans"]}
        made = create_plans(
            name, args["plans"], self.api_id, self.stage_name, self._tags, self._opts
        )
        self.usage_plan_ids = pulumi.Output.all(**{plan: one.id for plan, one in made.items()})

        def watch(place: Place) -> aws.cloudwatch.MetricAlarm | None:
            plan = plans[place.plan]
            if plan.get("quota") is None:
                return None
            spec = quota_alarm(place.caller, plan, place.key_id, args.get("quota_percent"))
            return self._alarm(spec, f"{name}-quota-{place.resource}")

        found: list[Caller] = callers(name, args["keys"], self._opts)
        keys = create_keys(name, found, made, watch, self._tags, self._opts)
        self.api_key = found[0].key
        self.api_keys = pulumi.Output.all(**{one.name: one.key for one in found})
        self.key_ids = keys.apply(_ids)
        self._key_alarms = keys.apply(
            lambda each: pulumi.Output.all(*(alarm.arn for _, alarm in each if alarm is not None))
        )

    def _alarm(self, spec: Any, resource: str) -> aws.cloudwatch.MetricAlarm:
        return create_alarm(
            spec,
            resource,
            alarm_actions=[self.topic_arn],
            tags=self._tags,
            opts=self._opts,
            runbook_url=RUNBOOK,
        )

    def _health_url(self) -> pulumi.Output[str]:
        if "sagemaker" in self._args:
            return pulumi.Output.concat(self.url, HEALTH)
        path = self._args["upstream"]["health_path"]
        if isinstance(path, str) and not is_open(path, self._routes):
            pulumi.log.info(f"{self._name}: {path} is not among the open routes: health_url "
                            "wants a key or is no route", self)  # fmt: skip
        return pulumi.Output.concat(self.url, path)

    def _watch(self, dimensions: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[str]:
        """Alarms, counters and the dashboard; returns the dashboard's page."""
        args, name = self._args, self._name
        slo = Slo.of(args.get("slo"))
        with_quota = any(plan.get("quota") is not None for plan in args.get("plans") or [])
        shown = section(
            slo,
            args.get("client_error_rate", CLIENT_ERROR_RATE),
            dimensions,
            rest=self._rest,
            with_quota=with_quota,
            api_id=self.api_id,
        )
        if with_quota:
            create_counters(name, self.log_group_name, self._opts)
        alarms = [self._alarm(spec, f"{name}-{spec.key}") for spec in shown.alarms]
        whole = f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}"
        arns = pulumi.Output.all(pulumi.Output.all(*(one.arn for one in alarms)), self._key_alarms)
        body: pulumi.Output[Any] = arns.apply(
            lambda known: pulumi.Output.from_input(
                dashboard_body(
                    f"{pulumi.get_project()} {pulumi.get_stack()}: {name}",
                    slo,
                    [shown],
                    [*known[0], *known[1]],
                    self._around.region,
                    RUNBOOK,
                )
            )
        )
        board = aws.cloudwatch.Dashboard(
            f"{name}-dashboard",
            dashboard_name=re.sub(r"[^A-Za-z0-9_-]", "-", whole)[:255],
            dashboard_body=pulumi.Output.json_dumps(body),
            opts=self._opts,
        )
        return pulumi.Output.all(self._around.region, board.dashboard_name).apply(
            lambda both: console_url(*both)
        )


def _with_document(name: str, args: ApiGatewayArgs) -> ApiGatewayArgs:
    """The inputs with the text of `openapi_file` as `openapi`."""
    path = args["openapi_file"]
    try:
        document = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        accepted = f"a file with the server's OpenAPI document ({error})"
        problem = Problem("openapi_file", path, accepted, "curl SERVER/openapi.json > FILE")
        raise InputsRefused(f"ApiGateway {name}", [problem]) from None
    others = {field: value for field, value in args.items() if field != "openapi_file"}
    return cast(ApiGatewayArgs, {**others, "openapi": document})


def _secret(value: Any) -> Any:
    return None if value is None else pulumi.Output.secret(value)


def _proxy(known: dict[str, Any]) -> Proxy | SageMaker:
    upstream = known["upstream"]
    return Proxy(
        address(upstream),
        upstream.get("request_seconds") or REQUEST_SECONDS,
        known["stream"],
        known["key"] or "",
        known["link"],
        known["balancer"],
    )


def _ids(each: list[tuple[Place, Any]]) -> pulumi.Output[dict[str, list[str]]]:
    by_caller: dict[str, list[pulumi.Output[str]]] = {}
    for place, _ in each:
        by_caller.setdefault(place.caller, []).append(place.key_id)
    return pulumi.Output.from_input(by_caller)  # type: ignore[arg-type]
