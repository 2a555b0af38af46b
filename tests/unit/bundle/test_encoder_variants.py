"""Every variant of a small encoder against its unquantized model, through the real engines."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.quantize import sentences
from sixways_bundle.quantize.encoder import ENCODER_RECIPES, EncoderFamily
from sixways_bundle.runtime import EncoderRuntime, open_encoder
from sixways_server.engines.base import ModelInfo
from sixways_server.engines.encoder import EncoderEngine
from tests.unit.bundle.encoder_tiny import HIDDEN, MAX_TOKENS, write_encoder

RECIPES = {recipe.name: recipe for recipe in ENCODER_RECIPES}


@dataclass
class Built:
    """The family and every variant of it, made once for all tests of this file."""

    family: EncoderFamily
    root: Path
    reports: dict[str, list[tuple[float, str]]]
    options: dict[str, Any]

    @property
    def work(self) -> Path:
        return self.root / "work"

    def runtime(self, name: str) -> EncoderRuntime:
        recipe = RECIPES[name]
        return open_encoder(
            recipe.engine,
            self.root / name,
            threads=1,
            longest=self.family.max_tokens,
            options=self.options[name],
        )


@contextmanager
def engines_may_warn_on_import() -> Iterator[None]:
    """Libraries that are compiled at their first import complain of their own source then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("encoder")
    with engines_may_warn_on_import():
        import nncf  # noqa: F401
        import torchao.quantization  # noqa: F401
    family = EncoderFamily(write_encoder(root / "source"))
    family.write_tokenizer(root / "tokenizer")
    reports: dict[str, list[tuple[float, str]]] = {}
    options: dict[str, Any] = {}
    for name, recipe in RECIPES.items():
        told = reports.setdefault(name, [])
        options[name] = family.make(
            recipe, root / name, root / "work", lambda *step, told=told: told.append(step)
        )
    return Built(family, root, reports, options)


