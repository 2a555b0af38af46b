"""Checks of the node groups."""

import re
from collections.abc import Mapping
from typing import Any

from sixways.checks import Checks, is_number, is_plain
from sixways.cloud.instances import Instance, instance
from sixways.container.eks.args import EksClusterArgs, NodeGroupArgs, NodeTaintArgs
from sixways.container.eks.nodes import (
    LEAST,
    NO_SCHEDULE,
    ami_types,
    architecture_of,
    has_gpu,
    is_gpu,
    sizes_of,
    taints_of,
)

MOST_NODES = 450
"""Nodes of a managed group (quota of EKS, which can be raised)."""
MOST_TYPES = 20
"""Instance types of a group (`CreateNodegroup`)."""
_EFFECTS = ("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE")
# EKS takes 63 characters (`CreateNodegroup`), of which its provider takes 26 and we one.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,35}")


def check_nodes(checks: Checks, args: EksClusterArgs) -> None:
    """Every group by itself, and whether together they are a cluster's nodes."""
    groups: Any = args.get("node_groups")
    if args.get("auto_mode") is True:
        if groups:
            checks.add("node_groups", f"{len(groups)} group(s)", "nothing beside auto_mode",
                       "remove one of them: groups need add-ons that Auto Mode has built in"
            )  # fmt: skip
        return
    if not groups or not isinstance(groups, list):
        checks.add("node_groups", None, "a list of groups, or auto_mode: true", "add one of them")
        return
    seen: set[str] = set()
    for index, group in enumerate(groups):
        where = f"node_groups[{index}]."
        if not isinstance(group, Mapping):
            checks.add(where[:-1], "an output", "plain text for each group's fields",
                       "values inside a group may be outputs")  # fmt: skip
            continue
        _check_group(checks, where, group, dev=args.get("dev") is True)
        name = group.get("name")
        if isinstance(name, str):
            if name in seen:
                checks.add(f"{where}name", name, "each name once", "rename one of the groups")
            seen.add(name)
    _check_room(checks, [g for g in groups if isinstance(g, Mapping)], dev=args.get("dev") is True)


def _check_group(checks: Checks, where: str, group: Any, *, dev: bool) -> None:
    checks.known(group, NodeGroupArgs, where)
    checks.required(group, "name", "instance_types", "max_size", prefix=where)
    name = group.get("name")
    if name and not (isinstance(name, str) and _NAME.fullmatch(name)):
        checks.add(f"{where}name", name if is_plain(name) else "an output",
                   "up to 36 letters, digits, '-' and '_'", "rename it")  # fmt: skip
    _check_sizes(checks, where, group, dev=dev)
    _check_machines(checks, where, group)
    checks.one_of(f"{where}capacity_type", group.get("capacity_type"), ("ON_DEMAND", "SPOT"))
    checks.number(f"{where}disk_gb", group.get("disk_gb"), 20, 16384, whole=True)
    checks.number(f"{where}metadata_hop_limit", group.get("metadata_hop_limit"), 1, 2, whole=True)
    taints = group.get("taints")
    if taints is not None and not isinstance(taints, list):
        checks.add(f"{where}taints", "an output", "a list whose values may be outputs")
    for index, taint in enumerate(taints if isinstance(taints, list) else ()):
        if isinstance(taint, Mapping):
            inside = f"{where}taints[{index}]."
            checks.known(taint, NodeTaintArgs, inside)
            checks.required(taint, "key", prefix=inside)
            checks.one_of(f"{inside}effect", taint.get("effect"), _EFFECTS)


def _check_sizes(checks: Checks, where: str, group: Any, *, dev: bool) -> None:
    checks.number(f"{where}min_size", group.get("min_size"), 0, MOST_NODES, whole=True)
    checks.number(f"{where}max_size", group.get("max_size"), 1, MOST_NODES, whole=True)
    checks.number(f"{where}desired_size", group.get("desired_size"), 0, MOST_NODES, whole=True)
    if "max_size" not in group:
        return
    least, desired, most = sizes_of(group, dev=dev)
    if is_number(least) and is_number(most) and least > most:
        checks.add(f"{where}max_size", most, f"at least min_size {least}", "raise it")
        return
    numbers = is_number(least) and is_number(most) and is_number(desired)
    if numbers and not least <= desired <= most:
        checks.add(f"{where}desired_size", desired, f"from min_size {least} to max_size {most}",
                   "correct it")  # fmt: skip


