"""`CloudMonitoring`: alarms, a dashboard and log retention of an endpoint on AWS."""

import re

import pulumi
import pulumi_aws as aws

from sixways.checks import InputsRefused
from sixways.cloud.alarms import (
    AGENT,
    Ec2Target,
    Limits,
    SageMakerTarget,
    Section,
    ec2_sections,
    sagemaker_sections,
)
from sixways.cloud.dashboard import console_url, dashboard_body
from sixways.cloud.monitoring_args import (
    CloudMonitoringArgs,
    MonitoredVariantArgs,
    ThresholdsArgs,
    instance_types,
    problems,
)
from sixways.cloud.sagemaker.modes import REAL_TIME
from sixways.cloud.topic import ALARMS, create_topic
from sixways.observability.cloudwatch import RUNBOOK, create_alarm
from sixways.observability.slo import Slo

__all__ = [
    "CloudMonitoring",
    "CloudMonitoringArgs",
    "MonitoredVariantArgs",
    "ThresholdsArgs",
    "problems",
]


class CloudMonitoring(pulumi.ComponentResource):
    """Watches one endpoint: its objective, what it refuses, how busy it is and what it costs."""

    topic_arn: pulumi.Output[str]
    """The SNS topic that alarms write to."""
    alarm_names: pulumi.Output[list[str]]
    """The alarms' names."""
    alarm_arns: pulumi.Output[list[str]]
    """The alarms' ARNs."""
    dashboard: pulumi.Output[str]
    """The dashboard's page in AWS's console."""
    dashboard_name: pulumi.Output[str]
    """The dashboard's name."""

    def __init__(
        self, name: str, args: CloudMonitoringArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Creates alarms, dashboard, topic and log groups.

        Args:
            name: the resource's name.
            args: see `CloudMonitoringArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: the inputs cannot be used; nothing is created.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"CloudMonitoring {name}", found)
        super().__init__("sixways:cloud:CloudMonitoring", name, None, opts)
        tags = args.get("tags") or {}
        runbook = args.get("runbook_url", RUNBOOK)
        slo = Slo.of(args.get("slo"))
        sections = _sections(args, slo)
        self._say_what_is_left_out(name, args)

        child = pulumi.ResourceOptions(parent=self)
        topic_arn = (
            args["topic_arn"]
            if "topic_arn" in args
            else create_topic(f"{name}-alarms", ALARMS, tags, self)
        )
        for address in args.get("emails") or []:
            aws.sns.TopicSubscription(
                f"{name}-{address}",
                topic=topic_arn,
                protocol="email",
                endpoint=address,
                opts=child,
            )
        alarms = [
            create_alarm(
                spec,
                "-".join(part for part in (name, section.name, spec.key) if part),
                alarm_actions=[topic_arn],
                tags=tags,
                opts=child,
                runbook_url=runbook,
            )
            for section in sections
            for spec in section.alarms
        ]
        for group in args.get("log_group_names") or []:
            aws.cloudwatch.LogGroup(
                f"{name}-log{group if group.startswith('/') else f'/{group}'}",
                name=group,
                retention_in_days=args.get("log_retention_days", 30),
                tags=dict(tags),
                opts=child,
            )
        region = aws.get_region_output(opts=pulumi.InvokeOptions(parent=self)).region
        self.alarm_names = pulumi.Output.all(*(alarm.name for alarm in alarms))
        self.alarm_arns = pulumi.Output.all(*(alarm.arn for alarm in alarms))
        body = dashboard_body(
            f"{pulumi.get_project()} {pulumi.get_stack()}: {name}",
            slo,
            sections,
            [alarm.arn for alarm in alarms],
            region,
            runbook,
        )
        board = aws.cloudwatch.Dashboard(
            f"{name}-dashboard",
            dashboard_name=_dashboard_name(name),
            dashboard_body=pulumi.Output.json_dumps(body),
            opts=child,
        )
        self.topic_arn = pulumi.Output.from_input(topic_arn)
        self.dashboard_name = board.dashboard_name
        self.dashboard = pulumi.Output.all(region, board.dashboard_name).apply(
            lambda both: console_url(*both)
        )
        self.register_outputs(
            {
                "topic_arn": self.topic_arn,
                "alarm_names": self.alarm_names,
                "alarm_arns": self.alarm_arns,
                "dashboard": self.dashboard,
                "dashboard_name": self.dashboard_name,
            }
        )

    def _say_what_is_left_out(self, name: str, args: CloudMonitoringArgs) -> None:
        without = sorted(instance_types(args) - set(args.get("hourly_price_usd") or {}))
        if without:
            wanted = ", ".join(f"{instance_type!r}: USD" for instance_type in without)
            pulumi.log.info(
                f"{name}: the cost of a thousand requests is left out; it needs "
                f"hourly_price_usd={{{wanted}}}",
                self,
            )


def _sections(args: CloudMonitoringArgs, slo: Slo) -> list[Section]:
    limits = Limits(**(args.get("thresholds") or {}))
    prices = args.get("hourly_price_usd") or {}
    if "endpoint_name" in args:
        variants = {v["name"]: v.get("instance_type", "") for v in args.get("variants", [])}
        target = SageMakerTarget(args["endpoint_name"], variants, args.get("mode", REAL_TIME))
        return sagemaker_sections(target, slo, limits, prices)
    group = Ec2Target(
        args["load_balancer_arn_suffix"],
        args["target_group_arn_suffix"],
        args["autoscaling_group_name"],
        args.get("instance_type", ""),
        args.get("agent_namespace", AGENT),
    )
    return ec2_sections(group, slo, limits, prices)


def _dashboard_name(name: str) -> str:
    """CloudWatch takes A-Z, a-z, 0-9, - and _, at most 255 of them."""
    whole = f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}"
    return re.sub(r"[^A-Za-z0-9_-]", "-", whole)[:255]
