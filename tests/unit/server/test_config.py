"""What a server may be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle import BundleError
from sixways_server.auth import add_key
from sixways_server.config import ModelConfig, ServerConfig, load_config


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Any]:
    add_key(tmp_path / "keys.json")
    return {"models": [{"name": "mini", "path": "dummy:embeddings"}], "keys_file": "keys.json"}


def write(folder: Path, content: object) -> Path:
    path = folder / "server.json"
    path.write_text(json.dumps(content))
    return path


def problems(folder: Path, content: object) -> dict[str, str]:
    with pytest.raises(BundleError) as caught:
        load_config(write(folder, content))
    return {problem.field: str(problem) for problem in caught.value.problems}


def test_two_fields_are_enough_and_the_rest_has_defaults(
    tmp_path: Path, good: dict[str, Any]
) -> None:
    config = load_config(write(tmp_path, good))
    assert (config.host, config.port, config.console) == ("127.0.0.1", 5000, True)
    assert config.models == (ModelConfig(name="mini", path="dummy:embeddings"),)


def test_relative_paths_start_at_the_file(tmp_path: Path, good: dict[str, Any]) -> None:
    (tmp_path / "bundle").mkdir()
    good["models"].append({"name": "real", "path": "bundle", "variant": "onnx-int8"})
    config = load_config(write(tmp_path, {**good, "handover": "h.sock"}))
    assert config.keys_file == tmp_path / "keys.json"
    assert config.handover == tmp_path / "h.sock"
    assert config.models[1].path == str(tmp_path / "bundle")
    assert config.models[0].path == "dummy:embeddings"


def test_every_problem_is_reported_at_once(tmp_path: Path, good: dict[str, Any]) -> None:
    found = problems(
        tmp_path, {**good, "prot": 1, "port": "80", "threads": 1.5, "models": [{"name": "a"}]}
    )
    assert set(found) == {"prot", "port", "threads", "models"}
    assert "path" in found["models"]


def test_values_of_the_right_type_are_checked_too(tmp_path: Path, good: dict[str, Any]) -> None:
    models = [
        {"name": "a/b", "path": "dummy:chat"},
        {"name": "twice", "path": "dummy:chat"},
        {"name": "twice", "path": "no/such/folder"},
    ]
    found = problems(
        tmp_path,
        {
            **good,
            "models": models,
            "keys_file": "none.json",
            "port": 65536,
            "max_inputs": 0,
            "drain_seconds": -1,
            "workers": 65,
            "request_seconds": -1,
            "cache_gb": 0,
            "status_file": "none/status.json",
            "public_key": "none.pem",
        },
    )
    assert set(found) == {
        "models[0].name", "models[2].name", "models[2].path", "keys_file", "port", "max_inputs",
        "drain_seconds", "status_file", "public_key", "workers", "request_seconds", "cache_gb",
    }  # fmt: skip
    assert "none.json" in found["keys_file"]
    assert "Fix: " in found["keys_file"]


def test_no_model_is_a_problem(tmp_path: Path, good: dict[str, Any]) -> None:
    assert "models" in problems(tmp_path, {**good, "models": []})


def test_a_missing_field_says_what_it_takes(tmp_path: Path) -> None:
    assert "models: is missing" in problems(tmp_path, {"keys_file": "k"})["models"]


@pytest.mark.parametrize("content", ["", "[]", "{", '"x"'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "server.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="not JSON"):
        load_config(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.json"):
        load_config(tmp_path / "none.json")


def test_from_dict_reads_paths_as_they_are(tmp_path: Path, good: dict[str, Any]) -> None:
    good["keys_file"] = str(tmp_path / "keys.json")
    assert ServerConfig.from_dict(good).keys_file == tmp_path / "keys.json"
