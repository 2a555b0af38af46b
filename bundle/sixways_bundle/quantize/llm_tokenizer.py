"""Makes `tokenizer.json` from the vocabulary inside a GGUF file.

Built directly with the tokenizers library: the conversion of transformers knows the vocabulary
but not `tokenizer.ggml.pre`, so it splits digits and spaces otherwise than the model was trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.quantize.llm_gguf import GgufModel

# The patterns are part of how the models were trained; they stand in each model's own tokenizer
# files. They differ in how many digits make a piece.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {"llama-bpe": _WORDS % r"\p{N}{1,3}", "qwen2": _WORDS % r"\p{N}"}
_DIGITS = frozenset({"smollm"})
_PLAIN = frozenset({"gpt-2", "default"})
PRE_TOKENIZERS = tuple(sorted({*_PATTERNS, *_DIGITS, *_PLAIN}))


def write_tokenizer(model: GgufModel, out: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and, if it has one, the chat template.

    Raises:
        BundleError: the file's vocabulary is of a kind that is not known here.
    """
    tokenizer = build_tokenizer(model)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "bos_token": model.token("tokenizer.ggml.bos_token_id"),
        "eos_token": model.tokens[model.eos_token_ids[0]],
    }
    (out / "tokenizer_config.json").write_text(
        json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    if model.chat_template:
        (out / "chat_template.jinja").write_text(model.chat_template, encoding="utf-8")


def build_tokenizer(model: GgufModel) -> Tokenizer:
    """The tokenizer the GGUF file describes.

    Raises:
        BundleError: the file's vocabulary is of a kind that is not known here.
    """
    kind, pre = model.get("tokenizer.ggml.model"), model.get("tokenizer.ggml.pre") or "default"
    merges = model.get("tokenizer.ggml.merges")
    if kind != "gpt2" or merges is None:
        raise BundleError(
            f"the tokenizer in {model.path.name} is not understood",
            [Problem("tokenizer.ggml.model", str(kind), "gpt2 (byte-level BPE with merges)",
                     "choose a model with a byte-level BPE vocabulary")],
        )  # fmt: skip
    if pre not in PRE_TOKENIZERS:
        raise BundleError(
            f"the tokenizer in {model.path.name} is not understood",
            [Problem("tokenizer.ggml.pre", str(pre), ", ".join(PRE_TOKENIZERS),
                     "choose a model whose text is split in one of these ways")],
        )  # fmt: skip
    tokenizer = Tokenizer(
        BPE(
            vocab={text: index for index, text in enumerate(model.tokens)},
            merges=[_pair(merge) for merge in merges],
            # Llama 3 takes a whole word that is in the vocabulary without merging it together.
            ignore_merges=pre == "llama-bpe",
        )
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(
        pre, bool(model.get("tokenizer.ggml.add_space_prefix"))
    )
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special = {int(gguf.TokenType.CONTROL): True, int(gguf.TokenType.USER_DEFINED): False}
    tokenizer.add_tokens(
        [
            AddedToken(text, special=special[kind], normalized=False)
            for text, kind in zip(model.tokens, model.token_types, strict=False)
            if kind in special
        ]
    )
    if model.get("tokenizer.ggml.add_bos_token"):
        bos = model.token("tokenizer.ggml.bos_token_id")
        if bos is not None:
            tokenizer.post_processor = TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, model.tokens.index(bos))]
            )
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _pre_tokenizer(pre: str, space: bool) -> pre_tokenizers.PreTokenizer:
    if pre in _PATTERNS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False),
            ]
        )
    words = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=True)
    if pre in _DIGITS:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return words
