"""From a configured model to an engine that answers: verify, choose, open."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import Manifest, Variant
from sixways_bundle.report import load_report
from sixways_server.config import ModelConfig, ServerConfig
from sixways_server.engines.base import Engine, ModelInfo

_MODULES = {
    ("openvino", "embeddings"): ("openvino",),
    ("onnx", "embeddings"): ("onnxruntime",),
    ("torch", "embeddings"): ("torch", "transformers"),
    ("openvino", "chat"): ("openvino_genai",),
}
"""What can be served, and the modules that must be installed for it."""


def open_model(model: ModelConfig, config: ServerConfig) -> Engine:
    """The model's engine, loaded and warm. Blocks for seconds: call it off the event loop.

    Raises:
        BundleError: the bundle is damaged or not signed as it must be, this machine has no
            engine for the variant, or the engine cannot open it.
    """
    if model.is_dummy:
        from sixways_server.engines.dummy import open_dummy

        engine: Engine = open_dummy(model.name, model.path, queue_limit=config.queue_limit)
    else:
        engine = _open_bundle(model, config)
    engine.load()
    return engine


def choose_variant(manifest: Manifest, wanted: str | None) -> Variant:
    """The variant to serve: the wanted one, or the first this machine has an engine for.

    Raises:
        BundleError: the bundle has no such variant, or the machine no engine for it.
    """
    if wanted is not None:
        variant = manifest.variant(wanted)
        missing = _missing(variant, manifest.task)
        if missing:
            raise BundleError(
                f"variant {variant.name} of {manifest.name} cannot be served here: {missing}"
            )
        return variant
    reasons = []
    for variant in manifest.variants:
        missing = _missing(variant, manifest.task)
        if not missing:
            return variant
        reasons.append(f"{variant.name}: {missing}")
    raise BundleError(
        f"no variant of {manifest.name} can be served here ({'; '.join(reasons)})",
    )


def _missing(variant: Variant, task: str) -> str:
    modules = _MODULES.get((variant.engine, task))
    if modules is None:
        return f"no {variant.engine} engine for task {task}"
    absent = [module for module in modules if find_spec(module) is None]
    if not absent:
        return ""
    extra = "torch" if variant.engine == "torch" else "server"
    return f"{', '.join(absent)} is not installed; pip install 'sixways[{extra}]'"


def _open_bundle(model: ModelConfig, config: ServerConfig) -> Engine:
    from sixways_bundle.verify import verify

    bundle = Path(model.path)
    manifest = verify(bundle, digest=model.digest)
    if config.public_key is not None:
        from sixways_bundle.sign import verify_signature

        verify_signature(bundle, config.public_key)
    variant = choose_variant(manifest, model.variant)
    info = _info(model.name, manifest, variant, _selection(bundle, manifest))
    directory = bundle / "variants" / variant.name
    tokenizer = bundle / "tokenizer"
    if manifest.task == "embeddings":
        from sixways_server.engines.encoder import EncoderEngine

        encoder: Engine = EncoderEngine(
            info,
            variant.engine,
            directory,
            tokenizer / "tokenizer.json",
            threads=config.threads,
            queue_limit=config.queue_limit,
        )
        return encoder
    if manifest.task == "chat":
        from sixways_server.engines.openvino_genai import OpenVINOTextEngine

        text: Engine = OpenVINOTextEngine(
            info,
            directory,
            tokenizer,
            eos_token_ids=manifest.eos_token_ids,
            threads=config.threads,
            cache_gb=config.cache_gb,
        )
        return text
    raise BundleError(
        "no engine serves this task", [Problem("task", manifest.task, "embeddings, chat")]
    )


def _selection(bundle: Path, manifest: Manifest) -> list[dict[str, object]]:
    """What the build chose from, for the console; empty where the report did not come along.

    The report is no part of what was verified, so it is shown and decides nothing.
    """
    try:
        report = load_report(bundle)
    except OSError:  # there, but not ours to read
        return []
    if report is None or report.bundle_digest != manifest.digest:
        return []
    return [
        {
            "variant": row.variant,
            "megabytes": row.megabytes,
            "times_smaller": row.times_smaller,
            "quality": row.quality.value,
            **{f"{shape} ms": time for shape, time in row.milliseconds.items()},
            "chosen": row.chosen,
            "reason": row.reason,
        }
        for row in report.candidates
    ]


def _shown_source(uri: str) -> str:
    """The source as everybody may read it: of a file only its name, not where it lay."""
    if not uri.startswith("file:"):
        return uri
    return f"file:{uri.rstrip('/').rpartition('/')[2].removeprefix('file:')}"


def _info(
    name: str, manifest: Manifest, variant: Variant, selection: list[dict[str, object]]
) -> ModelInfo:
    quality = variant.quality
    return ModelInfo(
        name=name,
        task=manifest.task,
        digest=manifest.digest,
        variant=variant.name,
        engine=variant.engine,
        max_tokens=manifest.max_tokens,
        dimensions=manifest.dimensions,
        details={
            "bundle": manifest.name,
            "architecture": manifest.architecture,
            "source": _shown_source(manifest.source.uri),
            "licence": manifest.source.licence,
            "precision": variant.precision,
            "size": variant.size,
            "reference_size": variant.reference_size,
            "quality": {
                "metric": quality.metric,
                "value": quality.value,
                "worst": quality.worst,
                "threshold": quality.threshold,
                "samples": quality.samples,
            },
            "selection": selection,
        },
    )
