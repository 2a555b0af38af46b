"""Inputs of an `Ec2Endpoint`."""

from typing import NotRequired, TypedDict

import pulumi


class Ec2ModelArgs(TypedDict):
    """One model of an endpoint."""

    name: pulumi.Input[str]
    """The name requests use."""
    bundle_uri: pulumi.Input[str]
    """Where the bundle lies, unpacked: `s3://BUCKET/FOLDER/` (`BundleStore.uris`)."""
    bundle_digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`). A machine verifies every byte against it, when it
    fetches the bundle and when the server starts."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the first of the bundle that the machine can run."""


class Ec2EndpointArgs(TypedDict):
    """Inputs of an `Ec2Endpoint`. What changes a machine (bundle, instance type, key, image,
    version) replaces the machines step by step, new ones before old ones."""

    models: pulumi.Input[list[pulumi.Input[Ec2ModelArgs]]]
    """What to serve, at least one model."""
    instance_type: pulumi.Input[str]
    """EC2's instance type, e.g. `c7i.xlarge`."""
    certificate_arn: pulumi.Input[str]
    """Certificate in ACM for the load balancer; clients are served over TLS alone."""
    allowed_cidrs: pulumi.Input[list[pulumi.Input[str]]]
    """Networks that may call, e.g. `["203.0.113.0/24"]`; `["0.0.0.0/0"]` for everybody."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters. Default: a random one."""
    previous_api_key: NotRequired[pulumi.Input[str]]
    """A key that is accepted too, while clients move from it to `api_key`. Default: none."""
    min_size: NotRequired[pulumi.Input[int]]
    """Fewest machines. Default: 2, spread over the zones; 1 with `dev`."""
    max_size: NotRequired[pulumi.Input[int]]
    """Most machines. Default: twice `min_size`."""
    target_cpu_percent: NotRequired[pulumi.Input[float]]
    """Mean CPU use that the group is scaled to. Default: 60."""
    target_requests_per_minute: NotRequired[pulumi.Input[float]]
    """Requests a minute and machine that the group is scaled to, beside the CPU. Default: CPU
    alone."""
    health_check_grace_seconds: NotRequired[pulumi.Input[int]]
    """How long a new machine may take until it is healthy. Default: 900."""
    rollback_alarms: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Names of alarms that end a replacement of the machines and bring the old ones back, 10 at
    most. Default: none; machines that do not get healthy do so in any case."""
    ami_id: NotRequired[pulumi.Input[str]]
    """Machine image of the Debian family, with systemd and cloud-init. Default: what
    `ami_parameter` names at the time of the update."""
    ami_parameter: NotRequired[pulumi.Input[str]]
    """Public SSM parameter that holds an image's id. Default: Debian's own for Debian 12, so an
    update after a new image replaces the machines."""
    root_device: NotRequired[pulumi.Input[str]]
    """Device name of the image's root volume. Default: `/dev/xvda`, as in Debian's images."""
    root_gb: NotRequired[pulumi.Input[int]]
    """Size of the root volume in GiB. Default: 30."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """Key for root volumes and the keys' hashes. Its policy must let the service-linked role of
    EC2 Auto Scaling use it. Default: AWS's keys `aws/ebs` and `aws/ssm`."""
    bundle_kms_key_arn: NotRequired[pulumi.Input[str]]
    """Key that the bundles are encrypted with (`BundleStore.kms_key_arn`). Default: none."""
    internal: NotRequired[pulumi.Input[bool]]
    """Whether the load balancer has private addresses only. Default: false."""
    vpc_id: NotRequired[pulumi.Input[str]]
    """An existing VPC. Default: a new one, with a NAT gateway a zone (one with `dev`)."""
    public_subnet_ids: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Subnets of `vpc_id` for the load balancer, in 2 zones or more; not needed when internal."""
    private_subnet_ids: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Subnets of `vpc_id` for the machines, in 2 zones or more, with a way to the internet."""
    vpc_cidr: NotRequired[pulumi.Input[str]]
    """Network of the new VPC. Default: 10.64.0.0/16."""
    availability_zones: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Zones of the new VPC. Default: the first 2 of the region."""
    domain: NotRequired[pulumi.Input[str]]
    """Name of the certificate under which clients call. Default: the load balancer's own name,
    which no certificate of yours holds."""
    hosted_zone_id: NotRequired[pulumi.Input[str]]
    """Route 53 zone in which `domain` is made. Default: you make it."""
    ssl_policy: NotRequired[pulumi.Input[str]]
    """TLS versions and ciphers of the load balancer. Default:
    `ELBSecurityPolicy-TLS13-1-2-2021-06`: TLS 1.2 and 1.3."""
    deletion_protection: NotRequired[pulumi.Input[bool]]
    """Whether the load balancer refuses to be deleted. Default: true; false with `dev`."""
    access_logs_bucket: NotRequired[pulumi.Input[str]]
    """Bucket for the load balancer's access logs. Default: none; Nginx's are in CloudWatch."""
    log_retention_days: NotRequired[pulumi.Input[int]]
    """How long CloudWatch keeps the machines' logs. Default: 30."""
    workers: NotRequired[pulumi.Input[int]]
    """Processes that serve on one machine. Default: 1."""
    request_seconds: NotRequired[pulumi.Input[float]]
    """Longest time of a request, up to 3600; then 504. Default: 600."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """A larger body is refused with 413. Default: 8 MiB."""
    requests_per_minute: NotRequired[pulumi.Input[int]]
    """Requests of one key that one machine takes; over it 429. Default: no limit."""
    version: NotRequired[pulumi.Input[str]]
    """Version of sixways on the machines. Default: the version of this package."""
    package_index: NotRequired[pulumi.Input[str]]
    """Package index for pip. Default: PyPI; none with `wheelhouse_uri`."""
    wheelhouse_uri: NotRequired[pulumi.Input[str]]
    """`s3://BUCKET/FOLDER/` with wheels: of everything, or beside `package_index`. Default:
    none."""
    dev: NotRequired[pulumi.Input[bool]]
    """For trying out: one machine, one NAT gateway, no deletion protection. Default: false."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Tags of everything that can have some. Default: none."""
