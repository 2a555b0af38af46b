"""One wrong byte anywhere is found and named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sixways_bundle import BundleError, Manifest
from sixways_bundle.build import Result
from sixways_bundle.verify import verify
from tests.unit.bundle.conftest import Builder
from tests.unit.bundle.fake import GOOD


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


def flip(path: Path, index: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_an_untouched_bundle_verifies(bundle: Result) -> None:
    assert verify(bundle.path, digest=bundle.manifest.digest) == bundle.manifest


@pytest.mark.parametrize("path", ["tokenizer/tokenizer.json", "variants/openvino-int8/model.bin"])
def test_one_flipped_byte_names_the_file(bundle: Result, path: str) -> None:
    flip(bundle.path / path, -1)
    with pytest.raises(BundleError, match=path) as error:
        verify(bundle.path)
    assert error.value.problems[0].field == "sha256"


def test_the_first_file_that_differs_is_named(bundle: Result) -> None:
    flip(bundle.path / "tokenizer/tokenizer.json")
    flip(bundle.path / "variants/openvino-int8/model.bin")
    with pytest.raises(BundleError, match=r"tokenizer.json"):
        verify(bundle.path)


def test_a_flipped_byte_in_the_manifest_is_found(bundle: Result) -> None:
    for index in range(0, (bundle.path / "bundle.json").stat().st_size, 7):
        flip(bundle.path / "bundle.json", index)
        with pytest.raises(BundleError):
            verify(bundle.path, digest=bundle.manifest.digest)
        flip(bundle.path / "bundle.json", index)
    verify(bundle.path, digest=bundle.manifest.digest)


def test_a_missing_file_is_named(bundle: Result) -> None:
    (bundle.path / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        verify(bundle.path)


def test_a_file_that_is_not_listed_is_refused(bundle: Result) -> None:
    (bundle.path / "variants" / "extra.py").write_text("")
    with pytest.raises(BundleError, match=r"variants/extra\.py"):
        verify(bundle.path)


def test_a_shorter_file_says_both_sizes(bundle: Result) -> None:
    path = bundle.path / "variants/openvino-int8/model.bin"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"649 bytes.*650 bytes"):
        verify(bundle.path)


def test_a_symbolic_link_is_refused(bundle: Result, tmp_path: Path) -> None:
    path = bundle.path / "tokenizer/tokenizer.json"
    outside = tmp_path / "outside.json"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(BundleError, match="regular file"):
        verify(bundle.path)


def test_a_path_that_leads_out_of_the_bundle_is_refused(bundle: Result) -> None:
    tokenizer = msgspec.structs.replace(bundle.manifest.tokenizer[0], path="../model/config.json")
    evil = msgspec.structs.replace(bundle.manifest, tokenizer=(tokenizer,))
    (bundle.path / "bundle.json").chmod(0o644)
    (bundle.path / "bundle.json").write_bytes(evil.to_bytes())
    with pytest.raises(BundleError, match="own folder"):
        verify(bundle.path)


def test_another_digest_than_the_expected_one_is_refused(bundle: Result) -> None:
    with pytest.raises(BundleError, match="bundle_digest"):
        verify(bundle.path, digest="sha256:" + "0" * 64)


def test_progress_ends_at_the_whole_size(bundle: Result) -> None:
    seen: list[tuple[int, int]] = []
    verify(bundle.path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == sum(f.size for f in bundle.manifest.files)


def test_a_folder_without_a_manifest_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="sixways bundle build"):
        Manifest.load(tmp_path)


def test_a_manifest_of_another_schema_says_which_one_is_read(bundle: Result) -> None:
    path = bundle.path / "bundle.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":9'))
    with pytest.raises(BundleError, match=r"schema: '9'.*accepted: 1"):
        Manifest.load(bundle.path)


def test_a_reformatted_manifest_is_refused(bundle: Result) -> None:
    path = bundle.path / "bundle.json"
    path.chmod(0o644)
    path.write_bytes(msgspec.json.format(path.read_bytes()))
    with pytest.raises(BundleError, match="canonical"):
        Manifest.load(bundle.path)


@pytest.mark.parametrize("name", ["tokenizer", "variants", "extra"])
def test_a_linked_folder_is_refused(bundle: Result, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    if (bundle.path / name).exists():
        (bundle.path / name).rename(outside)
    else:
        outside.mkdir()
    (bundle.path / name).symlink_to(outside)
    with pytest.raises(BundleError, match=name):
        verify(bundle.path)


@pytest.mark.parametrize("change", ["name", "place"])
def test_a_variant_lies_below_its_own_name(bundle: Result, change: str) -> None:
    (variant,) = bundle.manifest.variants
    other = {"name": {"name": "../x"}, "place": {"files": bundle.manifest.tokenizer}}[change]
    evil = msgspec.structs.replace(
        bundle.manifest, variants=(msgspec.structs.replace(variant, **other),)
    )
    (bundle.path / "bundle.json").chmod(0o644)
    (bundle.path / "bundle.json").write_bytes(evil.to_bytes())
    with pytest.raises(BundleError, match=r"variant|own folder"):
        Manifest.load(bundle.path)
