"""Checks of the endpoint's variants: each by itself, and all of them together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from sixways.checks import DIGEST, MODEL_NAME, Checks, is_number, is_plain
from sixways.cloud.formats import SAGEMAKER_NAME
from sixways.cloud.instances import sagemaker_types, why_not
from sixways.cloud.sagemaker import defaults
from sixways.cloud.sagemaker.args import (
    SageMakerBundleArgs,
    SageMakerEndpointArgs,
    SageMakerServerlessArgs,
    SageMakerVariantArgs,
)
from sixways.cloud.sagemaker.modes import ASYNC, SERVERLESS, TO_ZERO
from sixways.cloud.sagemaker.scaling import check_scaling
from sixways.cloud.sagemaker.storage import has_own_storage

_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+/")
_ARCHIVE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.tar\.gz")
MEMORY_MB = (1024, 2048, 3072, 4096, 5120, 6144)
MOST_VARIANTS = 10
_OF_INSTANCES = ("instance_type", "instance_count", "startup_timeout_seconds",
                 "download_timeout_seconds", "volume_size_gb")  # fmt: skip
# Copies of inference components have their own numbers, and their instances are SageMaker's.
_NOT_OF_COPIES = ("instance_count", "scaling", "shadow", "volume_size_gb", "weight")
# The server's own settings, which the endpoint makes from the bundle.
_RESERVED = ("SIXWAYS_MODELS", "SIXWAYS_NAME", "SIXWAYS_VARIANT")


def check_variants(checks: Checks, name: str, args: SageMakerEndpointArgs) -> None:
    """Checks all variants of an endpoint, whose list is known to be one."""
    variants: list[Any] = list(args["variants"])
    good: list[SageMakerVariantArgs] = []
    for index, variant in enumerate(variants):
        if isinstance(variant, dict):
            good.append(cast(SageMakerVariantArgs, variant))
            _check_variant(checks, f"variants[{index}].", variant, args)
        else:
            checks.add(f"variants[{index}]", type(variant).__name__, "a dict of a variant's fields")
    if len(variants) > MOST_VARIANTS:
        checks.add("variants", len(variants), f"1 to {MOST_VARIANTS}", "use another endpoint")
    names = [defaults.variant_name(variant) for variant in good]
    for index, one in enumerate(names):
        if one in names[:index]:
            checks.add(f"variants[{index}].name", one, "each name once", "rename the variant")
        elif isinstance(one, str) and len(name) + len(one) > defaults.LONGEST_NAME - 15:
            # SageMaker's name of the model: both, `-model-` and seven random characters.
            checks.add(f"variants[{index}].name", one,
                       f"at most {defaults.LONGEST_NAME - 15} characters with the component's name",
                       "shorten one of the two")  # fmt: skip
    _check_weights(checks, good)
    _check_shadow(checks, good, args)


def _check_weights(checks: Checks, variants: list[SageMakerVariantArgs]) -> None:
    weights = [variant.get("weight", 1) for variant in defaults.in_production(variants)]
    known = [weight for weight in weights if is_number(weight)]
    if known and len(known) == len(weights) and sum(known) <= 0:
        checks.add("variants", "weights 0", "a weight above 0 for one of them",
                   "give the variant that shall answer a weight")  # fmt: skip


def _check_shadow(
    checks: Checks, variants: list[SageMakerVariantArgs], args: SageMakerEndpointArgs
) -> None:
    production = defaults.in_production(variants)
    shadows = len(variants) - len(production)
    if not shadows:
        return
    if not production:
        checks.add("variants", "only a shadow", "a variant that answers", "add one without shadow")
    elif shadows > 1 or len(production) > 1:
        checks.add(
            "variants", f"{len(production)} and {shadows} of them shadows",
            "one variant and one shadow of it", "use one endpoint for each test",
        )  # fmt: skip
    mode = defaults.mode(args)
    if mode in (ASYNC, SERVERLESS):  # with copies the variant itself is told
        checks.add("variants", "a shadow", f"no shadow in mode {mode}: AWS refuses it",
                   "remove it, or choose real-time")  # fmt: skip
    elif production:
        share, of = _weight_of(variants, shadow=True), _weight_of(variants, shadow=False)
        if is_number(share) and is_number(of) and share > of:
            checks.add("variants", f"the shadow's weight {share:g}", f"up to the other's, {of:g}",
                       "the same weight copies every request")  # fmt: skip


def _weight_of(variants: list[SageMakerVariantArgs], *, shadow: bool) -> object:
    return next(v.get("weight", 1) for v in variants if defaults.is_shadow(v) is shadow)


def _check_variant(
    checks: Checks, prefix: str, variant: Mapping[str, Any], args: SageMakerEndpointArgs
) -> None:
    checks.known(variant, SageMakerVariantArgs, prefix)
    checks.required(variant, "bundle", prefix=prefix)
    for field, kind in (("name", str), ("shadow", bool), ("environment", dict)):
        value = variant.get(field)
        if value is not None and not isinstance(value, kind):
            checks.add(f"{prefix}{field}", type(value).__name__,
                       f"{kind.__name__}, known before the update")  # fmt: skip
    name = variant.get("name")
    if isinstance(name, str) and not SAGEMAKER_NAME.fullmatch(name):
        checks.add(f"{prefix}name", name, "letters, digits and hyphens between them, at most 63")
    checks.number(f"{prefix}weight", variant.get("weight"), 0, 1e9)
    environment = variant.get("environment")
    for key in _RESERVED:
        if isinstance(environment, dict) and key in environment:
            checks.add(f"{prefix}environment.{key}", key, "settings that no bundle decides",
                       "say it in bundle")  # fmt: skip
    serverless = defaults.mode(args) == SERVERLESS
    _check_bundle(checks, f"{prefix}bundle.", variant.get("bundle"), serverless=serverless)
    if serverless:
        _check_serverless(checks, prefix, variant)
    else:
        _check_instances(checks, prefix, variant, args)
    if defaults.mode(args) == TO_ZERO:
        for field in _NOT_OF_COPIES:
            if variant.get(field) is not None:
                checks.add(f"{prefix}{field}", variant[field], "nothing in mode scale-to-zero",
                           "remove it; scale_to_zero holds the numbers")  # fmt: skip
    else:
        _check_scaling(checks, prefix, variant, args)


def _check_scaling(
    checks: Checks, prefix: str, variant: Mapping[str, Any], args: SageMakerEndpointArgs
) -> None:
    scaling = variant.get("scaling")
    if scaling is None:
        return
    if not isinstance(scaling, dict):
        checks.add(f"{prefix}scaling", type(scaling).__name__, "a dict of its fields")
        return
    serverless = defaults.mode(args) == SERVERLESS
    provisioned = (variant.get("serverless") or {}).get("provisioned_concurrency")
    if serverless and provisioned is None:
        checks.add(f"{prefix}serverless.provisioned_concurrency", None,
                   "a number where scaling is given, which changes it",
                   "add it, or remove scaling: on demand, serverless grows by itself")  # fmt: skip
    check_scaling(
        checks,
        scaling,
        f"{prefix}scaling.",
        mode=defaults.mode(args),
        dev=bool(args.get("dev")),
        instances=provisioned
        if serverless
        else defaults.instance_count(cast(SageMakerVariantArgs, variant), args),
    )


def _check_bundle(checks: Checks, prefix: str, bundle: Any, *, serverless: bool) -> None:
    if bundle is None:
        return
    if not isinstance(bundle, dict):
        checks.add(prefix.rstrip("."), type(bundle).__name__, "a dict of its fields")
        return
    checks.known(bundle, SageMakerBundleArgs, prefix)
    checks.required(bundle, "name", "uri", "digest", prefix=prefix)
    patterns = (
        ("name", MODEL_NAME, "letters, digits, '.', '_' and '-'", ""),
        ("digest", DIGEST, "sha256: and 64 hexadecimal digits", "take it from Bundle.digest"),
        ("uri", _ARCHIVE, "s3://BUCKET/KEY.tar.gz in mode serverless",
         "take it from BundleStore.archive_uris") if serverless else
        ("uri", _PREFIX, "s3://BUCKET/PREFIX/, with the slash at its end",
         "take it from BundleStore.uris"),
    )  # fmt: skip
    for field, pattern, accepted, fix in patterns:
        value = bundle.get(field)
        if value and is_plain(value) and not pattern.fullmatch(str(value)):
            checks.add(f"{prefix}{field}", value, accepted, fix)
    checks.number(f"{prefix}size", bundle.get("size"), 1, 2**50, whole=True)


def _check_instances(
    checks: Checks, prefix: str, variant: Mapping[str, Any], args: SageMakerEndpointArgs
) -> None:
    checks.required(variant, "instance_type", prefix=prefix)
    if variant.get("serverless") is not None:
        checks.add(f"{prefix}serverless", "set", "nothing but in mode serverless", "remove it")
    kind = variant.get("instance_type")
    if isinstance(kind, str) and kind:
        if kind not in sagemaker_types():
            family = kind.removeprefix("ml.").partition(".")[0]
            near = sorted(t for t in sagemaker_types() if t.split(".")[1] == family)
            checks.add(
                f"{prefix}instance_type", kind,
                ", ".join(near) or "a type that SageMaker hosts models on, e.g. ml.c6i.xlarge",
            )  # fmt: skip
        elif variant.get("volume_size_gb") is not None and has_own_storage(kind):
            checks.add(f"{prefix}volume_size_gb", variant["volume_size_gb"],
                       f"nothing with {kind}: it has storage of its own", "remove it")  # fmt: skip
        _check_fit(checks, prefix, variant, kind)
    least = 1 if args.get("dev") else 2
    checks.number(f"{prefix}instance_count", variant.get("instance_count"), least, 10_000,
                  whole=True, fix="one instance fails alone; dev: true permits it")  # fmt: skip
    for field in ("startup_timeout_seconds", "download_timeout_seconds"):
        checks.number(f"{prefix}{field}", variant.get(field), 60, 3600, whole=True)
    checks.number(f"{prefix}volume_size_gb", variant.get("volume_size_gb"), 1, 512, whole=True)


def _check_fit(checks: Checks, prefix: str, variant: Mapping[str, Any], kind: str) -> None:
    """Whether the instance can run what is served, as far as that is known."""
    bundle = variant.get("bundle")
    served = bundle.get("variant") if isinstance(bundle, dict) else None
    if not isinstance(bundle, dict) or not isinstance(served, str):
        return
    size = bundle.get("size")
    reason = why_not(kind, served, size if isinstance(size, int) else None)
    if reason:
        checks.add(f"{prefix}instance_type", kind, f"a type that can run {served}: {reason}",
                   "take a larger type or another variant")  # fmt: skip


def _check_serverless(checks: Checks, prefix: str, variant: Mapping[str, Any]) -> None:
    for field in _OF_INSTANCES:
        if variant.get(field) is not None:
            checks.add(f"{prefix}{field}", variant[field],
                       "nothing in mode serverless, which has no instances of yours",
                       "remove it; serverless holds the size")  # fmt: skip
    size = variant.get("serverless") or {}
    if not isinstance(size, dict):
        checks.add(f"{prefix}serverless", type(size).__name__, "a dict of its fields")
        return
    where = f"{prefix}serverless."
    checks.known(size, SageMakerServerlessArgs, where)
    memory = size.get("memory_mb", defaults.MEMORY_MB)
    if is_plain(memory) and memory not in MEMORY_MB:
        checks.add(f"{where}memory_mb", memory, ", ".join(map(str, MEMORY_MB)))
    most = size.get("max_concurrency", defaults.MAX_CONCURRENCY)
    checks.number(f"{where}max_concurrency", most, 1, 200, whole=True)
    limit = min(most, 200) if is_number(most) and most >= 1 else 200
    checks.number(f"{where}provisioned_concurrency", size.get("provisioned_concurrency"), 1, limit,
                  whole=True, fix="it is a part of max_concurrency")  # fmt: skip
    bundle = variant.get("bundle")
    if not isinstance(bundle, dict):
        return
    served, files = bundle.get("variant"), bundle.get("size")
    if isinstance(served, str) and served.partition("-")[0] == "vllm":
        checks.add(f"{prefix}bundle.variant", served, "a variant for CPUs: serverless has no GPU",
                   "take another variant, or choose real-time")  # fmt: skip
    if is_number(files) and is_number(memory) and files > memory * 2**20:
        checks.add(f"{prefix}bundle.size", files, f"files that fit {memory:g} MB of memory",
                   "raise serverless.memory_mb, or take a smaller variant")  # fmt: skip
