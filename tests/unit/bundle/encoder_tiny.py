"""A small random BERT in the Hugging Face layout, with a tokenizer made of our own sentences."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sixways_bundle.quantize import sentences

HIDDEN = 32
POSITIONS = 64
MAX_TOKENS = 48
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tokenizer(folder: Path) -> int:
    """Writes tokenizer.json as sentence encoders often come, cut and padded; its vocabulary."""
    texts = sentences.load("evaluation") + sentences.load("calibration")
    words = Counter(word for text in texts for word in text.lower().split() if word.isalpha())
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word, _ in words.most_common(400) if word not in letters]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer: Any = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def write_sentence_files(folder: Path, *, pooling: str = "mean", normalize: bool = True) -> None:
    """Writes what sentence-transformers adds: modules, pooling and the longest input."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds += [("2_Normalize", "Normalize")] if normalize else []
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"library.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {"word_embedding_dimension": HIDDEN}
    modes |= {f"pooling_mode_{mode}": mode.startswith(f"{pooling}_to") for mode in _MODES}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_TOKENS}))


_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


def write_encoder(folder: Path) -> Path:
    """Writes a whole encoder with random weights that tell sentences apart."""
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config: Any = BertConfig(
        vocab_size=write_tokenizer(folder),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
    )
    model: Any = BertModel(config)
    model.save_pretrained(str(folder))
    write_sentence_files(folder)
    return folder
