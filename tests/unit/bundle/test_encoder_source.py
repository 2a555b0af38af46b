"""What a folder says of an encoder, and what is said of a folder that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.encoder_source import EncoderSource
from tests.unit.bundle.encoder_tiny import HIDDEN, MAX_TOKENS, POSITIONS, write_sentence_files

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": HIDDEN,
    "max_position_embeddings": POSITIONS,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "config.json", BERT)
    (tmp_path / "model.safetensors").write_bytes(b"1234567")
    (tmp_path / "tokenizer.json").write_text("{}")
    write_sentence_files(tmp_path)
    return tmp_path


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as refused:
        EncoderSource.read(folder)
    return str(refused.value)


def test_everything_is_read_from_the_folder(folder: Path) -> None:
    source = EncoderSource.read(folder)
    assert (source.architecture, source.dimensions, source.size) == ("bert", HIDDEN, 7)
    assert (source.max_tokens, source.pooling, source.normalize) == (MAX_TOKENS, "mean", True)


def test_cls_pooling_without_normalization_is_read(folder: Path) -> None:
    write_sentence_files(folder, pooling="cls", normalize=False)
    source = EncoderSource.read(folder)
    assert (source.pooling, source.normalize) == ("cls", False)


def test_the_newer_spelling_of_the_pooling_is_read(folder: Path) -> None:
    write(folder, "1_Pooling/config.json", {"pooling_mode": "cls"})
    assert EncoderSource.read(folder).pooling == "cls"


def test_a_plain_transformer_is_pooled_by_mean_and_normalized(folder: Path) -> None:
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (folder / name).unlink()
    source = EncoderSource.read(folder)
    assert (source.pooling, source.normalize, source.max_tokens) == ("mean", True, POSITIONS)


def test_the_longest_input_never_passes_the_table_of_positions(folder: Path) -> None:
    write(folder, "sentence_bert_config.json", {"max_seq_length": 10_000})
    assert EncoderSource.read(folder).max_tokens == POSITIONS


def test_positions_that_roberta_cannot_use_are_not_counted(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write(folder, "config.json", BERT | {"model_type": "roberta", "pad_token_id": 1})
    assert EncoderSource.read(folder).max_tokens == POSITIONS - 2


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "'max' is not accepted"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "word_embedding_dimension": 7}, "'7'"),
        ("modules.json", [{"type": "models.Dense", "path": "2_Dense"}], "'Dense'"),
        ("modules.json", {"type": "Pooling"}, "a JSON list"),
        ("config.json", BERT | {"architectures": ["LlamaForCausalLM"]}, "from its GGUF file"),
        ("config.json", BERT | {"is_encoder_decoder": True}, "an encoder alone"),
        ("config.json", BERT | {"hidden_size": 0}, "config.json: hidden_size"),
        ("config.json", ["bert"], "a JSON object"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_field(
    folder: Path, name: str, content: Any, expected: str
) -> None:
    write(folder, name, content)
    assert expected in refusal(folder)


def test_all_problems_are_told_at_once(folder: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).unlink()
    (folder / "modules.json").write_text("{")
    message = refusal(folder)
    for field in ("config.json: is missing", "weights: is missing", "tokenizer.json: is missing",
                  "modules.json"):  # fmt: skip
        assert field in message


def test_a_padding_token_of_null_is_read(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write(folder, "config.json", BERT | {"model_type": "roberta", "pad_token_id": None})
    assert EncoderSource.read(folder).max_tokens == POSITIONS - 1
