"""The inputs of `SageMakerEndpoint`.

What decides which resources there are is plain (names, mode, counts of variants), all else may be
an output. Limits are those of SageMaker's API, as botocore's model of it states them.
"""

from typing import NotRequired, TypedDict

import pulumi

from sixways.cloud.sagemaker.copies import SageMakerScaleToZeroArgs
from sixways.cloud.sagemaker.scaling import SageMakerScalingArgs
from sixways.observability.slo import SloArgs


class SageMakerBundleArgs(TypedDict):
    """A bundle in S3, and which variant of it is served."""

    name: pulumi.Input[str]
    """The model's name in requests."""
    uri: pulumi.Input[str]
    """Where the bundle's files are: `s3://BUCKET/PREFIX/`, with the slash at its end. In mode
    `serverless` the archive: `s3://BUCKET/KEY.tar.gz`, since AWS unpacks nothing else there."""
    digest: pulumi.Input[str]
    """The bundle's digest. The server reads every byte and does not start with another bundle."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the first of the bundle that the instance can run."""
    size: NotRequired[pulumi.Input[int]]
    """Bytes of that variant's files, which must fit the instance's memory. Default: not checked."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The KMS key that the files are encrypted with. Default: S3's own encryption, or a key that
    `role_arn` may use already."""


class SageMakerServerlessArgs(TypedDict):
    """The size of a serverless variant."""

    memory_mb: NotRequired[pulumi.Input[int]]
    """Memory in MB: 1024, 2048, 3072, 4096, 5120 or 6144. Default: 4096."""
    max_concurrency: NotRequired[pulumi.Input[int]]
    """Requests at the same time, 1 to 200; more get 429. Default: 20."""
    provisioned_concurrency: NotRequired[pulumi.Input[int]]
    """How many of them never start cold; these cost also while idle. Default: none."""


class SageMakerVariantArgs(TypedDict):
    """One variant of the endpoint: a bundle on instances of one type, with a share of the
    requests."""

    name: NotRequired[str]
    """Letters, digits and hyphens, at most 63. A change of it is no update that SageMaker can move
    traffic for step by step. Default: `main`."""
    bundle: SageMakerBundleArgs
    """What it serves."""
    instance_type: NotRequired[pulumi.Input[str]]
    """`ml.c6i.xlarge` and the like; not in mode `serverless`. A change of it makes a new
    configuration, and new instances take over before the old ones go."""
    instance_count: NotRequired[pulumi.Input[int]]
    """Instances at the start, spread over zones. Default: 2, and 1 with `dev`."""
    weight: NotRequired[pulumi.Input[float]]
    """Its share of the requests is its weight among the sum of all. Of a shadow variant: the share
    of requests it gets a copy of, beside the weight of the other variant: 0.5 beside 1 is half of
    them. Default: 1."""
    shadow: NotRequired[bool]
    """Whether it gets copies of requests and its answers are dropped. SageMaker takes one, beside
    exactly one other variant. Default: false."""
    environment: NotRequired[dict[str, pulumi.Input[str]]]
    """More settings of the server (`SIXWAYS_WORKERS` …). No secrets: SageMaker shows them."""
    startup_timeout_seconds: NotRequired[pulumi.Input[int]]
    """How long the server may take until it is ready, 60 to 3600. Default: 600, since every byte
    of the bundle is read first."""
    download_timeout_seconds: NotRequired[pulumi.Input[int]]
    """How long the bundle's way from S3 may take, 60 to 3600. Default: 900."""
    volume_size_gb: NotRequired[pulumi.Input[int]]
    """The instance's volume in GB, 1 to 512; not for types with storage of their own. Default:
    SageMaker's."""
    scaling: NotRequired[SageMakerScalingArgs]
    """How it grows and shrinks. Default: it does not; `instance_count` stays."""
    serverless: NotRequired[SageMakerServerlessArgs]
    """Its size in mode `serverless`. Default: that of `SageMakerServerlessArgs`."""


class SageMakerAsyncArgs(TypedDict):
    """Where asynchronous requests come from and their answers go."""

    input_uri: pulumi.Input[str]
    """`s3://BUCKET/PREFIX/` where callers put their requests; the endpoint may read it."""
    output_uri: pulumi.Input[str]
    """`s3://BUCKET/PREFIX/` that gets the answers."""
    failure_uri: NotRequired[pulumi.Input[str]]
    """`s3://BUCKET/PREFIX/` that gets what failed. Default: SageMaker's choice below
    `output_uri`."""
    success_topic_arn: NotRequired[pulumi.Input[str]]
    """SNS topic that is told of each answer. Default: none."""
    error_topic_arn: NotRequired[pulumi.Input[str]]
    """SNS topic that is told of each failure. Default: none."""
    max_concurrent_per_instance: NotRequired[pulumi.Input[int]]
    """Requests the server gets at a time, 1 to 1000. Default: SageMaker's choice."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The key the answers are encrypted with. Default: the endpoint's."""


class SageMakerCaptureArgs(TypedDict):
    """Keeps requests and answers in S3, to look at what the model is asked."""

    uri: pulumi.Input[str]
    """`s3://BUCKET/PREFIX/` that gets them."""
    percent: NotRequired[pulumi.Input[int]]
    """How many of a hundred requests are kept, 0 to 100. Default: 100."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The key they are encrypted with. Default: the endpoint's."""


