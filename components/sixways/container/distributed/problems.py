"""What is wrong with the inputs of a `DistributedModel`, as far as they are known.

How GPUs may be divided is vLLM's documentation ("Parallelism and scaling"); names and quantities
are Kubernetes' API; 49 characters for a RayService's name are those of KubeRay 1.4, less what it
adds to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sixways.checks import Checks, is_number, is_plain
from sixways.container.distributed.args import DistributedModelArgs, DistributedSourceArgs
from sixways.container.problems import (
    BY_DIGEST,
    check_bundle_address,
    check_env,
    check_image,
    check_key,
    check_names,
    check_quantity,
    object_name,
)
from sixways_bundle import Problem

RUNTIMES = ("leader-worker-set", "ray")
MOST_NODES, MOST_GPUS = 64, 16
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HUB = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FLAG = re.compile(r"[a-z0-9][a-z0-9.-]*")
_SOURCES = ("hub_id", "claim", "image", "s3_uri")
# What goes with each source, and nowhere else.
_WITH = {
    "revision": ("hub_id",),
    "path": ("claim", "image"),
    "digest": ("s3_uri",),
    "variant": ("s3_uri",),
    "server_image": ("s3_uri",),
}
# Arguments of vLLM that inputs of the component stand for.
_OURS = {
    "api-key": "api_key",
    "data-parallel-size": "replicas",
    "distributed-executor-backend": "runtime",
    "headless": "runtime",
    "host": "service_type",
    "master-addr": "runtime",
    "middleware": "api_key",
    "model": "source",
    "nnodes": "nodes",
    "node-rank": "runtime",
    "pipeline-parallel-size": "pipeline_parallel",
    "port": "service_type",
    "revision": "source.revision",
    "root-path": "service_type",
    "served-model-name": "model_name",
    "tensor-parallel-size": "tensor_parallel",
    "tokenizer": "source",
}


def problems(name: str, args: DistributedModelArgs) -> list[Problem]:
    """Every problem with the inputs; values that are outputs are passed over."""
    checks = Checks()
    checks.known(args, DistributedModelArgs)
    checks.required(args, "image", "source", "nodes", "gpus_per_node", "node_selector")
    if not _NAME.fullmatch(name):
        checks.add("name", name, "up to 47 of a-z, 0-9 and '-', beginning with a letter",
                   "rename the resource: its objects are called like it")  # fmt: skip
    check_image(checks, "image", args.get("image"), "take it from the registry's page of vLLM")
    _check_source(checks, args.get("source"))
    _check_parallel(checks, args)
    _check_copies(checks, args)
    _check_pods(checks, args)
    _check_access(checks, args)
    return checks.problems


def _check_source(checks: Checks, source: object) -> None:
    if not isinstance(source, Mapping):
        return
    here = "source."
    checks.known(source, DistributedSourceArgs, here)
    given = [key for key in _SOURCES if source.get(key) is not None]
    if len(given) != 1:
        checks.add(f"{here}{given[-1] if given else 'hub_id'}", ", ".join(given) or None,
                   "exactly one of " + ", ".join(_SOURCES),
                   "say where the model's files lie")  # fmt: skip
        return
    for key, where in _WITH.items():
        if source.get(key) is not None and given[0] not in where:
            checks.add(f"{here}{key}", "given", f"nothing beside {given[0]}",
                       f"remove it; it goes with {' or '.join(where)}")  # fmt: skip
    hub, revision, image = (source.get(key) for key in ("hub_id", "revision", "image"))
    if isinstance(hub, str) and not _HUB.fullmatch(hub):
        checks.add(f"{here}hub_id", hub, "OWNER/NAME of a model of the Hugging Face hub")
    if isinstance(revision, str) and not _COMMIT.fullmatch(revision):
        checks.add(f"{here}revision", revision, "a commit, 40 hexadecimal digits",
                   "a branch or a tag can be moved: take the commit it names")  # fmt: skip
    if isinstance(image, str) and "@sha256:" not in image:
        checks.add(f"{here}image", image, BY_DIGEST, "name the image by its digest")
    object_name(checks, f"{here}claim", source.get("claim"))
    path = source.get("path")
    if isinstance(path, str) and (path.startswith("/") or ".." in path.split("/")):
        checks.add(f"{here}path", path, "a folder within the volume, without '..'")
    if given[0] == "s3_uri":
        checks.required(source, "digest", "variant", "server_image", prefix=here)
        check_bundle_address(checks, here, source.get("s3_uri"), source.get("digest"))
        check_image(checks, f"{here}server_image", source.get("server_image"),
                    "take ServerImage.image_uri")  # fmt: skip
        variant = source.get("variant")
        if isinstance(variant, str) and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", variant):
            checks.add(f"{here}variant", variant, "the name of a variant of the bundle")


def _check_parallel(checks: Checks, args: DistributedModelArgs) -> None:
    nodes, gpus = args.get("nodes"), args.get("gpus_per_node")
    tensor, pipeline = args.get("tensor_parallel"), args.get("pipeline_parallel")
    before = len(checks.problems)
    checks.number("nodes", nodes, 1, MOST_NODES, whole=True)
    checks.number("gpus_per_node", gpus, 1, MOST_GPUS, whole=True,
                  fix="without GPUs use ModelDeployment")  # fmt: skip
    checks.number("tensor_parallel", tensor, 1, MOST_GPUS, whole=True)
    checks.number("pipeline_parallel", pipeline, 1, MOST_NODES * MOST_GPUS, whole=True)
    if len(checks.problems) > before or not (is_number(nodes) and is_number(gpus)):
        return
    share: object = gpus if tensor is None else tensor
    if not is_number(share):
        return
    total = int(nodes * gpus)
    if gpus % share:
        checks.add("tensor_parallel", share, f"a divisor of gpus_per_node ({gpus}), so that those "
                   "who share a layer share a node",
                   f"use {gpus}, and pipeline_parallel {nodes}")  # fmt: skip
    elif is_number(pipeline) and share * pipeline != total:
        checks.add("pipeline_parallel", pipeline, f"{total // int(share)}: {nodes} nodes of "
                   f"{gpus} GPUs are {total}, and tensor_parallel is {share}",
                   "leave it out, or change nodes or gpus_per_node")  # fmt: skip


def _check_copies(checks: Checks, args: DistributedModelArgs) -> None:
    runtime = args.get("runtime", "leader-worker-set")
    replicas, surge = args.get("replicas"), args.get("max_surge")
    checks.one_of("runtime", runtime, RUNTIMES)
    for field in ("runtime", "service_type"):
        if not is_plain(args.get(field)):
            checks.add(field, "an output", "a plain value", "which objects there are depends on "
                       "it: write it down")  # fmt: skip
    checks.number("replicas", replicas, 1, 100, whole=True)
    checks.number("max_surge", surge, 0, 100, whole=True)
    if runtime == "ray":
        if is_number(replicas) and replicas > 1:
            checks.add("replicas", replicas, "1 with runtime ray", "use leader-worker-set, or "
                       "several DistributedModels")  # fmt: skip
        if is_number(surge) and surge != 1:
            checks.add("max_surge", surge, "1 with runtime ray, which starts a new cluster beside "
                       "the old one", "remove it, or use leader-worker-set")  # fmt: skip


def _check_pods(checks: Checks, args: DistributedModelArgs) -> None:
    check_quantity(checks, "cpu", args.get("cpu"), "a quantity above 0: 500m, 8, 1.5")
    memory = check_quantity(checks, "memory", args.get("memory", "64Gi"), "a quantity: 64Gi, 1T")
    shared = check_quantity(
        checks, "shared_memory", args.get("shared_memory", "10Gi"), "a quantity: 10Gi, 512Mi"
    )
    if memory is not None and shared is not None and shared >= memory:
        field = "shared_memory" if "shared_memory" in args else "memory"
        checks.add(field, args.get(field), "less shared_memory than memory, which it counts into",
                   "raise memory, or lower shared_memory")  # fmt: skip
    resource = args.get("gpu_resource")
    if isinstance(resource, str) and not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", resource):
        checks.add("gpu_resource", resource, "DOMAIN/NAME, e.g. nvidia.com/gpu")
    checks.number("user_id", args.get("user_id"), 1, 2**31 - 1, whole=True,
                  fix="the processes do not run as root")  # fmt: skip
    checks.number("startup_seconds", args.get("startup_seconds"), 10, 86_400, whole=True)
    checks.number("drain_seconds", args.get("drain_seconds"), 0, 3600, whole=True)
    check_env(checks, args.get("env"))
    engine = args.get("engine_args")
    for flag in engine if isinstance(engine, Mapping) else ():
        if flag in _OURS:
            checks.add(f"engine_args.{flag}", "given", f"the input {_OURS[flag]}", "remove it here")
        elif not _FLAG.fullmatch(str(flag)):
            checks.add("engine_args", flag, "names as `vllm serve --help` has them, without "
                       "dashes before: max-model-len")  # fmt: skip


def _check_access(checks: Checks, args: DistributedModelArgs) -> None:
    namespace = args.get("namespace")
    if isinstance(namespace, str) and not _LABEL.fullmatch(namespace):
        checks.add("namespace", namespace, "up to 63 of a-z, 0-9 and '-'")
    checks.one_of("service_type", args.get("service_type"), ("ClusterIP", "LoadBalancer"))
    checks.networks("source_ranges", args.get("source_ranges"))
    check_names(checks, "image_pull_secrets", args.get("image_pull_secrets"))
    check_key(checks, args.get("api_key"))
    source = args.get("source")
    if "hub_token" in args and isinstance(source, Mapping) and source.get("hub_id") is None:
        checks.add("hub_token", "given", "nothing without source.hub_id", "remove it")
