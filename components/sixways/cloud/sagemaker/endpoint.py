"""`SageMakerEndpoint`: bundles behind an endpoint of Amazon SageMaker."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.cloud.console import console_page
from sixways.cloud.sagemaker import checks, defaults
from sixways.cloud.sagemaker.args import (
    SageMakerAsyncArgs,
    SageMakerBundleArgs,
    SageMakerCaptureArgs,
    SageMakerDeploymentArgs,
    SageMakerEndpointArgs,
    SageMakerServerlessArgs,
    SageMakerVariantArgs,
)
from sixways.cloud.sagemaker.checks import problems
from sixways.cloud.sagemaker.hosting import Around, Hosted, host
from sixways.cloud.sagemaker.modes import ASYNC, SERVERLESS, STEPWISE, TO_ZERO
from sixways.cloud.sagemaker.network import Network, create_network
from sixways.cloud.sagemaker.policies import invoke_policy
from sixways.cloud.sagemaker.role import create_role
from sixways.cloud.sagemaker.storage import create_key, create_log_groups
from sixways.cloud.sagemaker.variants import create_model
from sixways.cloud.surroundings import Surroundings
from sixways.endpoint import bundle_digest
from sixways.observability.cloudwatch import create_alarm, sagemaker_slo_alarms
from sixways.observability.slo import Slo

__all__ = [
    "SageMakerAsyncArgs",
    "SageMakerBundleArgs",
    "SageMakerCaptureArgs",
    "SageMakerDeploymentArgs",
    "SageMakerEndpoint",
    "SageMakerEndpointArgs",
    "SageMakerServerlessArgs",
    "SageMakerVariantArgs",
    "problems",
]


class SageMakerEndpoint(pulumi.ComponentResource):
    """Bundles behind an endpoint of Amazon SageMaker: real-time, asynchronous or serverless.

    An update makes new models and a new configuration, SageMaker moves the traffic to new
    instances, and what is old goes when that is done. Alarms on the objective undo an update.
    """

    url: pulumi.Output[str]
    """Where requests go, signed with SigV4 (boto3 does that): `…/endpoints/NAME/invocations`, in
    mode `async` `…/async-invocations`."""
    health_url: pulumi.Output[str]
    """Empty: SageMaker looks after the containers' health itself, and shows nothing of it to a
    caller without credentials. Ask DescribeEndpoint, or look at the alarms."""
    api_key: pulumi.Output[str]
    """Empty, and a secret: SageMaker checks its callers by IAM (`invoke_policy_json`)."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest; with several variants that answer, that of all names and digests."""
    dashboard: pulumi.Output[str]
    """The endpoint's page in AWS's console."""
    endpoint_name: pulumi.Output[str]
    """The endpoint's name."""
    endpoint_arn: pulumi.Output[str]
    """The endpoint's ARN."""
    variant_names: pulumi.Output[list[str]]
    """The names of its variants, shadows included, in the order they were given."""
    inference_component_names: pulumi.Output[dict[str, str]]
    """In mode `scale-to-zero`, by variant: what callers give as `InferenceComponentName`. Else
    empty."""
    alarm_names: pulumi.Output[list[str]]
    """Its alarms on the objective, then `rollback_alarm_names`. In the modes `real-time` and
    `async` each of them undoes an update."""
    invoke_policy_json: pulumi.Output[str]
    """An IAM policy with what callers need and no more."""
    role_arn: pulumi.Output[str]
    """The role it runs with."""
    kms_key_arn: pulumi.Output[str]
    """The key of its volumes, captured data and asynchronous answers; also the log's, where it is
    the endpoint's own."""
    log_group_name: pulumi.Output[str]
    """The server's log; in mode `scale-to-zero` each inference component has one of its own,
    `/aws/sagemaker/InferenceComponents/NAME`."""

    def __init__(
        self, name: str, args: SageMakerEndpointArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the endpoint and all it needs.

        Args:
            name: the component's name.
            args: see `SageMakerEndpointArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: AWS would refuse the inputs; carries every problem.
        """
        checks.refuse(name, args)
        super().__init__("sixways:cloud:SageMakerEndpoint", name, None, opts)
        if args.get("dev") and defaults.mode(args) in STEPWISE:
            pulumi.log.warn("dev: one instance is permitted; while it is replaced or fails, "
                            "nobody answers", self)  # fmt: skip
        child = pulumi.ResourceOptions(parent=self)
        tags = args.get("tags", {})
        endpoint_name = defaults.endpoint_name(name, args)
        groups = defaults.log_groups(name, args)
        around = Surroundings.of(self)

        own_key = None
        if args.get("kms_key_arn") is None:
            own_key = create_key(name, endpoint_name, list(groups.values()), around, tags, child)
        key_arn = own_key.arn if own_key else pulumi.Output.from_input(args["kms_key_arn"])
        logs = create_log_groups(
            groups,
            args.get("log_retention_days", defaults.LOG_RETENTION_DAYS),
            args.get("log_kms_key_arn", own_key.arn if own_key else None),
            tags,
            child,
        )
        network = create_network(name, endpoint_name, args, around, child)
        alarms = _alarms(name, endpoint_name, args, child)
        watched = [*(alarm.name for alarm in alarms), *args.get("rollback_alarm_names", [])]
        role_arn, role_ready = _role(
            name, list(groups.values()), args, around, network, key_arn, watched, child
        )
        models = [
            create_model(
                name,
                variant,
                args,
                role_arn=role_arn,
                vpc_config=network.vpc_config if network else None,
                tags=tags,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=role_ready,
                    # The provider would take other subnets for an update, and change nothing.
                    replace_on_changes=["vpcConfig"],
                ),
            )
            for variant in args["variants"]
        ]
        hosted = host(
            name,
            args,
            models,
            Around(
                role_arn=role_arn,
                key_arn=key_arn,
                network=network,
                alarm_names=watched,
                ready=[*logs, *role_ready, *(network.ready if network else ())],
            ),
            child,
        )
        self._outputs(args, around, hosted, watched, role_arn, key_arn, logs[0])

    def _outputs(
        self,
        args: SageMakerEndpointArgs,
        around: Surroundings,
        hosted: Hosted,
        alarm_names: Sequence[pulumi.Input[str]],
        role_arn: pulumi.Input[str],
        key_arn: pulumi.Output[str],
        log: aws.cloudwatch.LogGroup,
    ) -> None:
        path = "async-invocations" if defaults.mode(args) == ASYNC else "invocations"
        name = hosted.name
        self.url = pulumi.Output.concat(
            "https://runtime.sagemaker.", around.region, ".", around.domain, "/endpoints/", name,
            f"/{path}",
        )  # fmt: skip
        self.health_url = pulumi.Output.from_input("")
        self.api_key = pulumi.Output.secret("")
        self.bundle_digest = _bundle_digest(args)
        self.dashboard = pulumi.Output.all(around.region, name).apply(
            lambda known: console_page(known[0], "sagemaker", f"/endpoints/{known[1]}")
        )
        self.endpoint_name = name
        self.endpoint_arn = hosted.arn
        self.variant_names = pulumi.Output.from_input(
            [defaults.variant_name(variant) for variant in args["variants"]]
        )
        self.inference_component_names = pulumi.Output.all(**hosted.component_names)
        self.alarm_names = pulumi.Output.all(*alarm_names)
        self.invoke_policy_json = _invoke_policy(args, hosted.arn, key_arn)
        self.role_arn = pulumi.Output.from_input(role_arn)
        self.kms_key_arn = key_arn
        self.log_group_name = log.name
        self.register_outputs({field: getattr(self, field) for field in type(self).__annotations__})


def _role(
    name: str,
    log_groups: Sequence[str],
    args: SageMakerEndpointArgs,
    around: Surroundings,
    network: Network | None,
    key_arn: pulumi.Output[str],
    alarm_names: Sequence[pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.Input[str], list[pulumi.Resource]]:
    """The role's ARN, and what must be there before it can be used."""
    given = args.get("role_arn")
    if given is not None:
        return given, []
    bundles = [variant["bundle"] for variant in args["variants"]]
    asynchronous: Any = args.get("asynchronous", {})
    capture: Any = args.get("capture", {})
    writes = (asynchronous.get("output_uri"), asynchronous.get("failure_uri"), capture.get("uri"))
    topics = (asynchronous.get("success_topic_arn"), asynchronous.get("error_topic_arn"))
    write_keys = [part.get("kms_key_arn", key_arn) for part in (asynchronous, capture) if part]
    needs: dict[str, Any] = {
        "log_groups": list(log_groups),
        "image_uri": args["image_uri"],
        "bundles": [bundle["uri"] for bundle in bundles],
        "read_keys": [bundle["kms_key_arn"] for bundle in bundles if "kms_key_arn" in bundle],
        "reads": [asynchronous["input_uri"]] if asynchronous else [],
        "writes": [uri for uri in writes if uri is not None],
        "write_keys": write_keys,
        "volume_keys": [] if defaults.mode(args) == SERVERLESS else [key_arn],
        "topics": [topic for topic in topics if topic is not None],
        "alarms": list(alarm_names) if defaults.mode(args) in STEPWISE else [],
        "subnets": list(network.subnets) if network else [],
        "security_groups": list(network.security_groups) if network else [],
    }
    role, policy = create_role(name, around, needs, args.get("tags", {}), opts)
    return role.arn, [role, policy]


def _alarms(
    name: str, endpoint_name: str, args: SageMakerEndpointArgs, opts: pulumi.ResourceOptions
) -> list[aws.cloudwatch.MetricAlarm]:
    """Two alarms on the objective for each variant that answers callers."""
    slo = Slo.of(args.get("slo"))
    watched = [defaults.variant_name(v) for v in defaults.in_production(args["variants"])]
    if defaults.mode(args) == TO_ZERO:
        watched = [defaults.SHARED]
    return [
        create_alarm(
            spec,
            f"{name}-{variant}-{spec.key}",
            alarm_actions=args.get("alarm_actions", []),
            tags=args.get("tags", {}),
            opts=opts,
        )
        for variant in watched
        for spec in sagemaker_slo_alarms(slo, endpoint_name, variant, mode=defaults.mode(args))
    ]


def _bundle_digest(args: SageMakerEndpointArgs) -> pulumi.Output[str]:
    """The one bundle's digest; of several, one digest as `LocalEndpoint` makes it."""
    bundles = [variant["bundle"] for variant in defaults.in_production(args["variants"])]

    def join(known: list[tuple[str, str]]) -> str:
        # Two variants may serve one bundle on different instances.
        served = {(name, digest) for name, digest in known}
        return bundle_digest([{"name": name, "digest": digest} for name, digest in served])

    return pulumi.Output.all(*((b["name"], b["digest"]) for b in bundles)).apply(join)


def _invoke_policy(
    args: SageMakerEndpointArgs, endpoint_arn: pulumi.Output[str], key_arn: pulumi.Output[str]
) -> pulumi.Output[str]:
    asynchronous: Any = args.get("asynchronous", {})
    answers = [asynchronous.get(field) for field in ("output_uri", "failure_uri")]
    return pulumi.Output.all(
        arn=endpoint_arn,
        writes=[asynchronous["input_uri"]] if asynchronous else [],
        reads=[uri for uri in answers if uri is not None],
        keys=[asynchronous.get("kms_key_arn", key_arn)] if asynchronous else [],
    ).apply(
        lambda known: invoke_policy(
            known["arn"], mode=defaults.mode(args), reads=known["reads"],
            writes=known["writes"], keys=known["keys"],
        )
    )  # fmt: skip
