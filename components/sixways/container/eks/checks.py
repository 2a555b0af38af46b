"""Checks of an `EksCluster`'s inputs: all at once, without a call to AWS.

Limits are those of EKS's API as botocore describes it (`CreateCluster`, `CreateNodegroup`), and of
its user guide where the API says nothing.
"""

import ipaddress
import re
from typing import Any

import pulumi

from sixways.checks import Checks, is_plain
from sixways.cloud.ec2.problems import MOST_ZONES
from sixways.cloud.formats import check_log_days
from sixways.cloud.regions import check_region, configured_region
from sixways.container.eks.addons import AFTER_NODES, AUTO_MODE, BEFORE_NODES
from sixways.container.eks.args import EksClusterArgs
from sixways.container.eks.check_access import check_access
from sixways.container.eks.check_nodes import check_nodes
from sixways.container.eks.upgrade import minor
from sixways_bundle import Problem

OLDEST = 31
"""EKS makes no cluster older than 1.31: the extended support of 1.30 ended in July 2026."""
WIDEST = 8
"""The widest network that may reach the API: /8, a whole company."""
_CLUSTER_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
_KMS = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+")


def default_name(name: str) -> str:
    """The cluster's name where none is given, of what EKS takes: letters, digits, '-' and '_'."""
    whole = f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}"
    return re.sub("[^A-Za-z0-9_-]", "-", whole)[:100]


def problems(name: str, args: EksClusterArgs) -> list[Problem]:
    """Everything that is wrong with the inputs; outputs are passed over.

    Args:
        name: the component's name.
        args: its inputs.
    """
    checks = Checks()
    checks.known(args, EksClusterArgs)
    checks.required(args, "version")
    if not _NAME.fullmatch(name):
        checks.add("name", name, "up to 32 letters, digits and dashes, a letter first",
                   "the names of roles are made from it")  # fmt: skip
    for field in ("auto_mode", "creator_is_admin", "dev"):
        value: Any = args.get(field)
        if value is not None and not isinstance(value, bool):
            checks.add(
                field, value, "true or false", "a plain value, since it decides what is made"
            )
    for field in ("tags", "addon_versions"):
        value = args.get(field)
        if value is not None and not isinstance(value, dict):
            checks.add(field, "an output", "a map whose values may be outputs")
    check_region(checks, configured_region(), "eks", "aws:region")
    _check_version(checks, args.get("version"))
    _check_names(checks, args)
    check_nodes(checks, args)
    _check_addons(checks, args)
    _check_network(checks, args)
    _check_endpoint(checks, args.get("public_access_cidrs"))
    check_access(checks, args)
    return checks.problems


def _check_version(checks: Checks, version: object) -> None:
    if version is None or version == "" or not is_plain(version):
        return
    number = minor(version)
    if number is None or number < OLDEST:
        checks.add("version", version, f"1.{OLDEST} or newer, as text: two numbers and a dot",
                   "aws eks describe-cluster-versions lists what EKS supports")  # fmt: skip


def _check_names(checks: Checks, args: EksClusterArgs) -> None:
    name = args.get("cluster_name")
    if name is not None and not isinstance(name, str):
        checks.add("cluster_name", "an output", "plain text", "names of others are made from it")
    elif name is not None and not _CLUSTER_NAME.fullmatch(name):
        checks.add("cluster_name", name, "up to 100 letters, digits, '-' and '_', a letter or "
                   "digit first", "rename it")  # fmt: skip
    key = args.get("kms_key_arn")
    if isinstance(key, str) and not _KMS.fullmatch(key):
        checks.add("kms_key_arn", key, "the ARN of a KMS key (not of an alias)",
                   "aws kms describe-key")  # fmt: skip
    check_log_days(checks, args.get("log_retention_days"))


def _check_addons(checks: Checks, args: EksClusterArgs) -> None:
    versions = args.get("addon_versions")
    if not isinstance(versions, dict):
        return
    known = AUTO_MODE if args.get("auto_mode") is True else (*BEFORE_NODES, *AFTER_NODES)
    for name, version in versions.items():
        checks.one_of(f"addon_versions.{name}", name, known, "remove it: it is not installed here")
        if isinstance(version, str) and not re.fullmatch(r"v\d+\.\d+\.\d+-eksbuild\.\d+", version):
            checks.add(f"addon_versions.{name}", version, "a version like v1.11.4-eksbuild.2",
                       f"aws eks describe-addon-versions --addon-name {name}")  # fmt: skip


def _check_network(checks: Checks, args: EksClusterArgs) -> None:
    given = args.get("vpc_id") is not None
    for field in ("private_subnet_ids", "public_subnet_ids"):
        ids = args.get(field)
        if ids is None:
            if given and field == "private_subnet_ids":
                checks.add(field, None, "subnets in at least 2 zones", f"add {field} of the VPC")
            continue
        if not given:
            checks.add(field, ids, "nothing without vpc_id", "add vpc_id, or remove it")
        few = isinstance(ids, list) and (len(ids) < 2 or (is_plain(ids) and len(set(ids)) < 2))
        if few and (ids or field == "private_subnet_ids"):
            checks.add(field, ids, "2 or more subnets, each in another zone",
                       "EKS needs two zones")  # fmt: skip
    zones = args.get("availability_zones")
    if isinstance(zones, list):
        different = len(set(zones)) if is_plain(zones) else len(zones)
        if not 2 <= different <= MOST_ZONES or different < len(zones):
            checks.add("availability_zones", ", ".join(map(str, zones)),
                       f"2 to {MOST_ZONES} different zones", "EKS needs two zones")  # fmt: skip
    for field in ("availability_zones", "vpc_cidr"):
        if given and args.get(field) is not None:
            checks.add(field, args.get(field), "nothing beside vpc_id", "remove it")
    cidr = args.get("vpc_cidr")
    if cidr is not None and not isinstance(cidr, str):
        checks.add("vpc_cidr", "an output", "plain text", "subnets are worked out from it")
    elif cidr is not None:
        network = _network(checks, "vpc_cidr", cidr)
        # A subnet is a sixteenth of it, and each pod has an address of its own.
        if network and not 16 <= network.prefixlen <= 20:
            checks.add("vpc_cidr", cidr, "an IPv4 network from /16 to /20", "e.g. 10.64.0.0/16")


def _check_endpoint(checks: Checks, cidrs: Any) -> None:
    for index, cidr in enumerate(cidrs if isinstance(cidrs, list) else ()):
        field = f"public_access_cidrs[{index}]"
        network = _network(checks, field, cidr) if isinstance(cidr, str) else None
        if network and network.prefixlen < WIDEST:
            checks.add(field, cidr, f"an IPv4 network of /{WIDEST} or less",
                       "name the networks you deploy from, or leave it out: the API then answers "
                       "inside the VPC alone")  # fmt: skip


def _network(checks: Checks, field: str, cidr: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(cidr)
    except ValueError as error:
        checks.add(field, cidr, f"an IPv4 network, e.g. 203.0.113.0/24 ({error})", "correct it")
        return None