def batch(*rows: list[int]) -> tuple[Any, Any]:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.engine == "openvino"])
def test_lengths_that_are_rounded_up_give_the_same_vectors(built: Built, name: str) -> None:
    rounds = built.runtime(name)
    plain = open_encoder("openvino", built.root / name, threads=1)
    for length in range(1, MAX_TOKENS + 1):
        ids, mask = batch([1] * length, [2] * max(1, length // 2))
        np.testing.assert_allclose(rounds.embed(ids, mask), plain.embed(ids, mask), atol=1e-5)


def no_report(part: float, what: str) -> None:
    assert 0 <= part <= 1
    assert what


@pytest.mark.parametrize("name", RECIPES)
def test_a_variant_is_close_to_the_unquantized_model(built: Built, name: str) -> None:
    options = built.options[name]
    with engines_may_warn_on_import():  # the compiler's libraries come with the first inputs
        measured = built.family.measure(
            RECIPES[name], built.root / name, options, built.work, no_report
        )
    assert measured.samples == len(sentences.load("evaluation")) >= 200
    assert measured.worst <= measured.value <= 1 + 1e-6
    if name.endswith("fp32"):
        assert measured.worst > 0.99999
    else:
        assert 0.98 < measured.value < 0.999999  # quantized, and still the same model


def test_the_small_model_tells_sentences_apart(built: Built) -> None:
    vectors = np.load(built.work / "reference.npy")
    cosine = vectors @ vectors.T
    assert np.mean(cosine[np.triu_indices_from(cosine, 1)]) < 0.9


@pytest.mark.parametrize("name", RECIPES)
def test_rows_have_length_one_whatever_the_shape(built: Built, name: str) -> None:
    runtime = built.runtime(name)
    for size, length in ((1, 2), (3, 7), (33, MAX_TOKENS), (1, MAX_TOKENS)):
        rows = runtime.embed(*batch(*[[2, *[40] * (length - 2), 3]] * size))
        assert rows.shape == (size, HIDDEN)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    runtime.close()


@pytest.mark.parametrize("name", ["openvino-fp32", "onnx-fp32", "litert-fp32"])
def test_padding_changes_nothing(built: Built, name: str) -> None:
    runtime = built.runtime(name)
    alone = runtime.embed(*batch([2, 60, 61, 3]))
    beside_a_long_one = runtime.embed(*batch([2, 60, 61, 3], [2, *[70] * 40, 3]))
    assert np.allclose(alone[0], beside_a_long_one[0], atol=1e-5)
    assert not np.allclose(alone[0], beside_a_long_one[1], atol=0.1)
    runtime.close()


def test_an_answer_is_not_overwritten_by_the_next(built: Built) -> None:
    runtime = built.runtime("openvino-int8")
    first = runtime.embed(*batch([2, 60, 61, 3]))
    kept = first.copy()
    runtime.embed(*batch([2, 90, 91, 3]))
    assert np.array_equal(first, kept)


def test_quantized_variants_are_smaller(built: Built) -> None:
    def size(name: str) -> int:
        weights = {
            "openvino": "model.bin",
            "onnx": "model.onnx",
            "torch": "model.safetensors",
            "litert": "model.tflite",
        }
        return (built.root / name / weights[RECIPES[name].engine]).stat().st_size

    assert size("openvino-int8-int4emb") < size("openvino-int8") < 0.5 * size("openvino-fp32")
    assert size("openvino-int8-static") < 0.5 * size("openvino-fp32")
    assert size("onnx-int8") < size("onnx-fp32")
    assert size("onnx-int8-nbits") < size("onnx-fp32")
    assert size("litert-int8-int4emb") < size("litert-int8") < size("litert-fp32")


def test_torch_keeps_what_it_was_told_to(built: Built) -> None:
    def size(name: str) -> int:
        return (built.root / name / "model.safetensors").stat().st_size

    assert size("torch-bf16") == pytest.approx(0.5 * size("torch-fp32"), rel=0.1)
    assert built.options["torch-bf16-compiled"] == {"compile": True}
    assert all(not built.options[name] for name in RECIPES if not name.endswith("-compiled"))


def test_compiling_without_a_compiler_says_so_when_it_is_opened(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler-here")
    with pytest.raises(BundleError, match=r"'no-such-compiler-here' is not accepted.*apt install"):
        built.runtime("torch-bf16-compiled")


def test_progress_is_told_and_never_goes_back(built: Built) -> None:
    for name, told in built.reports.items():
        parts = [part for part, _ in told]
        assert len(told) >= 3, name
        assert parts == sorted(parts), name
        assert parts[-1] == 1.0, name


def test_a_variant_of_another_model_is_measured_as_bad(built: Built, tmp_path: Path) -> None:
    for file in (built.root / "openvino-fp32").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "model.bin").read_bytes())
    weights[: len(weights) // 4] = bytes(len(weights) // 4)
    (tmp_path / "model.bin").write_bytes(weights)
    measured = built.family.measure(RECIPES["openvino-fp32"], tmp_path, {}, built.work, no_report)
    assert measured.value < 0.9
    assert measured.worst_sample in sentences.load("evaluation")


def test_candidates_are_timed_in_turns(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from sixways_bundle.quantize import encoder_timing

    order: list[tuple[str, int]] = []

    class Clocked(EncoderRuntime):
        def __init__(self, directory: Path) -> None:
            self.name = directory.name

        def embed(self, input_ids: Any, attention_mask: Any) -> Any:
            order.append((self.name, len(input_ids)))

        def close(self) -> None:
            order.append((self.name, 0))

    monkeypatch.setattr(encoder_timing, "open_encoder", lambda _, folder, **__: Clocked(folder))
    names = ("onnx-int8", "openvino-int8")
    candidates: Any = {name: (RECIPES[name], built.root / name, {}) for name in names}
    built.family.time(candidates, no_report)
    warm, timed = order[6:-2:2], order[7:-2:2]
    assert len(timed) >= 7 * 6
    assert {size for _, size in warm} == {1}
    assert timed[:6] == [(name, size) for size in (1, 8, 32) for name in names]
    assert timed == timed[:6] * (len(timed) // 6)
    assert order[-2:] == [(name, 0) for name in names]


def test_the_score_is_the_geometric_mean_of_the_times_a_sentence(built: Built) -> None:
    candidates: Any = {"onnx-fp32": (RECIPES["onnx-fp32"], built.root / "onnx-fp32", {})}
    speed = built.family.time(candidates, no_report)["onnx-fp32"]
    one, eight, many = (speed.detail[f"batch {size}"] for size in (1, 8, 32))
    assert speed.score_ms == pytest.approx(math.cbrt(one * eight / 8 * many / 32), rel=0.02)


def test_the_tokenizer_neither_cuts_nor_pads(built: Built) -> None:
    from tokenizers import Tokenizer

    def lengths(path: Path) -> list[int]:
        tokenizer = Tokenizer.from_file(str(path))
        return [len(one.ids) for one in tokenizer.encode_batch(["a", "a b c " * 20])]

    assert lengths(built.root / "source" / "tokenizer.json") == [16, 16]
    assert lengths(built.root / "tokenizer" / "tokenizer.json") == [3, 62]


def test_nothing_is_printed_while_a_variant_is_made(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("openvino-int8-static", "onnx-int8-nbits", "torch-int8"):
        built.family.make(RECIPES[name], tmp_path / name, tmp_path / "work", no_report)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("openvino-int8", "model.bin"),
        ("onnx-int8", "model.onnx"),
        ("torch-int8", "model.safetensors"),
        ("torch-int8", "pooling.json"),
        ("torch-bf16", "config.json"),
        ("litert-int8", "model.tflite"),
    ],
)
def test_a_missing_file_is_named(built: Built, tmp_path: Path, name: str, file: str) -> None:
    for each in (built.root / name).iterdir():
        if each.name != file:
            (tmp_path / each.name).write_bytes(each.read_bytes())
    with pytest.raises(BundleError, match=file):
        open_encoder(RECIPES[name].engine, tmp_path)


@pytest.mark.parametrize(
    ("engine", "file"),
    [("openvino", "model.xml"), ("onnx", "model.onnx"), ("litert", "model.tflite")],
)
def test_a_file_that_is_no_model_is_refused(
    built: Built, tmp_path: Path, engine: str, file: str
) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    (tmp_path / file).write_text("no model")
    with pytest.raises(BundleError, match=r"cannot open (?s:.*)Fix: build the bundle again"):
        open_encoder(engine, tmp_path)


def test_a_library_that_is_missing_names_the_extra(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sixways\[quantize\]"):
        built.family.make(RECIPES["onnx-int8"], tmp_path, tmp_path, no_report)


def test_opening_a_variant_leaves_no_trace_of_telemetry_in_the_home(
    built: Built, tmp_path: Path
) -> None:
    program = (
        "import sys, os, pathlib; from sixways_bundle.runtime import open_encoder\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "for name in ('onnx-int8', 'openvino-int8'):\n"
        "    open_encoder(name.split('-')[0], root / name).close()\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
    )
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    subprocess.run([sys.executable, "-c", program, str(built.root)], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_a_text_runs_in_the_shortest_graph_that_it_fits(built: Built) -> None:
    from sixways_bundle.quantize.litert import lengths

    assert lengths(MAX_TOKENS) == [16, 32, 48]
    assert lengths(32) == [16, 32]
    assert lengths(12) == [12]
    runtime: Any = built.runtime("litert-int8")
    ran: list[int] = []
    for length, runner in runtime._runners.items():

        def counted(length: int = length, runner: Any = runner, **tensors: Any) -> Any:
            ran.append(length)
            return runner(**tensors)

        runtime._runners[length] = counted
    rows = [[2, *[40] * (length - 2), 3] for length in (2, 16, 17, 33, MAX_TOKENS)]
    runtime.embed(*batch(*rows))
    assert ran == [16, 16, 32, 48, 48]
    with pytest.raises(ValueError, match="49 tokens; the longest graph takes 48"):
        runtime.embed(*batch([40] * 49))


@pytest.mark.parametrize(
    "name", ["openvino-int8", "onnx-int8", "torch-int8", "torch-bf16", "litert-int8"]
)
async def test_a_served_variant_answers_as_the_unquantized_model(built: Built, name: str) -> None:
    kind = RECIPES[name].engine
    info = ModelInfo("tiny", "embeddings", "sha256:0", name, kind, MAX_TOKENS, HIDDEN)
    engine = EncoderEngine(
        info, kind, built.root / name, built.root / "tokenizer" / "tokenizer.json", threads=1
    )
    engine.load()
    assert engine.info.details["device"] == "CPU"
    texts = [text for text in sentences.load("evaluation") if len(text) < 80][:50]
    answer = await engine.embed(texts)
    await engine.close()
    built.family.measure(RECIPES[name], built.root / name, {}, built.work, no_report)
    reference = np.load(built.work / "reference.npy")
    where = [sentences.load("evaluation").index(text) for text in texts]
    assert (answer.vectors * reference[where]).sum(axis=1).mean() > 0.98
