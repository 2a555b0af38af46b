"""`Ec2Endpoint`: bundles served by machines behind a load balancer."""

import base64
from typing import Any, cast

import pulumi
import pulumi_aws as aws

import sixways
from sixways.api_key import ApiKey
from sixways.checks import InputsRefused
from sixways.cloud.console import console_page
from sixways.cloud.ec2.args import Ec2EndpointArgs, Ec2ModelArgs
from sixways.cloud.ec2.balancer import Balancer, create_balancer, idle_seconds
from sixways.cloud.ec2.boot import Boot, Model
from sixways.cloud.ec2.group import Size, create_group, create_template
from sixways.cloud.ec2.problems import problems
from sixways.cloud.ec2.role import machine_policy, trust_policy
from sixways.cloud.instances import instance
from sixways.cloud.network import CIDR, Network, create_network
from sixways.endpoint import bundle_digest
from sixways.plugin.api_key import sha256
from sixways.server.files import DRAIN_SECONDS, MAX_BODY_BYTES, REQUEST_SECONDS, keys_file

__all__ = ["Ec2Endpoint", "Ec2EndpointArgs", "Ec2ModelArgs", "problems"]

SSL_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
IMAGE = "/aws/service/debian/release/12/latest/{}"


class Ec2Endpoint(pulumi.ComponentResource):
    """Bundles behind an https address: a load balancer over machines in two zones or more.

    The machines run the server under systemd behind Nginx, in private subnets, without ssh; each
    fetches its bundles from S3 and verifies them. The update returns when the first machines are
    healthy; a later change replaces them one after the other in the background.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """Answers 200 while a machine is ready; needs no key."""
    api_key: pulumi.Output[str]
    """The key, a secret."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest; with several models that of all names and digests."""
    dashboard: pulumi.Output[str]
    """The target group in AWS's console: which machines are healthy, and their metrics."""
    load_balancer_arn_suffix: pulumi.Output[str]
    """The load balancer, as CloudWatch's dimension `LoadBalancer` names it."""
    target_group_arn_suffix: pulumi.Output[str]
    """The target group, as CloudWatch's dimension `TargetGroup` names it."""
    autoscaling_group_name: pulumi.Output[str]
    """The auto scaling group."""
    security_group_id: pulumi.Output[str]
    """Security group of the machines."""
    role_arn: pulumi.Output[str]
    """Role of the machines."""
    log_group_name: pulumi.Output[str]
    """CloudWatch log group with the machines' logs."""
    vpc_id: pulumi.Output[str]
    """The VPC."""

    def __init__(
        self, name: str, args: Ec2EndpointArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the endpoint.

        Args:
            name: the resource's name.
            args: see `Ec2EndpointArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"Ec2Endpoint {name}", found)
        super().__init__("sixways:cloud:Ec2Endpoint", name, None, opts)
        # Nothing given and None given are the same.
        args = cast(Ec2EndpointArgs, {k: v for k, v in args.items() if v is not None})
        self._name, self._args = name, args
        self._opts = pulumi.ResourceOptions(parent=self)
        self._tags: dict[str, pulumi.Input[str]] = dict(args.get("tags") or {})  # type: ignore[arg-type]
        self._dev = bool(args.get("dev"))
        least = pulumi.Output.from_input(args.get("min_size", 1 if self._dev else 2))
        if self._dev:
            pulumi.log.warn(
                "dev: a lone machine and one NAT gateway are single points of failure", self
            )
        network = self._network()
        balancer = self._balancer(network)
        key, parameter = self._keys()
        logs = self._logs()
        policy, profile, role = self._role(parameter, logs)
        template = create_template(
            name,
            parent=self,
            tags=self._tags,
            image_id=self._image(),
            instance_type=args["instance_type"],
            profile_arn=profile.arn,
            security_group_id=balancer.instance_group.id,
            user_data=self._user_data(parameter, logs),
            root_device=args.get("root_device", "/dev/xvda"),
            root_gb=args.get("root_gb", 30),
            kms_key_arn=args.get("kms_key_arn"),
        )
        group = create_group(
            name,
            template,
            network,
            balancer,
            Size(
                least,
                args.get("max_size", least.apply(lambda number: 2 * number)),
                args.get("target_cpu_percent", 60.0),
                args.get("target_requests_per_minute"),
            ),
            parent=self,
            tags=self._tags,
            grace_seconds=args.get("health_check_grace_seconds", 900),
            rollback_alarms=args.get("rollback_alarms", []),  # type: ignore[arg-type]
            depends_on=[policy, parameter],
        )
        self.url = self._url(balancer)
        self.health_url = pulumi.Output.concat(self.url, "/healthz")
        self.api_key = key
        self.bundle_digest = self._models().apply(bundle_digests)
        self.dashboard = balancer.target_group.arn.apply(_console)
        self.load_balancer_arn_suffix = balancer.load_balancer.arn_suffix
        self.target_group_arn_suffix = balancer.target_group.arn_suffix
        self.autoscaling_group_name = group.name
        self.security_group_id = balancer.instance_group.id
        self.role_arn = role.arn
        self.log_group_name = logs.name
        self.vpc_id = pulumi.Output.from_input(network.vpc_id)
        outputs = (output for output in Ec2Endpoint.__annotations__ if not output.startswith("_"))
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _network(self) -> Network:
        args = self._args
        if "vpc_id" in args:
            return Network(
                args["vpc_id"],
                args.get("public_subnet_ids", []),
                args["private_subnet_ids"],
            )
        zones: Any = args.get("availability_zones")
        if zones is None:
            names = aws.get_availability_zones_output(
                state="available",
                # No Local Zones: load balancers of this kind are not in them.
                filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
                opts=pulumi.InvokeOptions(parent=self),
            ).names
            zones = [names[0], names[1]]
        return create_network(
            self._name,
            zones,
            parent=self,
            tags=self._tags,
            cidr=str(args.get("vpc_cidr", CIDR)),
            one_gateway=self._dev,
            keep_zones="availability_zones" not in args,
        )

    def _balancer(self, network: Network) -> Balancer:
        args = self._args
        internal = args.get("internal", False)
        return create_balancer(
            self._name,
            network,
            parent=self,
            tags=self._tags,
            allowed_cidrs=args["allowed_cidrs"],  # type: ignore[arg-type]
            certificate_arn=args["certificate_arn"],
            ssl_policy=args.get("ssl_policy", SSL_POLICY),
            internal=internal,
            in_public_subnets=internal is not True,
            deletion_protection=args.get("deletion_protection", not self._dev),
            access_logs_bucket=args.get("access_logs_bucket"),
            request_seconds=self._request_seconds,
            drain_seconds=DRAIN_SECONDS,
        )

    @property
    def _request_seconds(self) -> pulumi.Output[float]:
        return pulumi.Output.from_input(self._args.get("request_seconds", REQUEST_SECONDS))

    def _keys(self) -> tuple[pulumi.Output[str], aws.ssm.Parameter]:
        """The key, and a parameter with the hashes that the machines read."""
        args = self._args
        if "api_key" in args:
            key = pulumi.Output.secret(args["api_key"])
            own = key.apply(sha256)
        else:
            made = ApiKey(f"{self._name}-key", opts=self._opts)
            key, own = made.key, made.sha256
        hashes: dict[str, pulumi.Input[str]] = {"default": own}
        if "previous_api_key" in args:
            hashes["previous"] = pulumi.Output.secret(args["previous_api_key"]).apply(sha256)
        parameter = aws.ssm.Parameter(
            f"{self._name}-keys",
            type="SecureString",
            description="Sixways: SHA-256 of the keys that may call",
            value=pulumi.Output.all(**hashes).apply(keys_file),
            key_id=args.get("kms_key_arn"),
            tags=self._tags,
            opts=self._opts,
        )
        return key, parameter

    def _logs(self) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            f"{self._name}-logs",
            retention_in_days=self._args.get("log_retention_days", 30),
            tags=self._tags,
            opts=self._opts,
        )

    def _role(
        self, parameter: aws.ssm.Parameter, logs: aws.cloudwatch.LogGroup
    ) -> tuple[aws.iam.RolePolicy, aws.iam.InstanceProfile, aws.iam.Role]:
        args, name = self._args, self._name
        partition = aws.get_partition_output(opts=pulumi.InvokeOutputOptions(parent=self))
        role = aws.iam.Role(
            f"{name}-machine",
            assume_role_policy=partition.dns_suffix.apply(trust_policy),
            tags=self._tags,
            opts=self._opts,
        )
        keys = [args[field] for field in ("kms_key_arn", "bundle_kms_key_arn") if field in args]
        document = pulumi.Output.all(
            models=self._models(),
            wheelhouse=args.get("wheelhouse_uri"),
            parameter=parameter.arn,
            logs=logs.arn,
            keys=keys,
        ).apply(
            lambda v: machine_policy(
                folders=[model.bundle_uri for model in v["models"]]
                + ([v["wheelhouse"]] if v["wheelhouse"] else []),
                parameter_arn=v["parameter"],
                log_group_arn=v["logs"],
                kms_key_arns=v["keys"],
            )
        )
        policy = aws.iam.RolePolicy(
            f"{name}-machine", role=role.id, policy=document, opts=self._opts
        )
        profile = aws.iam.InstanceProfile(
            f"{name}-machine", role=role.name, tags=self._tags, opts=self._opts
        )
        return policy, profile, role

    def _models(self) -> pulumi.Output[tuple[Model, ...]]:
        models: pulumi.Output[Any] = pulumi.Output.from_input(self._args["models"])
        return models.apply(lambda given: tuple(Model(**model) for model in given))

    def _image(self) -> pulumi.Input[str]:
        args = self._args
        if "ami_id" in args:
            return args["ami_id"]
        known = pulumi.Output.from_input(args["instance_type"]).apply(_architecture)
        default = known.apply(
            lambda machine: IMAGE.format("arm64" if machine == "arm64" else "amd64")
        )
        found = aws.ssm.get_parameter_output(
            name=args.get("ami_parameter", default), opts=pulumi.InvokeOptions(parent=self)
        )
        # A public parameter: nothing of it is secret.
        return found.insecure_value

    def _user_data(
        self, parameter: aws.ssm.Parameter, logs: aws.cloudwatch.LogGroup
    ) -> pulumi.Output[str]:
        args = self._args
        return pulumi.Output.all(
            models=self._models(),
            parameter=parameter.name,
            parameter_version=parameter.version,
            arn=parameter.arn,
            log_group=logs.name,
            instance_type=args["instance_type"],
            version=args.get("version", sixways.__version__),
            package_index=args.get("package_index"),
            wheelhouse_uri=args.get("wheelhouse_uri"),
            workers=args.get("workers", 1),
            max_body_bytes=args.get("max_body_bytes", MAX_BODY_BYTES),
            requests_per_minute=args.get("requests_per_minute"),
            request_seconds=self._request_seconds,
        ).apply(_user_data)

    def _url(self, balancer: Balancer) -> pulumi.Output[str]:
        args = self._args
        if "domain" not in args:
            return pulumi.Output.concat("https://", balancer.load_balancer.dns_name)
        if "hosted_zone_id" in args:
            aws.route53.Record(
                f"{self._name}-domain",
                zone_id=args["hosted_zone_id"],
                name=args["domain"],
                type="A",
                aliases=[
                    {
                        "name": balancer.load_balancer.dns_name,
                        "zone_id": balancer.load_balancer.zone_id,
                        "evaluate_target_health": True,
                    }
                ],
                opts=self._opts,
            )
        return pulumi.Output.concat("https://", args["domain"])


def _user_data(values: dict[str, Any]) -> str:
    machine = instance(values["instance_type"])
    boot = Boot(
        models=tuple(values["models"]),
        region=values["arn"].split(":")[3],
        version=values["version"],
        keys_parameter=f"{values['parameter']}:{int(values['parameter_version'])}",
        log_group=values["log_group"],
        architecture=_architecture(values["instance_type"]),
        gpu=machine is not None and machine.accelerator == "nvidia",
        package_index=values["package_index"],
        wheelhouse_uri=values["wheelhouse_uri"],
        workers=int(values["workers"]),
        request_seconds=float(values["request_seconds"]),
        drain_seconds=DRAIN_SECONDS,
        max_body_bytes=int(values["max_body_bytes"]),
        requests_per_minute=values["requests_per_minute"] and int(values["requests_per_minute"]),
        # Longer than the load balancer's, which must be the one to close.
        keepalive_seconds=idle_seconds(values["request_seconds"]) + 10,
    )
    return base64.b64encode(boot.render().encode()).decode()


def _architecture(instance_type: str) -> str:
    machine = instance(instance_type)
    return machine.architecture if machine else "x86_64"


def bundle_digests(models: tuple[Model, ...]) -> str:
    """What is served, as one digest; see `bundle_digest` of the local endpoint."""
    return bundle_digest([{"name": m.name, "digest": m.bundle_digest} for m in models])


def _console(target_group_arn: str) -> str:
    region = target_group_arn.split(":")[3]
    return console_page(region, "ec2", f"TargetGroup:targetGroupArn={target_group_arn}")
