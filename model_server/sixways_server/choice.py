"""Which variant of a bundle this machine serves, and why: for the server and `sixways engines`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from sixways_bundle.errors import BundleError
from sixways_bundle.manifest import Manifest, Variant
from sixways_bundle.report import BuildReport
from sixways_bundle.report import machine as kind_of_machine
from sixways_server.hardware import cuda_gpus


@dataclass(frozen=True)
class Needs:
    """What serving takes: importable modules, the extra that brings them, a CUDA GPU."""

    modules: tuple[str, ...]
    extra: str
    gpu: bool = False


NEEDS: Mapping[tuple[str, str], Needs] = {
    ("openvino", "embeddings"): Needs(("openvino",), "server"),
    ("onnx", "embeddings"): Needs(("onnxruntime",), "server"),
    ("torch", "embeddings"): Needs(("torch", "transformers"), "torch"),
    ("litert", "embeddings"): Needs(("ai_edge_litert",), "litert"),
    ("openvino", "chat"): Needs(("openvino_genai",), "server"),
    ("torch", "chat"): Needs(("torch", "transformers"), "torch"),
    ("vllm", "chat"): Needs(("vllm",), "vllm", gpu=True),
    ("openvino", "tensor"): Needs(("openvino",), "server"),
    ("onnx", "tensor"): Needs(("onnxruntime",), "server"),
    ("litert", "tensor"): Needs(("ai_edge_litert",), "litert"),
    ("tensorflow", "tensor"): Needs(("tensorflow",), "tensorflow"),
}
"""By engine and task: what can be served, and what it takes."""


@dataclass(frozen=True)
class Choice:
    """The variant that is served.

    Attributes:
        variant: it.
        reason: why it.
        others: by name of every other variant of the bundle: why not it.
    """

    variant: Variant
    reason: str
    others: Mapping[str, str]


def choose_variant(
    manifest: Manifest, wanted: str | None, report: BuildReport | None = None
) -> Choice:
    """The variant to serve.

    The wanted one; else, of those that this machine has an engine for: one for its GPU, then the
    fastest as measured when the bundle was built, if that was on this kind of machine, then the
    first. The report is no part of what was verified; it only picks among variants that were.

    Args:
        manifest: the bundle's.
        wanted: a variant's name, or None.
        report: what was measured when the bundle was built, if it came along.

    Raises:
        BundleError: the bundle has no such variant, or the machine no engine for it.
    """
    missing = {variant.name: missing_for(variant, manifest.task) for variant in manifest.variants}
    usable = [variant for variant in manifest.variants if not missing[variant.name]]
    if wanted is not None:
        asked = manifest.variant(wanted)
        if missing[wanted]:
            raise BundleError(
                f"variant {wanted} of {manifest.name} cannot be served here: {missing[wanted]}"
            )
        others = {name: why or "another one was asked for" for name, why in missing.items()}
        return _choice(asked, "asked for by name", others)
    if not usable:
        reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise BundleError(f"no variant of {manifest.name} can be served here ({reasons})")
    for variant in usable:
        if NEEDS[variant.engine, manifest.task].gpu:
            return _choice(
                variant,
                "made for the GPU of this machine",
                {name: why or "does not use the GPU" for name, why in missing.items()},
            )
    scores = _scores(manifest, report)
    timed = [variant for variant in usable if variant.name in scores]
    if len(timed) > 1:
        fastest = min(timed, key=lambda variant: scores[variant.name])
        return _choice(
            fastest,
            f"the fastest when built on this kind of machine ({scores[fastest.name]:.2f} ms)",
            {
                name: why
                or (f"slower ({scores[name]:.2f} ms)" if name in scores else "was not timed")
                for name, why in missing.items()
            },
        )
    first = usable[0]
    if len(manifest.variants) == 1:
        return _choice(first, "the only one of the bundle", {})
    others = {name: why or "comes later in the bundle" for name, why in missing.items()}
    return _choice(first, "the first of the bundle that this machine has an engine for", others)


def missing_for(variant: Variant, task: str) -> str:
    """What this machine lacks to serve the variant; empty if nothing."""
    needs = NEEDS.get((variant.engine, task))
    if needs is None:
        return f"no {variant.engine} engine for task {task}"
    absent = [module for module in needs.modules if find_spec(module) is None]
    if absent:
        return f"{', '.join(absent)} is not installed; pip install 'sixways[{needs.extra}]'"
    if needs.gpu and not cuda_gpus():
        return "needs a CUDA GPU, and this machine shows none"
    return ""


def _choice(variant: Variant, reason: str, others: Mapping[str, str]) -> Choice:
    return Choice(variant, reason, {n: why for n, why in others.items() if n != variant.name})


def _scores(manifest: Manifest, report: BuildReport | None) -> dict[str, float]:
    """Milliseconds by variant, where they were measured on a machine like this."""
    if (
        report is None
        or report.bundle_digest != manifest.digest
        or report.machine != kind_of_machine()
    ):
        return {}
    return {row.variant: row.score_ms for row in report.candidates if row.score_ms is not None}
