"""What the LocalEndpoint resource accepts, and what it says an update will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sixways
from sixways.endpoint import bundle_digest
from sixways.plugin.local_endpoint import LocalEndpointResource
from sixways.plugin.resource import Call, Values
from sixways.plugin.values import UNKNOWN
from sixways_bundle import BundleError

MODEL = {"name": "minilm", "path": "bundles/one", "digest": "sha256:1"}
URN = "urn:pulumi:dev::sixways::sixways:local:LocalEndpoint::local"


@pytest.fixture
def call() -> Call:
    return Call(URN, lambda severity, message, ephemeral: None)


def inputs(**changes: Any) -> Values:
    return {"models": [dict(MODEL)], "stateDir": "state", **changes}


def state(**changes: Any) -> Values:
    running = {
        "status": "running",
        "serverVersion": sixways.__version__,
        "apiKey": "generated-key-1",
    }
    return {**inputs(host="127.0.0.1", port=5000), **running, **changes}


def test_defaults_are_loopback_and_port_5000(call: Call) -> None:
    checked, problems = LocalEndpointResource().check(call, inputs())
    assert not problems
    assert (checked["host"], checked["port"]) == ("127.0.0.1", 5000)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"port": "http"}, "port"),
        ({"port": 5000.5}, "port"),
        ({"host": "localhost;rm"}, "host"),
        ({"models": []}, "models"),
        ({"models": "minilm"}, "models"),
        ({"models": [{"name": "minilm"}]}, "models[0].path"),
        ({"models": [{**MODEL, "varient": "x"}]}, "models[0].varient"),
        ({"models": [MODEL, MODEL]}, "models[1].name"),
        ({"apiKey": "short"}, "apiKey"),
        ({"stateDir": ""}, "stateDir"),
        ({"prot": 5000}, "prot"),
        ({"port": True}, "port"),
        ({"host": 5}, "host"),
        ({"apiKey": "sixteen letters and spaces"}, "apiKey"),
        ({"apiKey": "schlüssel-mit-umlaut"}, "apiKey"),
        ({"apiKey": 1234567890123456}, "apiKey"),
        ({"models": [{**MODEL, "name": 7}]}, "models[0].name"),
        ({"models": [{**MODEL, "name": "a b"}]}, "models[0].name"),
    ],
)
def test_a_bad_input_names_its_field(call: Call, changes: Values, field: str) -> None:
    _, problems = LocalEndpointResource().check(call, inputs(**changes))
    assert field in [problem.field for problem in problems]
    assert all(problem.accepted for problem in problems)


def test_a_short_key_is_not_repeated_in_the_message(call: Call) -> None:
    _, problems = LocalEndpointResource().check(call, inputs(apiKey="hunter2"))
    assert "hunter2" not in str(problems[0])


def test_a_mistyped_key_is_not_repeated_in_the_message(call: Call) -> None:
    _, problems = LocalEndpointResource().check(call, inputs(apikey="my-very-secret-key"))
    assert "my-very-secret-key" not in str(problems[0])


def test_every_problem_is_reported_at_once(call: Call) -> None:
    _, problems = LocalEndpointResource().check(call, inputs(port=0, host="?", models=[]))
    assert len(problems) == 3


def test_unknown_values_of_a_preview_are_accepted(call: Call) -> None:
    unknown = {"name": "minilm", "path": UNKNOWN, "digest": UNKNOWN}
    assert LocalEndpointResource().check(call, inputs(models=[unknown]))[1] == []
    assert LocalEndpointResource().check(call, inputs(models=UNKNOWN, port=UNKNOWN))[1] == []


def test_nothing_changed_is_no_change(call: Call) -> None:
    assert not LocalEndpointResource().diff(call, state(), inputs(host="127.0.0.1", port=5000))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": 5001}, "port"),
        ({"models": [{**MODEL, "digest": "sha256:2"}]}, "models"),
        ({"apiKey": "another-key-of-mine"}, "apiKey"),
    ],
)
def test_a_changed_input_changes_in_place(call: Call, changes: Values, field: str) -> None:
    wanted = {**inputs(host="127.0.0.1", port=5000), **changes}
    changed = LocalEndpointResource().diff(call, state(), wanted)
    assert list(changed.update) == [field]
    assert not changed.replace


@pytest.mark.parametrize(
    ("changes", "field"), [({"stateDir": "elsewhere"}, "stateDir"), ({"host": "::1"}, "host")]
)
def test_another_address_or_folder_is_a_replacement(
    call: Call, changes: Values, field: str
) -> None:
    wanted = {**inputs(host="127.0.0.1", port=5000), **changes}
    assert list(LocalEndpointResource().diff(call, state(), wanted).replace) == [field]


def test_taking_ones_own_key_away_is_a_change(call: Call) -> None:
    same = inputs(host="127.0.0.1", port=5000)
    own = state(apiKey="my-own-key-1234567", keyGenerated=False)
    assert list(LocalEndpointResource().diff(call, own, same).update) == ["apiKey"]
    given = {**same, "apiKey": "my-own-key-1234567"}
    assert not LocalEndpointResource().diff(call, own, given)


def test_resources_of_one_name_have_folders_of_their_own_below_the_state_folder() -> None:
    from sixways.plugin.local_endpoint import _folder

    quiet = Call(URN, lambda severity, message, ephemeral: None)
    nested = Call(URN.replace("sixways:local:", "my:index:Parent$sixways:local:"), quiet.log)
    evil = Call(URN.replace("::local", "::../.."), quiet.log)
    folders = {_folder(c, inputs()) for c in (quiet, nested, evil)}
    assert len(folders) == 3
    assert all(folder.parent == Path("state") for folder in folders)


def test_importing_an_endpoint_says_what_to_do_instead(call: Call) -> None:
    with pytest.raises(BundleError, match="run pulumi up"):
        LocalEndpointResource().read(call, "local", {})


def test_a_stopped_server_and_an_old_one_are_changes(call: Call) -> None:
    same = inputs(host="127.0.0.1", port=5000)
    found = LocalEndpointResource().diff(call, state(status="stopped", serverVersion="0.0.1"), same)
    assert list(found.update) == ["status", "serverVersion"]


def test_a_preview_foresees_addresses_and_starts_nothing(call: Call, tmp_path: Path) -> None:
    from tests.ports import free_port

    wanted = inputs(host="127.0.0.1", port=free_port(), stateDir=str(tmp_path))
    _, outputs = LocalEndpointResource().create(call, wanted, preview=True)
    assert outputs["url"] == f"http://127.0.0.1:{wanted['port']}"
    assert outputs["healthUrl"] == f"{outputs['url']}/healthz"
    assert outputs["apiKey"] is UNKNOWN
    assert outputs["bundleDigest"] == "sha256:1"
    assert list(tmp_path.iterdir()) == []


def test_reading_a_folder_that_is_gone_says_stopped(call: Call, tmp_path: Path) -> None:
    found = LocalEndpointResource().read(call, "local", state(folder=str(tmp_path)))
    assert found is not None
    assert found["status"] == "stopped"
    assert found["apiKey"] == "generated-key-1"


def test_the_digest_of_several_models_depends_on_all_and_not_on_their_order() -> None:
    other = {"name": "smollm2", "digest": "sha256:2"}
    both = bundle_digest([MODEL, other])
    assert bundle_digest([MODEL]) == "sha256:1"
    assert both == bundle_digest([other, MODEL])
    assert both != bundle_digest([MODEL, {**other, "digest": "sha256:3"}])