class SageMakerDeploymentArgs(TypedDict):
    """How an update moves the traffic from the old instances to the new ones."""

    strategy: NotRequired[str]
    """`all-at-once`, `canary` (a part, then the rest) or `linear` (equal steps).
    Default: `all-at-once`."""
    size: NotRequired[pulumi.Input[int]]
    """The canary, or one linear step: of `size_type`. Canary: up to half of the instances; linear:
    10 to 50 percent of them. Default: 10 percent, linear 25 percent, or 1 instance."""
    size_type: NotRequired[str]
    """`CAPACITY_PERCENT` or `INSTANCE_COUNT`. Default: `CAPACITY_PERCENT`."""
    wait_seconds: NotRequired[pulumi.Input[int]]
    """Seconds between two steps, in which the alarms are watched, 0 to 3600. Default: 300, and 0
    with `all-at-once`. All waiting of an update belongs well under the hour that the AWS provider
    waits for an endpoint."""
    termination_wait_seconds: NotRequired[pulumi.Input[int]]
    """Seconds after the last step for which the old instances stay ready to take the traffic back,
    0 to 3600. Default: 600."""
    max_seconds: NotRequired[pulumi.Input[int]]
    """The longest a whole update may take, 600 to 28800; more than all its waiting. Default:
    SageMaker's."""


class SageMakerEndpointArgs(TypedDict):
    """Inputs of a `SageMakerEndpoint`."""

    image_uri: pulumi.Input[str]
    """The server's image in ECR, by digest: `ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:…`
    (`ServerImage.image_uri`), in the endpoint's region."""
    variants: list[SageMakerVariantArgs]
    """What is served, 1 to 10."""
    mode: NotRequired[str]
    """`real-time`, `async` (requests and answers in S3), `serverless`, or `scale-to-zero` (each
    variant is an inference component, whose copies share instances of one type, or none while
    nobody asks). SageMaker turns no endpoint into one of another mode: change `endpoint_name` with
    it. Default: `real-time`."""
    endpoint_name: NotRequired[str]
    """The endpoint's name, by which callers know it; another name is another endpoint. Default:
    project, stack and the component's name, joined by hyphens."""
    asynchronous: NotRequired[SageMakerAsyncArgs]
    """Needed in mode `async`, and only there."""
    scale_to_zero: NotRequired[SageMakerScaleToZeroArgs]
    """Needed in mode `scale-to-zero`, and only there."""
    capture: NotRequired[SageMakerCaptureArgs]
    """Keeps requests and answers in S3. Default: nothing is kept."""
    deployment: NotRequired[SageMakerDeploymentArgs]
    """How updates move the traffic. Default: all at once, and back within ten minutes where an
    alarm fires."""
    slo: NotRequired[SloArgs]
    """What the endpoint promises: two alarms of each variant watch it, and undo an update that
    breaks it. Default: that of `SloArgs`."""
    alarm_actions: NotRequired[list[pulumi.Input[str]]]
    """ARNs of topics that those alarms tell. Default: none."""
    rollback_alarm_names: NotRequired[list[pulumi.Input[str]]]
    """More CloudWatch alarms of this account and region that undo an update, composite ones left
    out: AWS shows those to no role that is held to the alarms it needs. SageMaker takes 10 with the
    endpoint's own. A `role_arn` of yours needs `cloudwatch:DescribeAlarms` on all of them.
    Default: none."""
    vpc_id: NotRequired[pulumi.Input[str]]
    """The VPC that the containers stand in. Default: none of yours."""
    subnet_ids: NotRequired[list[pulumi.Input[str]]]
    """Private subnets of `vpc_id` in at least two zones, with a way to S3."""
    security_group_ids: NotRequired[list[pulumi.Input[str]]]
    """Security groups of the containers, at most 5. Default: one that lets them reach S3 alone."""
    create_vpc: NotRequired[bool]
    """Makes a VPC for the endpoint: private subnets in two zones and no way to the internet.
    Default: false."""
    vpc_cidr: NotRequired[str]
    """The addresses of that VPC, /16 to /24. Default: `10.60.0.0/16`."""
    interface_endpoints: NotRequired[list[str]]
    """AWS services that can be reached from inside that VPC, as the end of their name
    (`sagemaker.runtime`). Each costs by the hour and zone. Default: `sagemaker.runtime` and `sts`
    for callers in it; without network isolation also `logs`, `monitoring` and `kms` for the
    containers. S3 is always there."""
    network_isolation: NotRequired[bool]
    """Whether the containers have no network but SageMaker's requests; the server needs none.
    Default: true, and false in mode `serverless`, where AWS has no isolation."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The key for the instances' volumes, kept requests and asynchronous answers. Default: one of
    its own, which is rotated."""
    role_arn: NotRequired[pulumi.Input[str]]
    """The role the endpoint runs with. Default: one that may do exactly what is needed."""
    log_retention_days: NotRequired[pulumi.Input[int]]
    """Days the server's log is kept. Default: 30."""
    log_kms_key_arn: NotRequired[pulumi.Input[str]]
    """The key the log is encrypted with; its policy must admit CloudWatch Logs. Default: the
    endpoint's own key, or CloudWatch's encryption where `kms_key_arn` is given."""
    dev: NotRequired[bool]
    """Permits one instance, which fails alone. Default: false."""
    tags: NotRequired[dict[str, pulumi.Input[str]]]
    """Tags of every resource that takes some."""