def _check_machines(checks: Checks, where: str, group: Any) -> None:
    types = group.get("instance_types")
    if not isinstance(types, list):
        return
    if len(types) > MOST_TYPES:
        checks.add(f"{where}instance_types", f"{len(types)} types", f"{MOST_TYPES} at most",
                   "name fewer")  # fmt: skip
    machines: list[Instance] = []
    for index, kind in enumerate(types):
        field = f"{where}instance_types[{index}]"
        machine = instance(kind) if isinstance(kind, str) else None
        if machine is None or machine.name != kind:
            checks.add(field, kind if is_plain(kind) else "an output",
                       "an instance type of EC2 in plain text, e.g. m7i.xlarge",
                       "aws ec2 describe-instance-types")  # fmt: skip
            continue
        machines.append(machine)
        if group.get("gpu") is True and not has_gpu(kind):
            checks.add(field, kind, "a type with NVIDIA GPUs, since gpu is true, e.g. g6.xlarge",
                       "change the type, or remove gpu")  # fmt: skip
    gpus = {has_gpu(machine.name) for machine in machines}
    if len(gpus) > 1 and group.get("gpu") is None:
        checks.add(f"{where}instance_types", ", ".join(types),
                   "types that all have NVIDIA GPUs, or all have none", "make two groups"
        )  # fmt: skip
    architectures = sorted({machine.architecture for machine in machines})
    if len(architectures) > 1:
        checks.add(f"{where}instance_types", ", ".join(types),
                   f"types of one architecture; these are {' and '.join(architectures)}",
                   "make two groups")  # fmt: skip
    elif machines:
        _check_image(checks, where, group, architectures[0])


def _check_image(checks: Checks, where: str, group: Any, architecture: str) -> None:
    kind = group.get("ami_type")
    checks.one_of(f"{where}ami_type", kind, ami_types())
    if not isinstance(kind, str) or kind not in ami_types():
        return
    if architecture_of(kind) != architecture:
        checks.add(f"{where}ami_type", kind, f"one for {architecture}, as the instance types are",
                   "leave it out to get one that fits")  # fmt: skip
    if ("NVIDIA" in kind) != is_gpu(group):
        accepted = "one with NVIDIA's driver" if is_gpu(group) else "one without NVIDIA's driver"
        checks.add(f"{where}ami_type", kind, f"{accepted}, as the instance types are",
                   "leave it out to get one that fits")  # fmt: skip


def _check_room(checks: Checks, groups: list[Any], *, dev: bool) -> None:
    """The cluster's own pods (CoreDNS, metrics) tolerate no taints, and need a node or two."""
    given = [group.get("taints") for group in groups]
    if any(not is_plain(taints) or not isinstance(taints, list | None) for taints in given):
        return
    room: list[Any] = []
    for group in groups:
        effects = {t.get("effect") for t in taints_of(group) if isinstance(t, Mapping)}
        if not effects & {NO_SCHEDULE, "NO_EXECUTE"}:
            room.append(group)
    if not room:
        checks.add("node_groups", f"{len(groups)} group(s), all with taints",
                   "at least one group without taints that keep pods away",
                   "add one for the cluster's own pods, e.g. m7i.large")  # fmt: skip
        return
    desired = [sizes_of(group, dev=dev)[1] for group in room if "max_size" in group]
    least = 1 if dev else LEAST
    if len(desired) == len(room) and all(map(is_number, desired)) and sum(desired) < least:
        why = "" if dev else "one node is a single point of failure; dev: true permits it"
        checks.add("node_groups", f"{sum(desired)} node(s) without taints",
                   f"{least} or more together", why)  # fmt: skip
