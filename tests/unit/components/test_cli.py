"""The command line: what it prints, and how it says that something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sixways
from sixways.cli import app
from sixways_bundle.build import Result
from sixways_server.config import ServerConfig
from tests.unit.bundle.conftest import Builder, builder, family, source
from tests.unit.bundle.fake import GOOD, MANUAL, QUICK

__all__ = ["builder", "family", "source"]


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


def run(*arguments: str) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: str) -> str:
    """What the command says on standard error; it must end with 1."""
    program = [sys.executable, "-c", "from sixways.cli import main; main()", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_version_is_the_packages() -> None:
    assert run("version").strip() == sixways.__version__


def test_verify_prints_the_digest(bundle: Result) -> None:
    assert bundle.manifest.digest in run("bundle", "verify", str(bundle.path))


def test_show_prints_quality_and_how_it_was_chosen(bundle: Result) -> None:
    text = run("bundle", "show", str(bundle.path))
    for part in (bundle.manifest.digest, "0.9990", "6.15", "asked for by name"):
        assert part in text


def test_show_as_json_is_the_manifest(bundle: Result) -> None:
    assert (
        run("bundle", "show", str(bundle.path), "--json").strip()
        == (bundle.path / "bundle.json").read_text()
    )


def test_a_damaged_bundle_ends_with_the_files_name(bundle: Result) -> None:
    path = bundle.path / "tokenizer/tokenizer.json"
    path.chmod(0o644)
    path.write_text("[]")
    assert "tokenizer.json differs" in fail("bundle", "verify", str(bundle.path))


def test_a_build_that_cannot_be_lists_every_problem(tmp_path: Path) -> None:
    text = fail("bundle", "build", "package:not_there", "--name", "Bad Name")
    assert "name: 'Bad Name' is not accepted" in text
    assert "source: 'package:not_there' is not accepted" in text


def test_serving_what_is_no_bundle_says_how_to_build_one(tmp_path: Path) -> None:
    assert "sixways bundle build" in fail("serve", str(tmp_path))


@pytest.mark.parametrize("graphql", [True, False])
def test_graphql_is_served_only_if_asked_for(
    bundle: Result, monkeypatch: pytest.MonkeyPatch, graphql: bool
) -> None:
    seen: list[ServerConfig] = []
    monkeypatch.setattr("sixways_server.serve.run", lambda config: seen.append(config) or 0)
    run("serve", str(bundle.path), *(["--graphql"] if graphql else []))
    assert [config.graphql for config in seen] == [graphql]


@pytest.mark.parametrize(
    "command", [[], ["bundle"], ["serve", "--help"], ["bundle", "build", "--help"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    assert "Usage" in CliRunner().invoke(app, command).output


def test_engines_tells_what_runs_here_and_what_would_be_served(bundle: Result) -> None:
    text = " ".join(run("engines", str(bundle.path)).split())
    assert "onnx" in text
    assert f"mini (embeddings): {GOOD.name}, the only one of the bundle" in text


def test_engines_as_json_has_reasons_for_every_variant(builder: Builder) -> None:
    result = builder(variants=("auto", MANUAL.name))
    told = json.loads(run("engines", str(result.path), "--json"))
    assert told["machine"]["threads"] >= 1
    assert {"openvino", "onnx", "torch", "litert", "tensorflow"} <= {
        state["engine"] for state in told["engines"]
    }
    (choice,) = told["bundles"]
    assert choice["variant"] == MANUAL.name
    assert list(choice["others"]) == [QUICK.name]


def test_a_bundle_that_nothing_serves_is_told_and_no_failure(
    bundle: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sixways_server.choice.find_spec", lambda name: None)
    assert "openvino is not installed" in " ".join(run("engines", str(bundle.path)).split())


def test_engines_fits_a_narrow_terminal() -> None:
    assert max(map(len, run("engines").splitlines())) <= 80


def test_engines_of_what_is_no_bundle_says_how_to_build_one(tmp_path: Path) -> None:
    assert "sixways bundle build" in fail("engines", str(tmp_path))
