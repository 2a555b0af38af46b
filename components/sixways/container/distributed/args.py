"""Inputs of a `DistributedModel`."""

from typing import NotRequired, TypedDict

import pulumi


class DistributedSourceArgs(TypedDict):
    """Where the model's files come from: exactly one of `hub_id`, `claim`, `image`, `s3_uri`."""

    hub_id: NotRequired[pulumi.Input[str]]
    """A model of the Hugging Face hub, `OWNER/NAME`. Every pod downloads it as it starts."""
    revision: NotRequired[pulumi.Input[str]]
    """The commit of `hub_id`; without one the model can change between two starts."""
    claim: NotRequired[pulumi.Input[str]]
    """A PersistentVolumeClaim of the namespace that several nodes can read (ReadOnlyMany or
    ReadWriteMany); mounted read-only."""
    image: NotRequired[pulumi.Input[str]]
    """`REPOSITORY@sha256:DIGEST` of an OCI image that holds the model's files; mounted read-only.
    Needs Kubernetes 1.33 or newer with the feature ImageVolume."""
    path: NotRequired[pulumi.Input[str]]
    """Folder of the model within `claim` or `image`. Default: the root."""
    s3_uri: NotRequired[pulumi.Input[str]]
    """`s3://BUCKET/bundles/NAME/HEX/` (`BundleStore.uris`): an init container of each pod fetches
    and verifies it. The service account must be allowed to read it."""
    digest: NotRequired[pulumi.Input[str]]
    """The bundle's digest (`Bundle.digest`), for `s3_uri`."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant of the bundle, in the Hugging Face layout (`vllm-bf16` …), for `s3_uri`."""
    server_image: NotRequired[pulumi.Input[str]]
    """The image of sixways (`ServerImage.image_uri`), which fetches, for `s3_uri`."""


class DistributedModelArgs(TypedDict):
    """Inputs of a `DistributedModel`. What changes a pod starts a new copy of the model."""

    image: pulumi.Input[str]
    """vLLM's image, `REPOSITORY@sha256:DIGEST`; with runtime `ray` it must hold Ray Serve as well
    (`rayproject/ray-llm`). A tag is taken, with a warning. Written against vLLM 0.33, KubeRay 1.4
    and LeaderWorkerSet 0.7."""
    source: pulumi.Input[DistributedSourceArgs]
    """Where the model's files come from."""
    nodes: pulumi.Input[int]
    """Nodes of one copy of the model, from 1 to 64; one pod on each."""
    gpus_per_node: pulumi.Input[int]
    """GPUs that each pod gets, from 1 to 16."""
    node_selector: pulumi.Input[dict[str, pulumi.Input[str]]]
    """Labels of the nodes that have the GPUs."""
    runtime: NotRequired[pulumi.Input[str]]
    """`leader-worker-set` (vLLM's processes speak to each other) or `ray` (a KubeRay RayService).
    Another runtime replaces the model. Default: `leader-worker-set`."""
    tensor_parallel: NotRequired[pulumi.Input[int]]
    """GPUs that share each layer: they exchange much, so they lie in one node and divide its GPUs.
    The model's attention heads must be a multiple of it. Default: `gpus_per_node`."""
    pipeline_parallel: NotRequired[pulumi.Input[int]]
    """Stages of layers, one after the other; with `tensor_parallel` they make up all GPUs. Default:
    all GPUs over `tensor_parallel`."""
    replicas: NotRequired[pulumi.Input[int]]
    """Copies of the model, each with its own nodes; more than 1 with `leader-worker-set` alone.
    Default: 1."""
    max_surge: NotRequired[pulumi.Input[int]]
    """Copies beyond `replicas` during an update; they want GPUs of their own. With 0 an old copy
    ends before its successor starts, so with one copy nothing answers for that time. `ray` always
    starts a whole new cluster beside the old one. Default: 1."""
    model_name: NotRequired[pulumi.Input[str]]
    """The name requests use. Default: the resource's name."""
    engine_args: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Further arguments of `vllm serve` without the dashes: `{"max-model-len": "32768"}`; an empty
    value makes a switch. Default: none."""
    env: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Further environment variables (`NCCL_SOCKET_IFNAME` …). Never a secret. Default: none."""
    cpu: NotRequired[pulumi.Input[str]]
    """CPU of a pod, request and limit. Default: `8`."""
    memory: NotRequired[pulumi.Input[str]]
    """Memory of a pod, request and limit; shared memory counts. Default: `64Gi`."""
    shared_memory: NotRequired[pulumi.Input[str]]
    """Most of /dev/shm, by which the processes of a pod exchange tensors. Default: `10Gi`."""
    gpu_resource: NotRequired[pulumi.Input[str]]
    """What the cluster calls a GPU; a taint of that name is tolerated. Default:
    `nvidia.com/gpu`."""
    tolerations: NotRequired[pulumi.Input[list[pulumi.Input[dict[str, pulumi.Input[str]]]]]]
    """Further tolerations, as Kubernetes writes them: `{"key": …, "operator": "Exists"}`. Default:
    none."""
    user_id: NotRequired[pulumi.Input[int]]
    """The user of the processes, not root. Default: 1000."""
    startup_seconds: NotRequired[pulumi.Input[int]]
    """Longest time until the model answers, download included. Default: 3600."""
    drain_seconds: NotRequired[pulumi.Input[int]]
    """Longest time that what is in flight may take once a pod has to go. Default: 120."""
    kubeconfig: NotRequired[pulumi.Input[str]]
    """The cluster: contents of a kubeconfig, or its path. Default: the provider among the
    component's options, or the one that `kubectl` would use."""
    namespace: NotRequired[pulumi.Input[str]]
    """A namespace that exists. Default: one is created, called like the resource, in which
    Kubernetes itself enforces the pod security standard "restricted"."""
    service_type: NotRequired[pulumi.Input[str]]
    """`ClusterIP` or `LoadBalancer`. Default: `ClusterIP`."""
    source_ranges: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that a load balancer takes requests from. Default: private networks alone, since it
    does not encrypt."""
    service_annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations of the Service, which the cloud's load balancer reads. Default: none."""
    service_account_annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations of the ServiceAccount, e.g. `eks.amazonaws.com/role-arn`. Default: none."""
    image_pull_secrets: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Secrets of the namespace that registries want. Default: none."""
    hub_token: NotRequired[pulumi.Input[str]]
    """Token for `source.hub_id` that is not public; it becomes a Secret."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters. Default: a random one."""
