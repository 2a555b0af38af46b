"""What AWS would refuse of the inputs, found before anything is made.

Sources: SageMaker's API as botocore's model states it (names, ranges, the one shadow variant), and
AWS's pages "Deploy models with Amazon SageMaker Serverless Inference" (feature exclusions),
"Shadow tests: exclusions" and "Deployment guardrails" (which exist for real-time and asynchronous
endpoints).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from sixways.checks import Checks, InputsRefused, is_number
from sixways.cloud.formats import SAGEMAKER_NAME, check_log_days
from sixways.cloud.regions import check_region, configured_region
from sixways.cloud.sagemaker import defaults
from sixways.cloud.sagemaker.args import (
    SageMakerAsyncArgs,
    SageMakerCaptureArgs,
    SageMakerEndpointArgs,
)
from sixways.cloud.sagemaker.check_variants import check_variants
from sixways.cloud.sagemaker.copies import check_scale_to_zero
from sixways.cloud.sagemaker.deployment import MOST_ALARMS, check_deployment
from sixways.cloud.sagemaker.modes import ASYNC, MODES, SERVERLESS, STEPWISE, TO_ZERO
from sixways.observability.slo import check_slo
from sixways.shapes import misfits
from sixways_bundle import Problem

IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?"
    r"/(?P<repository>[a-z0-9._/-]+)@sha256:[0-9a-f]{64}"
)
_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(.+/)?")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
_ROOM_FOR_SUFFIXES = 20
_OFFERED = (
    "ecr.api", "ecr.dkr", "kms", "logs", "monitoring", "sagemaker.api", "sagemaker.runtime",
    "secretsmanager", "sns", "sts",
)  # fmt: skip
_NO_VPC = "AWS runs it in no VPC of yours"
_WITHOUT: dict[str, tuple[tuple[str, str], ...]] = {
    SERVERLESS: (
        ("vpc_id", _NO_VPC),
        ("subnet_ids", _NO_VPC),
        ("security_group_ids", _NO_VPC),
        ("create_vpc", _NO_VPC),
        ("network_isolation", "AWS has no network isolation there"),
        ("capture", "AWS captures no data there"),
        ("deployment", "AWS moves traffic step by step for instances only"),
        ("rollback_alarm_names", "AWS rolls back endpoints with instances only"),
        ("kms_key_arn", "there is no volume of yours to encrypt; the log has log_kms_key_arn"),
    ),
    TO_ZERO: (
        ("capture", "it is not offered with inference components"),
        ("deployment", "AWS replaces copies one after another"),
        ("rollback_alarm_names", "AWS replaces copies one after another"),
    ),
}
"""What a mode does not have, and why."""

_PLAIN: dict[str, tuple[type, str]] = {
    "mode": (str, "a text"),
    "endpoint_name": (str, "a text"),
    "create_vpc": (bool, "true or false"),
    "network_isolation": (bool, "true or false"),
    "dev": (bool, "true or false"),
    "variants": (list, "a list"),
    "subnet_ids": (list, "a list"),
    "security_group_ids": (list, "a list"),
    "interface_endpoints": (list, "a list"),
    "alarm_actions": (list, "a list"),
    "rollback_alarm_names": (list, "a list"),
    "vpc_cidr": (str, "a text"),
    "tags": (dict, "a dict"),
}
"""What decides which resources there are, so that it must be known before the update."""


def problems(name: str, args: SageMakerEndpointArgs) -> list[Problem]:
    """Everything that is wrong with the inputs of a `SageMakerEndpoint`; makes nothing.

    Args:
        name: the component's name.
        args: its inputs.
    """
    checks = Checks()
    checks.known(args, SageMakerEndpointArgs)
    if wrong := [*misfits(args, SageMakerEndpointArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    checks.required(args, "image_uri", "variants")
    check_region(checks, configured_region(), "sagemaker", "aws:region")
    _plain(checks, args)
    checks.one_of("mode", args.get("mode"), MODES)
    _check_name(checks, name, args)
    _check_image(checks, args.get("image_uri"))
    _check_capture(checks, args.get("capture"))
    check_slo(checks, args.get("slo"))
    check_log_days(checks, args.get("log_retention_days"))
    checks.matches("role_arn", args.get("role_arn"), _ROLE, "an IAM role's ARN")
    if any(
        problem.field in _PLAIN and problem.field != "endpoint_name" for problem in checks.problems
    ):
        # What else is right hangs on these: more would be guesses.
        return checks.problems
    if len(args.get("alarm_actions", ())) > 5:
        checks.add("alarm_actions", len(args["alarm_actions"]), "at most 5, as CloudWatch takes",
                   "let one topic tell the others")  # fmt: skip
    check_variants(checks, name, args)
    _check_mode(checks, args)
    if defaults.mode(args) != SERVERLESS:
        _check_network(checks, args)
    if defaults.mode(args) in STEPWISE:
        _check_alarms(checks, args)
        variants = [variant for variant in args["variants"] if isinstance(variant, dict)]
        counts = [
            defaults.instance_count(variant, args) for variant in defaults.in_production(variants)
        ]
        check_deployment(checks, args.get("deployment"), counts)
    _check_async(checks, args)
    _check_to_zero(checks, args)
    return checks.problems


def refuse(name: str, args: SageMakerEndpointArgs) -> None:
    """Raises what `problems` finds.

    Raises:
        InputsRefused: something is wrong; carries every problem.
    """
    found = problems(name, args)
    if found:
        raise InputsRefused(f"SageMakerEndpoint {name}", found)


def _plain(checks: Checks, args: Mapping[str, Any]) -> None:
    for field, (kind, words) in _PLAIN.items():
        value = args.get(field)
        if value is not None and not isinstance(value, kind):
            checks.add(field, type(value).__name__, f"{words}, known before the update")


def _check_name(checks: Checks, name: str, args: SageMakerEndpointArgs) -> None:
    checks.matches("endpoint_name", args.get("endpoint_name"), SAGEMAKER_NAME,
        "letters, digits and single hyphens between them, at most 63",
    )  # fmt: skip
    # SageMaker names models and configurations after the component.
    most = defaults.LONGEST_NAME - _ROOM_FOR_SUFFIXES
    if not SAGEMAKER_NAME.fullmatch(name) or len(name) > most:
        checks.add("name", name, f"letters, digits and hyphens between them, at most {most}",
                   "rename the component")  # fmt: skip


def _check_image(checks: Checks, image: object) -> None:
    if not isinstance(image, str) or not image:
        return
    found = IMAGE.fullmatch(image)
    region = configured_region()
    if found is None:
        checks.add(
            "image_uri", image, "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:DIGEST",
            "name an image in ECR by its digest; a tag may become another image",
        )  # fmt: skip
    elif region is not None and found["region"] != region:
        checks.add("image_uri", image, f"an image in the endpoint's region, {region}",
                   "copy it there; SageMaker pulls from its own region only")  # fmt: skip


def _check_mode(checks: Checks, args: SageMakerEndpointArgs) -> None:
    mode = defaults.mode(args)
    for field, why in _WITHOUT.get(mode, ()):
        if args.get(field) not in (None, False, [], {}):
            checks.add(field, "set", f"nothing in mode {mode}: {why}",
                       "remove it, or choose real-time")  # fmt: skip
    if mode == SERVERLESS and len(args["variants"]) > 1:
        checks.add("variants", len(args["variants"]), "one variant in mode serverless",
                   "keep one, or choose real-time")  # fmt: skip


def _check_to_zero(checks: Checks, args: SageMakerEndpointArgs) -> None:
    given, wanted = args.get("scale_to_zero"), defaults.mode(args) == TO_ZERO
    if not wanted:
        if given is not None:
            checks.add("scale_to_zero", "set", "nothing but in mode scale-to-zero",
                       "remove it, or set mode to scale-to-zero")  # fmt: skip
        return
    variants = [variant for variant in args["variants"] if isinstance(variant, dict)]
    types = {kind for v in variants if isinstance(kind := v.get("instance_type"), str)}
    if len(types) > 1:
        checks.add("variants", ", ".join(sorted(types)), "one instance type, which all share",
                   "give all the same, or use two endpoints")  # fmt: skip
    check_scale_to_zero(
        checks,
        given if isinstance(given, dict) else {},
        "scale_to_zero.",
        instance_type=types.pop() if len(types) == 1 else None,
        models=[defaults.variant_name(variant) for variant in variants],
    )


def _check_network(checks: Checks, args: Mapping[str, Any]) -> None:
    own, vpc = args.get("create_vpc", False), args.get("vpc_id")
    subnets = args.get("subnet_ids", [])
    if own:
        for field in ("vpc_id", "subnet_ids", "security_group_ids"):
            if args.get(field):
                checks.add(field, "set", "nothing beside create_vpc", "remove one of the two")
    elif vpc is not None and not 2 <= len(subnets) <= 16:
        checks.add("subnet_ids", len(subnets) or None, "2 to 16 subnets, in at least two zones",
                   "name a private subnet in each of two zones")  # fmt: skip
    elif vpc is None:
        for field in ("subnet_ids", "security_group_ids"):
            if args.get(field):
                checks.add(field, "set", "nothing without vpc_id", "add vpc_id")
    plain = [subnet for subnet in subnets if isinstance(subnet, str)]
    if len(set(plain)) < len(plain):
        checks.add("subnet_ids", ", ".join(plain), "each subnet once", "remove the repeated one")
    if len(args.get("security_group_ids", [])) > 5:
        checks.add("security_group_ids", len(args["security_group_ids"]), "at most 5")
    for index, service in enumerate(args.get("interface_endpoints", [])):
        checks.one_of(f"interface_endpoints[{index}]", service, _OFFERED)
    for field in ("vpc_cidr", "interface_endpoints"):
        if args.get(field) and not own:
            checks.add(field, "set", "nothing without create_vpc", "remove it, or set create_vpc")
    _check_cidr(checks, args.get("vpc_cidr"))


def _check_cidr(checks: Checks, cidr: object) -> None:
    if not isinstance(cidr, str):
        return
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError:
        network = None
    if network is None or not network.is_private or not 16 <= network.prefixlen <= 24:
        checks.add("vpc_cidr", cidr, "private IPv4 addresses, /16 to /24", "e.g. 10.60.0.0/16")


def _check_alarms(checks: Checks, args: Mapping[str, Any]) -> None:
    """SageMaker watches at most ten alarms, the endpoint's own among them."""
    more = len(args.get("rollback_alarm_names", []))
    own = 2 * len([v for v in args["variants"] if isinstance(v, dict) and not v.get("shadow")])
    if own + more > MOST_ALARMS:
        checks.add(
            "rollback_alarm_names", more,
            f"at most {max(0, MOST_ALARMS - own)}: SageMaker takes {MOST_ALARMS} alarms, "
            f"and {own} are the variants' own",
            "name fewer",
        )  # fmt: skip


