"""What the build decides, keeps and refuses."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle import BundleError, cache
from sixways_bundle import build as build_module
from sixways_bundle.build import Request, find
from sixways_bundle.quantize.base import Recipe
from sixways_bundle.report import load_report
from sixways_bundle.verify import verify
from tests.unit.bundle import fake
from tests.unit.bundle.conftest import Builder
from tests.unit.bundle.fake import BAD, GOOD, MANUAL, QUICK, FakeFamily


def test_auto_takes_the_fastest_candidate_that_holds_its_threshold(builder: Builder) -> None:
    result = builder()
    assert [v.name for v in result.manifest.variants] == [QUICK.name]
    rows = {row.variant: row for row in result.report.candidates}
    assert set(rows) == {GOOD.name, QUICK.name, BAD.name}
    assert rows[QUICK.name].chosen
    assert rows[BAD.name].reason == "quality under the threshold"
    assert rows[GOOD.name].score_ms == 4.0
    assert rows[BAD.name].score_ms is None


def test_a_variant_asked_for_by_name_is_packed_beside_what_auto_chose(builder: Builder) -> None:
    result = builder(variants=("auto", MANUAL.name))
    assert [v.name for v in result.manifest.variants] == [QUICK.name, MANUAL.name]


def test_a_variant_under_its_threshold_fails_with_figure_threshold_and_worst_sample(
    builder: Builder,
) -> None:
    with pytest.raises(BundleError) as error:
        builder(variants=(BAD.name,))
    text = str(error.value)
    for part in (BAD.name, "0.9500", "at least 0.99 ", "200 samples", "the worst sentence of all"):
        assert part in text


def test_auto_fails_when_no_candidate_holds_the_threshold(builder: Builder) -> None:
    with pytest.raises(BundleError, match="no candidate holds") as error:
        builder(quality_threshold=0.9999)
    assert len(error.value.problems) == 3


def test_a_lower_threshold_is_recorded_in_the_manifest(builder: Builder) -> None:
    result = builder(variants=(BAD.name,), quality_threshold=0.9)
    assert result.manifest.variants[0].quality.threshold == 0.9


def test_a_second_build_of_the_same_request_makes_nothing(
    builder: Builder, family: FakeFamily
) -> None:
    first = builder()
    made = list(family.made)
    second = builder()
    assert second.cached
    assert second.manifest.digest == first.manifest.digest
    assert family.made == made


def test_another_request_reuses_the_variants_that_exist(
    builder: Builder, family: FakeFamily
) -> None:
    builder(variants=(GOOD.name,))
    builder(variants=(GOOD.name, QUICK.name))
    assert family.made == [GOOD.name, QUICK.name]


def test_a_changed_source_is_built_again(
    builder: Builder, family: FakeFamily, source: Path
) -> None:
    first = builder(variants=(GOOD.name,))
    (source / "model.safetensors").write_bytes(b"other weights")
    second = builder(variants=(GOOD.name,))
    assert family.made == [GOOD.name, GOOD.name]
    assert first.manifest.digest != second.manifest.digest


def test_a_damaged_bundle_in_the_cache_is_built_again(builder: Builder) -> None:
    first = builder(variants=(GOOD.name,))
    damaged = first.path / first.manifest.variants[0].files[0].path
    damaged.chmod(0o644)
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    second = builder(variants=(GOOD.name,))
    assert not second.cached
    assert verify(second.path).digest == first.manifest.digest


def test_a_damaged_variant_in_the_cache_is_made_again(
    builder: Builder, family: FakeFamily, tmp_path: Path
) -> None:
    first = builder(variants=(GOOD.name,))
    (kept,) = (tmp_path / "cache" / "variants").glob("*/model.bin")
    kept.write_bytes(b"?" + kept.read_bytes()[1:])
    again = builder(variants=(GOOD.name, QUICK.name))
    assert family.made == [GOOD.name, GOOD.name, QUICK.name]
    assert again.manifest.variants[0].files == first.manifest.variants[0].files


def test_builds_of_one_machine_take_turns(
    builder: Builder, source: Path, family: FakeFamily, tmp_path: Path
) -> None:
    from filelock import FileLock

    from sixways_bundle.build import build

    steps: list[str] = []
    request = Request(name="mini", source=f"file:{source}", variants=(GOOD.name,))
    lock = FileLock(tmp_path / "cache" / "locks" / "build.lock")
    (tmp_path / "cache" / "locks").mkdir(parents=True)
    waited = threading.Event()

    def tell(step: str, fraction: float, message: str) -> None:
        steps.append(step)
        if step == "wait":
            waited.set()

    with lock:
        thread = threading.Thread(
            target=build, args=(request,),
            kwargs={"cache_dir": tmp_path / "cache", "progress": tell},
        )  # fmt: skip
        thread.start()
        assert waited.wait(10)
        assert family.made == []
    thread.join(10)
    assert steps[0] == "wait"
    assert family.made == [GOOD.name]


def test_the_same_content_has_the_same_digest_wherever_it_is_built(
    builder: Builder, source: Path, tmp_path: Path
) -> None:
    from sixways_bundle.build import build

    first = builder(variants=(GOOD.name,))
    request = Request(name="mini", source=f"file:{source}", variants=(GOOD.name,))
    assert build(request, cache_dir=tmp_path / "other").manifest.digest == first.manifest.digest


def test_find_builds_nothing(source: Path, family: FakeFamily, tmp_path: Path) -> None:
    request = Request(name="mini", source=f"file:{source}")
    assert find(request, cache_dir=tmp_path / "cache") is None
    assert family.made == []


def test_every_problem_of_a_request_is_reported_at_once(builder: Builder, source: Path) -> None:
    with pytest.raises(BundleError) as error:
        builder(name="Not A Name", variants=("int3",), quality_threshold=float("nan"))
    assert {problem.field for problem in error.value.problems} == {
        "name",
        "variant",
        "quality_threshold",
    }
    assert all(problem.accepted and problem.fix for problem in error.value.problems)


def test_an_unknown_variant_names_those_that_exist(builder: Builder) -> None:
    with pytest.raises(BundleError, match=r"int3.*auto, openvino-int8, onnx-int8"):
        builder(variants=("int3",))


def test_every_user_may_read_a_bundle_and_none_may_write_its_files(builder: Builder) -> None:
    built = builder().path
    folders = [built, *(path for path in built.rglob("*") if path.is_dir())]
    assert len(folders) > 2
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in built.rglob("*.bin")} == {0o444}
    # One that an earlier version has left in the cache.
    folders[-1].chmod(0o700)
    builder()
    assert folders[-1].stat().st_mode & 0o777 == 0o755


def test_a_failed_build_leaves_no_partial_bundle(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        builder(variants=(BAD.name,))
    assert not (tmp_path / "cache" / "bundles").exists()
    assert list((tmp_path / "cache" / "work").glob("*")) == []


def test_a_bundle_that_verifies_keeps_its_signature_when_another_request_makes_it(
    builder: Builder,
) -> None:
    first = builder(variants=(QUICK.name,))
    (first.path / "bundle.sig").write_text("signed")
    before = first.path.stat().st_ino
    auto = builder()
    assert auto.path == first.path
    assert auto.path.stat().st_ino == before
    assert (auto.path / "bundle.sig").read_text() == "signed"


def test_each_request_gets_its_own_table_and_the_bundle_the_richest(builder: Builder) -> None:
    builder(variants=(QUICK.name,))
    auto = builder()
    assert load_report(auto.path) == auto.report
    one = builder(variants=(QUICK.name,))
    assert one.cached
    assert len(one.report.candidates) == 1
    assert builder().report == auto.report
    assert load_report(auto.path) == auto.report


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_quality_that_is_no_number_is_refused_and_not_kept(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float
) -> None:
    monkeypatch.setitem(fake._QUALITY, QUICK.name, value)
    with pytest.raises(BundleError, match=f"quality of {QUICK.name}"):
        builder(variants=(QUICK.name,))
    assert list((tmp_path / "cache").glob("variants/*")) == []
    report = builder().report
    assert report.not_made[QUICK.name].startswith("could not be measured")
    assert report.candidates[0].variant == GOOD.name
    assert report.candidates[0].chosen


def test_a_damaged_note_or_report_is_as_if_it_were_not_there(
    builder: Builder, family: FakeFamily, tmp_path: Path
) -> None:
    first = builder(variants=(GOOD.name,))
    notes = [
        *(tmp_path / "cache").glob("builds/*.json"),
        *(tmp_path / "cache").glob("variants/*.json"),
    ]
    assert len(notes) == 2
    for note in [*notes, first.path / "build.json"]:
        note.chmod(0o644)
        note.write_bytes(b'{"digest": "sh\xff')
    again = builder(variants=(GOOD.name,))
    assert not again.cached
    assert family.made == [GOOD.name, GOOD.name]
    assert load_report(again.path) == again.report


def test_another_bundle_under_the_noted_digest_is_not_taken(builder: Builder) -> None:
    first = builder(variants=(GOOD.name,))
    other = builder(variants=(QUICK.name,))
    shutil.rmtree(first.path)
    shutil.copytree(other.path, first.path)
    again = builder(variants=(GOOD.name,))
    assert not again.cached
    assert verify(again.path).digest == first.manifest.digest


@pytest.mark.parametrize("part", ["machine", "data_sha256"])
def test_another_processor_or_other_texts_measure_again(
    builder: Builder, family: FakeFamily, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    builder(variants=(GOOD.name,))
    monkeypatch.setattr(build_module, part, lambda: "another")
    assert not builder(variants=(GOOD.name,)).cached
    assert family.made == [GOOD.name, GOOD.name]


def test_auto_goes_on_without_a_candidate_that_cannot_be_made(
    builder: Builder, family: FakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = family.make

    def broken(recipe: Recipe, *rest: Any) -> Any:
        if recipe is QUICK:
            raise RuntimeError("no such operator\nand more")
        return make(recipe, *rest)

    monkeypatch.setattr(family, "make", broken)
    report = builder().report
    assert report.candidates[0].variant == GOOD.name
    assert report.not_made[QUICK.name] == "could not be made: RuntimeError: no such operator"
    with pytest.raises(RuntimeError, match="no such operator"):
        builder(variants=(QUICK.name,))


def test_auto_goes_on_without_a_candidate_whose_module_is_missing(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = replace(QUICK, modules=("no_such_module_here",))
    monkeypatch.setattr(build_module, "recipes", lambda kind: (GOOD, missing))
    report = builder().report
    assert report.candidates[0].variant == GOOD.name
    assert "could not be made: missing: no_such_module_here" in report.not_made[QUICK.name]
    with pytest.raises(BundleError, match="no_such_module_here"):
        builder(variants=(QUICK.name,))
    monkeypatch.setattr(build_module, "recipes", lambda kind: (missing,))
    with pytest.raises(BundleError, match="no_such_module_here"):
        builder()


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.write_atomically(tmp_path / "note", b"text"), range(100)))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
