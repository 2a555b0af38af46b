"""Checks of an `Ec2Endpoint`'s inputs: all at once, without a call to AWS."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import pulumi

from sixways.checks import DIGEST, MODEL_NAME, Checks, is_plain
from sixways.cloud.ec2.args import Ec2EndpointArgs, Ec2ModelArgs
from sixways.cloud.formats import KMS_KEY, check_log_days
from sixways.cloud.instances import SAGEMAKER_PREFIX, instance, why_not
from sixways.cloud.regions import check_region, configured_region
from sixways.plugin.api_key import KEY
from sixways.shapes import misfits
from sixways_bundle import Problem

LONGEST_NAME = 21
"""A load balancer's name has 32 characters at most (`CreateLoadBalancer`), of which Pulumi takes 8
and we 3."""
MOST_ZONES = 8
_PLAIN = ("allowed_cidrs", "availability_zones", "dev", "internal", "rollback_alarms", "tags",
          "vpc_cidr")  # fmt: skip
_NAME = re.compile(r"(?!sg-|internal-)[A-Za-z][A-Za-z0-9-]*")
_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9!_.*'()/=+@-]+")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[\w-]+")
_AMI = re.compile(r"ami-[0-9a-f]{8,17}")
_DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


def problems(name: str, args: Ec2EndpointArgs) -> list[Problem]:
    """Everything that is wrong with the inputs; outputs are passed over.

    Args:
        name: the component's name.
        args: its inputs.
    """
    checks = Checks()
    checks.known(args, Ec2EndpointArgs)
    if wrong := [*misfits(args, Ec2EndpointArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    checks.required(args, "models", "instance_type", "certificate_arn", "allowed_cidrs")
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        checks.add("name", name, f"up to {LONGEST_NAME} letters, digits and dashes that do not "
                   "begin with sg- or internal-",
                   "names of load balancers are made from it")  # fmt: skip
    check_region(checks, configured_region(), "autoscaling")
    for field in _PLAIN:
        if isinstance(args.get(field), pulumi.Output):
            checks.add(field, "an output", "a plain value: it decides what is made",
                       "take it from the stack's settings")  # fmt: skip
    _check_models(checks, args.get("models"))
    _check_machine(checks, args)
    _check_group(checks, args)
    _check_network(checks, args)
    _check_front(checks, args)
    _check_server(checks, args)
    return checks.problems


def _check_models(checks: Checks, models: Any) -> None:
    if not isinstance(models, list):
        return
    seen: set[str] = set()
    for index, model in enumerate(models):
        where = f"models[{index}]."
        if not isinstance(model, Mapping):
            continue
        checks.known(model, Ec2ModelArgs, where)
        checks.required(model, "name", "bundle_uri", "bundle_digest", prefix=where)
        name, uri, digest = (model.get(f) for f in ("name", "bundle_uri", "bundle_digest"))
        accepted = "letters, digits, '.', '_' and '-'"
        checks.matches(f"{where}name", name, MODEL_NAME, accepted, "rename it")
        if isinstance(name, str):
            if name in seen:
                checks.add(f"{where}name", name, "each name once", "rename one of the models")
            seen.add(name)
        accepted = "s3://BUCKET/FOLDER of an unpacked bundle"
        checks.matches(f"{where}bundle_uri", uri, _URI, accepted, "take it from BundleStore.uris")
        accepted = "sha256: and 64 hex digits"
        checks.matches(f"{where}bundle_digest", digest, DIGEST, accepted,
                 "take it from Bundle.digest")  # fmt: skip
        if isinstance(uri, str) and isinstance(digest, str) and DIGEST.fullmatch(digest):
            last = uri.rstrip("/").rsplit("/", 1)[-1]
            if re.fullmatch("[0-9a-f]{64}", last) and last != digest.removeprefix("sha256:"):
                checks.add(f"{where}bundle_digest", digest, f"sha256:{last}, as in bundle_uri",
                           "take both from the same bundle")  # fmt: skip


def _check_machine(checks: Checks, args: Ec2EndpointArgs) -> None:
    kind = args.get("instance_type")
    models = args.get("models")
    if isinstance(kind, str) and kind:
        if kind.startswith(SAGEMAKER_PREFIX):
            checks.add("instance_type", kind, "an instance type of EC2",
                       f"write {kind.removeprefix(SAGEMAKER_PREFIX)}")  # fmt: skip
        elif instance(kind) is None:
            checks.add("instance_type", kind, "an instance type of EC2, e.g. c7i.xlarge",
                       "aws ec2 describe-instance-types")  # fmt: skip
        for index, model in enumerate(models if isinstance(models, list) else ()):
            variant = model.get("variant") if isinstance(model, Mapping) else None
            why = why_not(kind, variant) if isinstance(variant, str) else None
            if why:
                checks.add(f"models[{index}].variant", str(variant), f"one that {kind} runs: {why}",
                           "choose another instance_type or variant")  # fmt: skip
        machine = instance(kind)
        if machine and machine.accelerator == "nvidia" and not (
            args.get("ami_id") or args.get("ami_parameter")
        ):  # fmt: skip
            checks.add("ami_id", None, "an image of the Debian family with NVIDIA's driver",
                       f"{kind} has a GPU that the default image cannot use")  # fmt: skip
    checks.matches("ami_id", args.get("ami_id"), _AMI, "ami- and hex digits")
    if args.get("ami_id") and args.get("ami_parameter"):
        checks.add("ami_parameter", str(args.get("ami_parameter")), "nothing beside ami_id",
                   "remove one of them")  # fmt: skip
    checks.number("root_gb", args.get("root_gb"), 8, 16384, whole=True)
    for field in ("kms_key_arn", "bundle_kms_key_arn"):
        checks.matches(field, args.get(field), KMS_KEY, "the ARN of a KMS key (not of an alias)")


def _check_group(checks: Checks, args: Ec2EndpointArgs) -> None:
    dev = args.get("dev") is True
    least, most = args.get("min_size", 1 if dev else 2), args.get("max_size")
    floor = 1 if dev else 2
    why = "" if dev else "one machine is a single point of failure; dev: true permits it"
    checks.number("min_size", least, floor, 500, whole=True, fix=why)
    checks.number("max_size", most, 1, 500, whole=True)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        checks.add("max_size", str(most), f"at least min_size {least}", "raise it")
    checks.number("target_cpu_percent", args.get("target_cpu_percent"), 1, 100)
    checks.number("target_requests_per_minute", args.get("target_requests_per_minute"), 1, 1e9)
    checks.number("health_check_grace_seconds", args.get("health_check_grace_seconds"), 60, 7200,
                  whole=True)  # fmt: skip
    alarms = args.get("rollback_alarms")
    if isinstance(alarms, list) and len(alarms) > 10:
        checks.add("rollback_alarms", f"{len(alarms)} alarms", "10 at most", "name fewer")


def _check_network(checks: Checks, args: Ec2EndpointArgs) -> None:
    internal = args.get("internal") is True
    given = args.get("vpc_id") is not None
    needed = {"private_subnet_ids"} | (set() if internal else {"public_subnet_ids"})
    for field in ("private_subnet_ids", "public_subnet_ids"):
        ids = args.get(field)
        if ids is None:
            if given and field in needed:
                checks.add(field, None, "subnets in at least 2 zones", f"add {field} of the VPC")
            continue
        if not given:
            checks.add(field, str(ids), "nothing without vpc_id", "add vpc_id, or remove it")
        if isinstance(ids, list) and (len(ids) < 2 or (is_plain(ids) and len(set(ids)) < 2)):
            checks.add(field, str(ids), "2 or more subnets, each in another zone",
                       "a load balancer needs two zones")  # fmt: skip
    zones = args.get("availability_zones")
    if isinstance(zones, list):
        different = len(set(zones)) if is_plain(zones) else len(zones)
        if not 2 <= different <= MOST_ZONES:
            checks.add("availability_zones", ", ".join(map(str, zones)),
                       f"2 to {MOST_ZONES} different zones",
                       "a load balancer needs two zones")  # fmt: skip
    for field in ("availability_zones", "vpc_cidr"):
        if given and args.get(field) is not None:
            checks.add(field, str(args.get(field)), "nothing beside vpc_id", "remove it")
    cidr = args.get("vpc_cidr")
    if isinstance(cidr, str):
        network = _network(checks, "vpc_cidr", cidr)
        if network and not (network.version == 4 and 16 <= network.prefixlen <= 24):
            checks.add("vpc_cidr", cidr, "an IPv4 network from /16 to /24", "e.g. 10.64.0.0/16")
    allowed = args.get("allowed_cidrs")
    for index, value in enumerate(allowed if isinstance(allowed, list) else ()):
        if isinstance(value, str):
            _network(checks, f"allowed_cidrs[{index}]", value)


def _network(
    checks: Checks, field: str, value: str
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        if "/" not in value:
            raise ValueError("no length after a /")
        return ipaddress.ip_network(value)
    except ValueError as error:
        checks.add(field, value, f"a network, e.g. 203.0.113.0/24 ({error})", "correct it")
        return None


def _check_front(checks: Checks, args: Ec2EndpointArgs) -> None:
    checks.matches("certificate_arn", args.get("certificate_arn"), _CERTIFICATE,
             "the ARN of a certificate in ACM", "aws acm list-certificates")  # fmt: skip
    checks.matches("domain", args.get("domain"), _DOMAIN, "a domain name, e.g. api.example.com")
    if args.get("hosted_zone_id") and not args.get("domain"):
        checks.add("domain", None, "the name to make in the hosted zone", "add domain")
    policy = args.get("ssl_policy")
    if isinstance(policy, str) and not policy.startswith("ELBSecurityPolicy-TLS13-1-"):
        checks.add("ssl_policy", policy, "a policy with TLS 1.3 (ELBSecurityPolicy-TLS13-1-…)",
                   "leave it out")  # fmt: skip
    elif isinstance(policy, str) and policy.startswith(
        ("ELBSecurityPolicy-TLS13-1-0", "ELBSecurityPolicy-TLS13-1-1")
    ):
        checks.add("ssl_policy", policy, "a policy without TLS 1.0 and 1.1", "leave it out")
    for field in ("api_key", "previous_api_key"):
        key = args.get(field)
        if isinstance(key, str) and not KEY.fullmatch(key):
            checks.add(field, "(not shown)",
                       "at least 16 printable ASCII characters without spaces",
                       "leave it out to get a random one" if field == "api_key" else "remove it"
            )  # fmt: skip


def _check_server(checks: Checks, args: Ec2EndpointArgs) -> None:
    checks.number("workers", args.get("workers"), 1, 64, whole=True)
    checks.number("request_seconds", args.get("request_seconds"), 1, 3600,
                  fix="a load balancer waits 4000 s at most")  # fmt: skip
    checks.number("max_body_bytes", args.get("max_body_bytes"), 1024, 1e9, whole=True)
    checks.number("requests_per_minute", args.get("requests_per_minute"), 1, 1e6, whole=True)
    check_log_days(checks, args.get("log_retention_days"))
    accepted = "s3://BUCKET/FOLDER with wheels"
    checks.matches("wheelhouse_uri", args.get("wheelhouse_uri"), _URI, accepted)
    index = args.get("package_index")
    if isinstance(index, str) and "@" in index.removeprefix("https://").partition("/")[0]:
        checks.add("package_index", "(not shown)", "an address without a name and password",
                   "a machine's start script is no place for secrets: put wheels into "
                   "wheelhouse_uri, or PIP_INDEX_URL into /etc/sixways/boot.env of your own image"
        )  # fmt: skip
    else:
        checks.matches("package_index", index, re.compile(r"https://\S+"),
                 "an https:// address of a package index")  # fmt: skip
    checks.matches("version", args.get("version"), re.compile(r"[0-9][A-Za-z0-9.+!]*"),
             "a version of sixways")  # fmt: skip
