"""From a configured model to an engine that answers: verify, choose, open."""

from __future__ import annotations

import logging
from pathlib import Path

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import Manifest
from sixways_bundle.report import BuildReport, load_report
from sixways_server.choice import Choice, choose_variant
from sixways_server.config import ModelConfig, ServerConfig
from sixways_server.engines.base import Engine, ModelInfo

_log = logging.getLogger("sixways.load")


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


def _open_bundle(model: ModelConfig, config: ServerConfig) -> Engine:
    from sixways_bundle.verify import verify

    bundle = Path(model.path)
    manifest = verify(bundle, digest=model.digest)
    if config.public_key is not None:
        from sixways_bundle.sign import verify_signature

        verify_signature(bundle, config.public_key)
    report = _report(bundle, manifest)
    choice = choose_variant(manifest, model.variant, report)
    variant = choice.variant
    others = "".join(f"; not {name}: {why}" for name, why in choice.others.items())
    _log.info("%s: variant %s: %s%s", model.name, variant.name, choice.reason, others)
    info = _info(model.name, manifest, choice, _selection(report))
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
            queue_seconds=config.queue_seconds,
            options=variant.options,
        )
        return encoder
    if manifest.task == "tensor":
        from sixways_server.engines.tensor import TensorModelEngine

        tensor: Engine = TensorModelEngine(
            info,
            variant.engine,
            directory,
            batching=bool(variant.options.get("batching", False)),
            threads=config.threads,
            queue_limit=config.queue_limit,
        )
        return tensor
    if manifest.task == "chat" and variant.engine == "torch":
        from sixways_server.engines.torch_text import TorchTextEngine

        plain: Engine = TorchTextEngine(
            info,
            directory,
            tokenizer,
            eos_token_ids=manifest.eos_token_ids,
            threads=config.threads,
        )
        return plain
    if manifest.task == "chat" and variant.engine == "vllm":
        from sixways_server.engines.vllm import VLLMTextEngine

        gpu: Engine = VLLMTextEngine(
            info, directory, tokenizer, eos_token_ids=manifest.eos_token_ids
        )
        return gpu
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
        "no engine serves this task", [Problem("task", manifest.task, "embeddings, chat, tensor")]
    )


def _report(bundle: Path, manifest: Manifest) -> BuildReport | None:
    """What was measured when the bundle was built; None where it did not come along."""
    try:
        report = load_report(bundle)
    except OSError:  # there, but not ours to read
        return None
    return report if report is not None and report.bundle_digest == manifest.digest else None


def _selection(report: BuildReport | None) -> list[dict[str, object]]:
    """What the build chose from, for the console."""
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
        for row in (report.candidates if report else ())
    ]


def _shown_source(uri: str) -> str:
    """The source as everybody may read it: of a file only its name, not where it lay."""
    if not uri.startswith("file:"):
        return uri
    return f"file:{uri.rstrip('/').rpartition('/')[2].removeprefix('file:')}"


def _info(
    name: str, manifest: Manifest, choice: Choice, selection: list[dict[str, object]]
) -> ModelInfo:
    variant = choice.variant
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
            "reason": choice.reason,
        },
    )