def _check_async(checks: Checks, args: SageMakerEndpointArgs) -> None:
    given: Any = args.get("asynchronous")
    wanted = defaults.mode(args) == ASYNC
    if not wanted:
        if given is not None:
            checks.add("asynchronous", "set", "nothing but in mode async",
                       "remove it, or set mode to async")  # fmt: skip
        return
    if not isinstance(given, dict):
        given = {}
    checks.known(given, SageMakerAsyncArgs, "asynchronous.")
    checks.required(given, "input_uri", "output_uri", prefix="asynchronous.")
    for field in ("input_uri", "output_uri", "failure_uri"):
        checks.matches(f"asynchronous.{field}", given.get(field), _PREFIX,
                 "s3://BUCKET/PREFIX/, with the slash at its end")  # fmt: skip
    checks.number("asynchronous.max_concurrent_per_instance",
                  given.get("max_concurrent_per_instance"), 1, 1000, whole=True)  # fmt: skip


def _check_capture(checks: Checks, capture: Any) -> None:
    if capture is None:
        return
    if not isinstance(capture, dict):
        checks.add("capture", type(capture).__name__, "a dict of its fields")
        return
    checks.known(capture, SageMakerCaptureArgs, "capture.")
    checks.required(capture, "uri", prefix="capture.")
    checks.matches("capture.uri", capture.get("uri"), _PREFIX,
             "s3://BUCKET/PREFIX/, with the slash at its end")  # fmt: skip
    percent = capture.get("percent")
    checks.number("capture.percent", percent, 0, 100, whole=is_number(percent))
