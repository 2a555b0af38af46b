"""Language models in the Hugging Face layout, as vLLM opens them, made from GGUF with torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GgufConfig
from transformers.utils import logging as transformers_logging

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.quantize.base import Report
from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.quantize.llm_losses import Losses

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def convert(gguf: Path, out: Path, eos_token_ids: Sequence[int]) -> None:
    """Writes `config.json`, `generation_config.json` and bfloat16 weights into `out`.

    Raises:
        BundleError: transformers does not read this GGUF file.
    """
    with quiet():
        try:
            read: Any = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                local_files_only=True,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
            )
        except (ImportError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as e:
            raise BundleError(
                f"transformers cannot read {gguf.name}",
                [Problem("source", str(gguf), f"a GGUF file of a type that it knows ({e})",
                         "choose another file of the model, e.g. Q8_0 or F16")],
            ) from e  # fmt: skip
        # What was read remembers that it came from GGUF and refuses to be saved.
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        config.eos_token_id = list(eos_token_ids)
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.bfloat16
        )
        model.load_state_dict(read.state_dict(), strict=True)
        model.generation_config.eos_token_id = list(eos_token_ids)
        model.save_pretrained(str(out))


def name_tokenizer(out: Path) -> None:
    """Says in `tokenizer_config.json` which class opens `tokenizer.json`, for other programs."""
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def losses(directory: Path, ids: Sequence[Sequence[int]], report: Report) -> Losses:
    """As `llm_measure.losses`, computed by transformers in the weights' own precision.

    vLLM computes the same products in its own kernels; where those round otherwise, this figure
    does not say so.
    """
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(directory), local_files_only=True, use_safetensors=True, dtype=torch.bfloat16
        )
    model.eval()
    nats = []
    for index, passage in enumerate(ids):
        report(index / len(ids), f"perplexity, passage {index + 1} of {len(ids)}")
        tokens = torch.tensor([list(passage)])
        with torch.inference_mode():
            logits = model(input_ids=tokens).logits[0, :-1].float()
        nats.append(
            float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
        )
    report(1.0, "perplexity measured")
    return Losses(np.array(nats), np.array([len(passage) - 1 for passage in ids], dtype=np.int64))
