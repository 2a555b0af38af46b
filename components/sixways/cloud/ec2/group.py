"""The machines: launch template, auto scaling group, and what scales it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from sixways.cloud.ec2.balancer import Balancer
from sixways.cloud.network import Network


@dataclass(frozen=True)
class Size:
    """How many machines, and what decides it."""

    least: pulumi.Input[int]
    most: pulumi.Input[int]
    cpu_percent: pulumi.Input[float]
    requests_per_minute: pulumi.Input[float] | None


def create_template(
    name: str,
    *,
    parent: pulumi.Resource,
    tags: dict[str, pulumi.Input[str]],
    image_id: pulumi.Input[str],
    instance_type: pulumi.Input[str],
    profile_arn: pulumi.Input[str],
    security_group_id: pulumi.Input[str],
    user_data: pulumi.Input[str],
    root_device: pulumi.Input[str],
    root_gb: pulumi.Input[int],
    kms_key_arn: pulumi.Input[str] | None,
) -> aws.ec2.LaunchTemplate:
    """What every machine is made from. Nobody logs in: there is no key pair and no ssh."""
    named = {"Name": name, **tags}
    return aws.ec2.LaunchTemplate(
        f"{name}-machine",
        image_id=image_id,
        instance_type=instance_type,
        iam_instance_profile={"arn": profile_arn},
        user_data=user_data,
        update_default_version=True,
        ebs_optimized="true",
        monitoring={"enabled": True},
        metadata_options={
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
            "instance_metadata_tags": "disabled",
        },
        block_device_mappings=[
            {
                "device_name": root_device,
                "ebs": {
                    "volume_type": "gp3",
                    "volume_size": root_gb,
                    "encrypted": "true",
                    "kms_key_id": kms_key_arn,
                    "delete_on_termination": "true",
                },
            }
        ],
        network_interfaces=[
            {
                "associate_public_ip_address": "false",
                "delete_on_termination": "true",
                "security_groups": [security_group_id],
            }
        ],
        tag_specifications=[
            {"resource_type": kind, "tags": named} for kind in ("instance", "volume")
        ],
        tags=tags,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def create_group(
    name: str,
    template: aws.ec2.LaunchTemplate,
    network: Network,
    balancer: Balancer,
    size: Size,
    *,
    parent: pulumi.Resource,
    tags: dict[str, pulumi.Input[str]],
    grace_seconds: pulumi.Input[int],
    rollback_alarms: Sequence[pulumi.Input[str]],
    depends_on: Sequence[pulumi.Resource],
) -> aws.autoscaling.Group:
    """The group over all zones. Another version of the template replaces the machines: the new ones
    come first, and where they do not get healthy, the old version comes back."""
    opts = pulumi.ResourceOptions(parent=parent)
    preferences = aws.autoscaling.GroupInstanceRefreshPreferencesArgs(
        min_healthy_percentage=100,
        max_healthy_percentage=200,
        auto_rollback=True,
        skip_matching=True,
        alarm_specification=aws.autoscaling.GroupInstanceRefreshPreferencesAlarmSpecificationArgs(
            alarms=rollback_alarms
        )
        if rollback_alarms
        else None,
    )
    group = aws.autoscaling.Group(
        f"{name}-group",
        min_size=size.least,
        max_size=size.most,
        vpc_zone_identifiers=network.private_subnet_ids,
        launch_template=aws.autoscaling.GroupLaunchTemplateArgs(
            id=template.id, version=template.latest_version.apply(lambda version: f"{version:g}")
        ),
        target_group_arns=[balancer.target_group.arn],
        health_check_type="ELB",
        health_check_grace_period=grace_seconds,
        default_instance_warmup=120,
        # The update waits until so many answer behind the load balancer.
        min_elb_capacity=size.least,
        wait_for_capacity_timeout="20m",
        instance_refresh=aws.autoscaling.GroupInstanceRefreshArgs(
            strategy="Rolling", preferences=preferences
        ),
        enabled_metrics=[
            aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
            aws.autoscaling.Metric.GROUP_DESIRED_CAPACITY,
            aws.autoscaling.Metric.GROUP_MAX_SIZE,
        ],
        tags=[
            aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=False)
            for key, value in {"Name": name, **tags}.items()
        ],
        # A machine that starts before these would not be healthy, not be allowed to read, or not
        # reach what it installs.
        opts=pulumi.ResourceOptions(
            parent=parent, depends_on=[balancer.listener, *network.private_ready, *depends_on]
        ),
    )
    _policy(f"{name}-cpu", group, "ASGAverageCPUUtilization", size.cpu_percent, None, opts)
    if size.requests_per_minute is not None:
        label = pulumi.Output.concat(
            balancer.load_balancer.arn_suffix, "/", balancer.target_group.arn_suffix
        )
        kind = "ALBRequestCountPerTarget"
        _policy(f"{name}-requests", group, kind, size.requests_per_minute, label, opts)
    return group


def _policy(
    name: str,
    group: aws.autoscaling.Group,
    metric: str,
    target: pulumi.Input[float],
    label: pulumi.Input[str] | None,
    opts: pulumi.ResourceOptions,
) -> None:
    aws.autoscaling.Policy(
        name,
        autoscaling_group_name=group.name,
        policy_type="TargetTrackingScaling",
        target_tracking_configuration={
            "target_value": target,
            "predefined_metric_specification": {
                "predefined_metric_type": metric,
                "resource_label": label,
            },
        },
        opts=opts,
    )
