"""What the build decides, keeps and refuses."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sixways_bundle import BundleError
from sixways_bundle.build import Request, find
from sixways_bundle.verify import verify
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


def test_a_failed_build_leaves_no_partial_bundle(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        builder(variants=(BAD.name,))
    assert not (tmp_path / "cache" / "bundles").exists()
    assert list((tmp_path / "cache" / "work").glob("*")) == []
