"""Language models from GGUF: what is read, what is refused, what becomes of the weights."""

from __future__ import annotations

import math
from pathlib import Path

import gguf
import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino_genai import GenerationConfig  # type: ignore[import-untyped]

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize import llm_ir
from sixways_bundle.quantize.llm import LLM_RECIPES, LlmFamily
from sixways_bundle.runtime.llm import MODEL, memory_available, open_pipeline
from tests.unit.bundle.llm_tiny import CONTEXT, EOS, TEMPLATE, write_gguf

RECIPES = {recipe.name: recipe for recipe in LLM_RECIPES}
IDS = [5, 40, 41, 42, 70, 71, 8, 9]


def ignore(fraction: float, message: str) -> None:
    assert 0 <= fraction <= 1
    assert message


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def family(model: Path) -> LlmFamily:
    return LlmFamily(model)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def variants(
    family: LlmFamily, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every variant of the tiny model, made by the real libraries."""
    folder = tmp_path_factory.mktemp("variants")
    for recipe in LLM_RECIPES:
        family.make(recipe, folder / recipe.name, work, ignore)
    return {recipe.name: folder / recipe.name for recipe in LLM_RECIPES}


def logits(model: Path) -> NDArray[np.float32]:
    """Of every position, in float32: only the weights differ between two models."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    request = openvino.Core().compile_model(model, "CPU", exact).create_infer_request()
    tokens = np.array([IDS], dtype=np.int64)
    found: NDArray[np.float32] = request.infer(
        {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "position_ids": np.arange(len(IDS), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
    )["logits"]
    return found


def test_what_the_file_says_of_the_model_is_read(family: LlmFamily, model: Path) -> None:
    assert family.task == "chat"
    assert family.architecture == "llama"
    assert family.max_tokens == CONTEXT
    # The end of a turn comes first; the end of a text ends a generation as well.
    assert family.eos_token_ids == (EOS, 0)
    assert family.reference_size == model.stat().st_size


def test_the_template_and_the_tokens_it_names_are_written(
    family: LlmFamily, tmp_path: Path
) -> None:
    family.write_tokenizer(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == TEMPLATE
    assert '"eos_token": "<|im_end|>"' in (tmp_path / "tokenizer_config.json").read_text()
    assert (tmp_path / "tokenizer.json").is_file()


def test_an_architecture_without_a_graph_is_refused_with_those_that_have_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(BundleError) as caught:
        LlmFamily(write_gguf(tmp_path / "odd.gguf", architecture="mamba"))
    (problem,) = caught.value.problems
    assert problem.field == "architecture"
    assert problem.value == "mamba"
    assert "llama" in problem.accepted
    assert problem.fix


@pytest.mark.parametrize("kept", [0, 4, 100, 20_000])
def test_a_file_that_was_cut_off_is_refused(model: Path, tmp_path: Path, kept: int) -> None:
    broken = tmp_path / "cut.gguf"
    broken.write_bytes(model.read_bytes()[:kept])
    with pytest.raises(BundleError, match="whole GGUF file") as caught:
        LlmFamily(broken)
    assert caught.value.problems[0].field == "source"


def test_the_variant_as_shipped_has_the_weights_of_the_file(
    variants: dict[str, Path], work: Path
) -> None:
    reference = logits(work / "llm-reference" / MODEL)
    mended = np.abs(logits(variants["openvino-gguf"] / MODEL) - reference).mean()
    rounded = np.abs(logits(work / "llm-as-shipped" / MODEL) - reference).mean()
    # The reader alone rounds zero points to whole levels; mending must be worth its code.
    assert mended < rounded / 10


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_perplexity_of_a_variant_is_near_the_reference(
    variants: dict[str, Path], family: LlmFamily, work: Path, name: str
) -> None:
    found = family.measure(RECIPES[name], variants[name], {}, work, ignore)
    assert found.metric == "perplexity_ratio"
    # Random weights are equally surprised by everything: every ratio is near one.
    assert math.isclose(found.value, 1.0, abs_tol=0.1)
    assert found.worst >= found.value
    assert found.samples > 1000
    assert found.worst_sample


def test_a_model_with_other_weights_has_another_perplexity(
    family: LlmFamily, work: Path, tmp_path: Path
) -> None:
    other = LlmFamily(write_gguf(tmp_path / "other.gguf", seed=8))
    other.make(RECIPES["openvino-int8"], tmp_path / "out", tmp_path, ignore)
    found = family.measure(RECIPES["openvino-int8"], tmp_path / "out", {}, work, ignore)
    assert abs(found.value - 1) > 0.01


def test_int4_is_smaller_than_int8(variants: dict[str, Path]) -> None:
    sizes = {name: (folder / "openvino_model.bin").stat().st_size
             for name, folder in variants.items() if name.startswith("openvino")}  # fmt: skip
    assert sizes["openvino-int4"] < sizes["openvino-int8"]


def test_weights_for_vllm_are_those_of_the_file_in_bfloat16(
    variants: dict[str, Path], work: Path
) -> None:
    import json

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = variants["vllm-bf16"]
    assert not list(folder.glob("*.bin"))  # no pickle
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert config["eos_token_id"] == [EOS, 0]
    assert "quantization_config" not in config
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([IDS])).logits.numpy()
    reference = logits(work / "llm-reference" / MODEL)
    # Rounded to 8 bits of mantissa, in the same order of heads and rows.
    assert 0 < np.abs(found - reference).mean() < 0.02 * np.abs(reference).mean()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))  # type: ignore[no-untyped-call]
    assert tokenizer("hell").input_ids == [tokenizer.vocab["hell"]]


def test_candidates_are_timed_together(variants: dict[str, Path], family: LlmFamily) -> None:
    names = ["openvino-gguf", "openvino-int8"]
    asked = [*names, "vllm-bf16"]  # there may be no GPU here: it is not timed
    speeds = family.time({name: (RECIPES[name], variants[name], {}) for name in asked}, ignore)
    assert list(speeds) == names
    for speed in speeds.values():
        assert speed.score_ms > 0
        assert set(speed.detail) == {"1 stream, a token", "8 streams, a token"}


def test_weights_of_a_type_that_openvino_does_not_read_become_float16(tmp_path: Path) -> None:
    odd = LlmFamily(write_gguf(tmp_path / "q5.gguf", quantized=gguf.GGMLQuantizationType.Q5_0))
    options = odd.make(RECIPES["openvino-gguf"], tmp_path / "out", tmp_path, ignore)
    assert options == {"weights": "Q5_0"}
    reference = logits(tmp_path / "llm-reference" / MODEL)
    assert np.allclose(logits(tmp_path / "out" / MODEL), reference, atol=0.03)


def test_two_different_models_are_not_mended_into_one(
    variants: dict[str, Path], work: Path, tmp_path: Path
) -> None:
    core = openvino.Core()
    model = core.read_model(work / "llm-reference" / MODEL)
    last = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"][-1]
    short = openvino.Model([last.input_value(0)], model.get_parameters(), "short")
    openvino.save_model(short, tmp_path / "short.xml")
    with pytest.raises(BundleError, match="two conversions"):
        llm_ir.save_exact(work / "llm-as-shipped" / MODEL, tmp_path / "short.xml", tmp_path)


def test_a_folder_without_a_model_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=MODEL):
        open_pipeline(tmp_path)


def test_memory_for_keys_and_values_is_what_was_asked(variants: dict[str, Path]) -> None:
    pipeline = open_pipeline(variants["openvino-int8"], cache_gb=0.01)
    tensor = openvino.Tensor(np.array([IDS], dtype=np.int64))
    config = GenerationConfig(max_new_tokens=2)
    config.set_eos_token_id(EOS)
    pipeline.add_request(1, tensor, config)
    while pipeline.has_non_finished_requests():
        pipeline.step()
    assert pipeline.get_metrics().kv_cache_size_in_bytes == pytest.approx(0.01e9, rel=0.1)


def test_a_language_model_takes_the_threads_of_its_container_not_of_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sixways_bundle.runtime import llm

    monkeypatch.setattr(llm, "usable_threads", lambda threads: threads or 3)
    assert llm._properties(None)["INFERENCE_NUM_THREADS"] == 3
    assert llm._properties(2)["INFERENCE_NUM_THREADS"] == 2


def test_the_memory_that_is_free_is_known() -> None:
    assert memory_available() > 1_000_000


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no engine for plain completion"):
        LlmFamily(write_gguf(tmp_path / "plain.gguf", template=None))
