"""The stack's settings: every mistake is named, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

ROOT = Path(__file__).parents[3]


def load(**config: Any) -> Any:
    """The settings of a stack with that configuration."""
    from settings import load_settings

    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    pulumi.runtime.set_all_config({f"sixways:{k}": v for k, v in text.items()})
    return load_settings()


MODEL = {"name": "minilm", "source": "package:x"}


def problems_of(**config: Any) -> str:
    from settings import SettingsError

    with pytest.raises(SettingsError) as error:
        load(**config)
    return str(error.value)


def test_the_settings_of_stack_dev_are_accepted() -> None:
    stack = yaml.safe_load((ROOT / "infra/stacks/dev.yaml").read_text())["config"]
    settings = load(**{key.removeprefix("sixways:"): value for key, value in stack.items()})
    assert settings.way == "local"
    assert [m.name for m in settings.models] == ["minilm", "smollm2"]
    assert settings.models[0].variant == "auto"


def test_an_unknown_way_names_those_that_exist_and_the_fix() -> None:
    text = problems_of(way="moon", models=[MODEL])
    assert "sixways:way: 'moon' is not accepted; accepted: local" in text
    assert "pulumi config set sixways:way local" in text


def test_all_problems_are_reported_at_once() -> None:
    text = problems_of(
        way="moon", port="http", prot="5000", models=[{"name": "a"}, {"source": 3, "name": "a"}]
    )
    for field in ("sixways:way", "sixways:port", "sixways:prot", "models[0].source",
                  "models[1].source"):  # fmt: skip
        assert field in text


@pytest.mark.parametrize("models", ["", "minilm", [], ["minilm"], {"name": "x"}])
def test_models_that_are_no_list_of_models_point_to_the_example(models: Any) -> None:
    text = problems_of(way="local", models=models)
    assert "sixways:models" in text
    assert "infra/stacks/dev.yaml" in text


def test_a_model_named_twice_is_refused() -> None:
    assert "each name once" in problems_of(way="local", models=[MODEL, MODEL])


@pytest.mark.parametrize("threshold", ["high", True])
def test_a_threshold_that_is_no_number_is_refused(threshold: Any) -> None:
    text = problems_of(way="local", models=[{**MODEL, "qualityThreshold": threshold}])
    assert "qualityThreshold" in text


def test_a_threshold_given_as_text_is_a_number() -> None:
    settings = load(way="local", models=[{**MODEL, "qualityThreshold": "0.99"}])
    assert settings.models[0].quality_threshold == 0.99


def test_what_stands_under_an_unknown_key_is_not_shown() -> None:
    text = problems_of(way="local", apikey="hush", models=[{**MODEL, "token": "hush"}])
    assert "sixways:apikey" in text
    assert "models[0].token" in text
    assert "hush" not in text


def test_a_key_that_can_be_guessed_is_refused_and_not_shown() -> None:
    text = problems_of(way="local", apiKey="hush", models=[MODEL])
    assert "sixways:apiKey" in text
    assert "hush" not in text


def test_a_runtime_that_does_not_exist_names_those_that_do() -> None:
    text = problems_of(way="local", runtime="podman", models=[MODEL])
    assert "sixways:runtime: 'podman' is not accepted; accepted: process, docker" in text


def test_what_others_spell_is_left_as_it_is() -> None:
    given = {"deployment": {"minAvailable": 2, "env": {"AWS_REGION": "x"},
                            "values": {"rollout": {"maxSurge": 1}}},
             "bundles": {"MiniLM": "x"}}  # fmt: skip
    settings = load(way="container", container=given, models=[MODEL])
    from ways.fields import in_python

    own = in_python(settings.own)
    assert own["deployment"]["min_available"] == 2
    assert own["deployment"]["env"] == {"AWS_REGION": "x"}
    assert own["deployment"]["values"] == {"rollout": {"maxSurge": 1}}
    assert own["bundles"] == {"MiniLM": "x"}
