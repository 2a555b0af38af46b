"""What may stand under `sixways:cloud`, and how it is read: typed, in Python's names.

`pulumi config set --path` writes 0.01 as a text and 42 as a number; which one is meant, the type of
the input says.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import GenericAlias
from typing import Any, get_origin

from sixways.cloud import (
    BundleStoreArgs,
    CloudMonitoringArgs,
    Ec2EndpointArgs,
    MonthlyBudgetArgs,
    SageMakerEndpointArgs,
    ServerImageArgs,
)
from sixways.cloud.sagemaker.args import SageMakerVariantArgs
from sixways.naming import to_camel, to_snake
from sixways.observability.slo import SloArgs
from sixways.shapes import fields, items, misfits
from sixways_bundle import Problem

# What the stack itself gives a component, and what to do instead.
_MADE: dict[str, dict[str, str]] = {
    "store": {"bundles": "remove it: sixways:models are stored"},
    "sagemaker": {"image_uri": "give it as sixways:cloud.image.imageUri"},
    "variant": {"bundle": "name one of sixways:models as model"},
    "ec2": {
        "models": "remove it: sixways:models are served",
        "api_key": "pulumi config set --secret sixways:apiKey KEY",
        "bundle_kms_key_arn": "remove it: it is the store's",
    },
    "monitoring": dict.fromkeys(
        (
            "endpoint_name", "variants", "mode", "instance_type", "load_balancer_arn_suffix",
            "target_group_arn_suffix", "autoscaling_group_name",
        ),
        "remove it: the stack's own endpoint is watched",
    ),
}  # fmt: skip


def _without(part: str, args: type) -> dict[str, Any]:
    return {name: hint for name, hint in _of(args).items() if name not in _MADE[part]}


def _of(args: type) -> Mapping[str, Any]:
    return fields(args) or {}


_VARIANT = {"model": str, **_without("variant", SageMakerVariantArgs)}
PARTS: dict[str, Any] = {
    "image": ServerImageArgs,
    "store": _without("store", BundleStoreArgs),
    "slo": SloArgs,
    "sagemaker": {
        **_without("sagemaker", SageMakerEndpointArgs),
        "variants": GenericAlias(list, (_VARIANT,)),
    },
    "ec2": _without("ec2", Ec2EndpointArgs),
    "monitoring": _without("monitoring", CloudMonitoringArgs),
    "budget": MonthlyBudgetArgs,
    "tags": dict[str, str],
    "dev": bool,
}
"""What may stand under `sixways:cloud`, by its type."""


@dataclass(frozen=True)
class Read:
    """Settings that were read.

    Attributes:
        own: as the components take them. Settings without a value (`null`) are left out.
        unknown: names that mean nothing.
        misfits: values of another type than what they are for.
    """

    own: dict[str, Any]
    unknown: list[Problem]
    misfits: list[Problem]


def read(given: dict[str, Any]) -> Read:
    """Reads what stands under `sixways:cloud`."""
    unknown: list[Problem] = []
    own: dict[str, Any] = _read(given, PARTS, "", unknown)
    wrong = misfits(own, PARTS)
    return Read(own, [in_settings(p) for p in unknown], [in_settings(p) for p in wrong])


def in_settings(problem: Problem) -> Problem:
    """The problem in the settings' words: names in camelCase, below `sixways:cloud`."""
    field = _camel(problem.field)
    return replace(
        problem,
        field=field if ":" in field else f"sixways:cloud.{field}",  # the provider's has its own
        accepted=_camel(problem.accepted),
        fix=_camel(problem.fix),
    )


def _read(value: Any, hint: Any, where: str, problems: list[Problem]) -> Any:
    known = fields(hint)
    if isinstance(value, dict) and known is not None:
        found = {}
        for key, item in value.items():
            name = to_snake(key)
            if name not in known:
                problems.append(_unknown(key, known, where))
            elif item is not None:
                found[name] = _read(item, known[name], f"{where}.{name}".lstrip("."), problems)
        return found
    if isinstance(value, dict) and get_origin(hint) is dict:  # whose keys are the user's own
        return {key: _read(item, items(hint), f"{where}.{key}", problems)
                for key, item in value.items() if item is not None}  # fmt: skip
    if isinstance(value, list) and get_origin(hint) is list:
        return [_read(item, items(hint), f"{where}[{index}]", problems)
                for index, item in enumerate(value)]  # fmt: skip
    return _scalar(value, hint)


def _scalar(value: Any, hint: Any) -> Any:
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if hint is bool and value in ("true", "false"):
        return value == "true"
    if hint in (int, float) and isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    return value


def _unknown(key: str, known: Mapping[str, Any], where: str) -> Problem:
    part = "variant" if where.startswith("sagemaker.variants[") else where
    fix = _MADE.get(part, {}).get(to_snake(key), "correct or remove the name")
    # The name alone: what stands under a mistyped `apikey` is still a secret.
    return Problem(f"{where}.{key}".lstrip("."), key, ", ".join(sorted(known)), fix)


def _names(hint: Any) -> Iterator[str]:
    known = fields(hint)
    if known is not None:
        for name, inner in known.items():
            yield name
            yield from _names(inner)
    elif get_origin(hint) in (list, dict):
        yield from _names(items(hint))


_NAMES = {name for name in _names(PARTS) if "_" in name}


def _camel(text: str) -> str:
    """A text with the names of inputs as settings have them; other words stay."""
    return re.sub(
        r"[a-z0-9]+(?:_[a-z0-9]+)+",
        lambda match: to_camel(match.group()) if match.group() in _NAMES else match.group(),
        text,
    )
