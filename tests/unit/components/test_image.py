"""The image's build context: the same bytes for the same source, from a checkout and a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import sixways.image
from sixways.checks import Checks
from sixways.image import EXTRAS, BuildContext, check_build_inputs, prepare
from sixways_bundle import BundleError

CHECKOUT = Path(__file__).parents[3]
OWN = {"Dockerfile", "constraints.txt", "requirements.txt", "sbom.txt", "serve"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> BuildContext:
    """The context that a checkout makes of itself."""
    return prepare(tmp_path_factory.mktemp("checkout") / "context")


def names(context: BuildContext) -> set[str]:
    return {path.name for path in context.folder.iterdir()}


def pins(name: str) -> dict[str, str]:
    path = CHECKOUT / name
    return dict(line.split("==") for line in path.read_text().splitlines() if line)


def test_a_checkout_gives_a_wheel_of_itself(checkout: BuildContext) -> None:
    (wheel,) = names(checkout) - OWN
    assert checkout.build_args["REQUIREMENT"] == f"/context/{wheel}[server]"
    assert checkout.build_args["VERSION"] == checkout.version == wheel.split("-")[1]
    assert os.access(checkout.folder / "serve", os.X_OK)


def test_an_unchanged_source_gives_the_same_bytes_and_times(
    checkout: BuildContext, tmp_path: Path
) -> None:
    again = prepare(tmp_path / "context")
    assert (again.digest, again.build_args) == (checkout.digest, checkout.build_args)
    for path in again.folder.iterdir():
        other = checkout.folder / path.name
        assert path.read_bytes() == other.read_bytes()
        assert path.stat().st_mtime == other.stat().st_mtime == 1577836800


def test_what_does_not_belong_there_is_removed_and_what_changed_is_written(tmp_path: Path) -> None:
    first = prepare(tmp_path, package="sixways==1.2.3")
    (tmp_path / "other.whl").write_bytes(b"old")
    (tmp_path / "serve").write_bytes(b"changed")
    assert prepare(tmp_path, package="sixways==1.2.3") == first
    assert names(first) == OWN
    assert (tmp_path / "serve").read_bytes().startswith(b"#!/bin/sh")


def test_a_pinned_version_comes_from_an_index(tmp_path: Path) -> None:
    context = prepare(tmp_path, package="sixways==1.2.3", extras=["otel", "graphql"])
    assert context.build_args["REQUIREMENT"] == "sixways[server,graphql,otel]==1.2.3"
    assert (context.build_args["VERSION"], names(context)) == ("1.2.3", OWN)


def test_a_given_wheel_and_dockerfile_are_in_the_context_and_change_its_digest(
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "sixways-9.9-py3-none-any.whl"
    wheel.write_bytes(b"one")
    first = prepare(tmp_path / "context", package=str(wheel))
    assert first.build_args["REQUIREMENT"] == f"/context/{wheel.name}[server]"
    assert first.version == "9.9"
    wheel.write_bytes(b"two")
    second = prepare(tmp_path / "context", package=str(wheel))
    own = tmp_path / "own"
    own.write_text("FROM scratch\n")
    third = prepare(tmp_path / "context", package=str(wheel), dockerfile=own)
    assert (third.folder / "Dockerfile").read_text() == "FROM scratch\n"
    assert len({first.digest, second.digest, third.digest}) == 3


@pytest.mark.parametrize("field", ["package", "dockerfile"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, field: str) -> None:
    given: dict[str, Any] = {"package": "sixways==1.0", field: tmp_path / "absent.whl"}
    given["package"] = str(given["package"])
    with pytest.raises(BundleError, match=f"{field}: .*absent.whl"):
        prepare(tmp_path / "context", **given)


def test_an_installed_wheel_has_all_it_needs(checkout: BuildContext, tmp_path: Path) -> None:
    (wheel,) = checkout.folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from pathlib import Path; from sixways.image import prepare; "
        "c = prepare(Path('context')); print(c.build_args['REQUIREMENT'], c.version)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    requirement, version = done.stdout.split()
    assert requirement == f"sixways[server]=={version}" == f"sixways[server]=={checkout.version}"
    for name in OWN:
        assert (tmp_path / "context" / name).read_bytes() == (checkout.folder / name).read_bytes()


def test_without_hatchling_a_checkout_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sixways.image.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BundleError, match="pip install hatchling"):
        prepare(tmp_path)


def test_the_image_installs_what_the_tests_ran_with() -> None:
    ours = pins("constraints.txt")
    allowed, installed = (
        pins(f"model_server/image/{name}.txt") for name in ("constraints", "requirements")
    )
    assert {name for name, pin in allowed.items() if ours.get(name) != pin} == set()
    assert installed.items() <= allowed.items()
    assert not installed.keys() & {"torch", "tensorflow-cpu", "transformers"}


def test_what_lists_the_image_is_pinned_and_no_part_of_what_it_installs() -> None:
    ours, tool = pins("constraints.txt"), pins("model_server/image/sbom.txt")
    assert "cyclonedx-bom" in tool
    assert {name for name, pin in tool.items() if ours.get(name, pin) != pin} == set()
    assert "cyclonedx-bom" not in pins("model_server/image/constraints.txt")


def found(**given: Any) -> list[str]:
    checks = Checks()
    check_build_inputs(checks, **given)
    return [str(problem) for problem in checks.problems]


def test_right_inputs_have_no_problems() -> None:
    assert found() == []
    assert found(package="sixways==0.1.0", extras=list(EXTRAS), platforms=["linux/arm64"]) == []
    assert found(package="dist/sixways-1.whl", build_args={"BASE": "python:3.12"}) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"package": "sixways"}, "package: 'sixways' is not accepted"),
        ({"package": "sixways>=1"}, "pin the version"),
        ({"package": "sixways[server]==1.0"}, "extras have a field of their own"),
        ({"extras": ["torch"]}, "extras[0]: 'torch' is not accepted"),
        ({"extras": ["otel", "otel"]}, "extras: 'otel' is not accepted; accepted: each value once"),
        ({"platforms": []}, "platforms: is missing"),
        ({"platforms": ["linux/amd64", "amd64"]}, "platforms[1]: 'amd64' is not accepted"),
        ({"build_args": {"A-B": "1"}}, "build_args.A-B"),
        ({"build_args": {"REQUIREMENT": "x"}}, "use the field package"),
    ],
)
def test_wrong_inputs_are_named(given: dict[str, Any], words: str) -> None:
    (problem,) = found(**given)
    assert words in problem
