"""What the Release resource accepts, and what it says an update will do."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

import sixways
from sixways.naming import to_snake
from sixways.plugin import release_checks
from sixways.plugin.release import ReleaseResource
from sixways.plugin.resource import Call, Values
from sixways.plugin.values import UNKNOWN
from sixways.server.release import ReleaseServerArgs
from sixways_bundle import BundleError
from sixways_server.config import ServerConfig

MODEL = {"name": "minilm", "path": "bundles/one", "digest": "sha256:" + 64 * "1"}
KEY = {"name": "default", "sha256": 64 * "a"}
URN = "urn:pulumi:dev::sixways::sixways:server:Release::shop"
_OF_THE_RELEASE = {"models", "keys_file", "host", "port", "handover", "status_file", "public_key"}


@pytest.fixture
def call() -> Call:
    return Call(URN, lambda severity, message, ephemeral: None)


def inputs(**changes: Any) -> Values:
    access = {"address": "10.0.0.1", "hostKey": "ssh-ed25519 AAAA"}
    return {**access, "models": [dict(MODEL)], "keys": [dict(KEY)], **changes}


def checked(call: Call, **changes: Any) -> Values:
    values, problems = ReleaseResource().check(call, inputs(**changes))
    assert not problems
    return values


def state(call: Call, **changes: Any) -> Values:
    outputs = {"status": "serving", "slot": "blue", "kept": [], "releaseId": "1", "venv": "v"}
    return {**checked(call), **outputs, "fingerprint": "f", "bundleDigest": "d", **changes}


def test_defaults_are_the_documented_ones(call: Call) -> None:
    values = checked(call)
    assert values["version"] == sixways.__version__
    assert (values["keep"], values["readySeconds"], values["supervisor"]) == (2, 300, "systemd")
    assert (values["port"], values["user"], values["python"]) == (22, "root", "/usr/bin/python3")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"adress": "x"}, "adress"),
        ({"address": ""}, "address"),
        ({"models": []}, "models"),
        ({"models": [{**MODEL, "digest": "1"}]}, "models[0].digest"),
        ({"models": [{**MODEL, "name": "a b"}]}, "models[0].name"),
        ({"models": [{**MODEL, "paht": "x"}]}, "models[0].paht"),
        ({"models": [MODEL, MODEL]}, "models[1].name"),
        ({"models": ["minilm"]}, "models[0]"),
        ({"keys": []}, "keys"),
        ({"keys": [{"name": "a", "sha256": "sk-not-a-hash"}]}, "keys[0].sha256"),
        ({"keys": [KEY, KEY]}, "keys[1].name"),
        ({"version": "latest"}, "version"),
        ({"extras": ["torch; rm"]}, "extras[0]"),
        ({"extras": "torch"}, "extras"),
        ({"indexUrl": "pypi.org"}, "indexUrl"),
        ({"indexUrl": "https://pypi.org/simple", "wheelhouse": "w"}, "wheelhouse"),
        ({"server": {"worker": 2}}, "server.worker"),
        ({"server": {"workers": 0}}, "server.workers"),
        ({"server": {"drainSeconds": 1e9}}, "server.drainSeconds"),
        ({"server": {"console": "no"}}, "server.console"),
        ({"server": 5}, "server"),
        ({"memoryMax": "6 GB"}, "memoryMax"),
        ({"cpuQuota": "3.5"}, "cpuQuota"),
        ({"supervisor": "supervisord", "memoryMax": "6G"}, "memoryMax"),
        ({"supervisor": "runit"}, "supervisor"),
        ({"keep": -1}, "keep"),
        ({"readySeconds": 0}, "readySeconds"),
        ({"python": "python3"}, "python"),
        ({"gpu": "yes"}, "gpu"),
    ],
)
def test_a_bad_input_names_its_field(call: Call, changes: Values, field: str) -> None:
    _, problems = ReleaseResource().check(call, inputs(**changes))
    assert [problem.field for problem in problems] == [field]
    assert problems[0].accepted


def test_no_key_is_repeated_in_a_message(call: Call) -> None:
    _, problems = ReleaseResource().check(call, inputs(keys=[{"name": "a", "sha256": "sk-secret"}]))
    assert "sk-secret" not in str(problems[0])
    _, problems = ReleaseResource().check(call, inputs(indexUrl="user:secret@index"))
    assert "secret" not in str(problems[0])


def test_unknown_values_of_a_preview_are_accepted(call: Call) -> None:
    unknown = {"name": "minilm", "path": UNKNOWN, "digest": UNKNOWN}
    for changes in (
        {"models": [unknown], "keys": [{"name": "a", "sha256": UNKNOWN}]},
        {"models": UNKNOWN, "keys": UNKNOWN, "server": UNKNOWN, "extras": UNKNOWN},
        {"python": UNKNOWN, "systemdVersion": UNKNOWN, "gpu": UNKNOWN, "wheelhouse": UNKNOWN},
    ):
        values = checked(call, **changes)
        _, outputs = ReleaseResource().create(call, values, preview=True)
        assert outputs["status"] == "serving"
        assert outputs["releaseId"] is UNKNOWN


def test_every_setting_of_the_server_is_an_input() -> None:
    fields = {field.name for field in msgspec.structs.fields(ServerConfig)} - _OF_THE_RELEASE
    names = {to_snake(name) for name in (*release_checks.SETTINGS, *release_checks.SWITCHES)}
    assert names == fields
    assert set(ReleaseServerArgs.__annotations__) == fields


def test_nothing_changed_is_no_change(call: Call) -> None:
    assert not ReleaseResource().diff(call, state(call), checked(call))
    elsewhere = checked(call, models=[{**MODEL, "path": "bundles/moved"}])
    assert not ReleaseResource().diff(call, state(call), elsewhere)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": [{**MODEL, "digest": "sha256:" + 64 * "2"}]}, "models"),
        ({"models": [{**MODEL, "variant": "onnx-int8"}]}, "models"),
        ({"keys": [{**KEY, "sha256": 64 * "b"}]}, "keys"),
        ({"server": {"workers": 2}}, "server"),
        ({"version": "0.2.0"}, "version"),
        ({"keep": 5}, "keep"),
        ({"user": "deploy"}, "user"),
    ],
)
def test_a_changed_input_changes_in_place(call: Call, changes: Values, field: str) -> None:
    changed = ReleaseResource().diff(call, state(call), checked(call, **changes))
    assert list(changed.update) == [field]
    assert not changed.replace


def test_another_address_is_another_host(call: Call) -> None:
    changed = ReleaseResource().diff(call, state(call), checked(call, address="10.0.0.2"))
    assert list(changed.replace) == ["address"]


def test_what_one_supervisor_runs_is_ended_by_it(call: Call) -> None:
    changed = ReleaseResource().diff(call, state(call), checked(call, supervisor="supervisord"))
    assert list(changed.replace) == ["supervisor"]
    assert ReleaseResource.delete_before_replace


@pytest.mark.parametrize("found", ["stopped", "not ready", "changed", "keys changed", "failed"])
def test_what_does_not_serve_is_mended(call: Call, found: str) -> None:
    changed = ReleaseResource().diff(call, state(call, status=found), checked(call))
    assert list(changed.update) == ["status"]


def test_other_wheels_are_another_release_and_a_missing_folder_is_none(
    call: Call, tmp_path: Path
) -> None:
    def put(text: str) -> None:
        with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as archive:
            archive.writestr("a.py", text)

    put("one")
    before = checked(call, wheelhouse=str(tmp_path))
    assert not ReleaseResource().diff(call, state(call, **before), before)
    put("two two")
    after = checked(call, wheelhouse=str(tmp_path))
    changed = ReleaseResource().diff(call, state(call, **before), after)
    assert list(changed.update) == ["wheelsDigest"]
    (tmp_path / "a-1-py3-none-any.whl").unlink()
    gone = checked(call, wheelhouse=str(tmp_path))
    assert not ReleaseResource().diff(call, state(call, **before), gone)


def test_an_unreachable_host_is_named_and_nothing_is_kept(call: Call) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxXWKvGZ0n1p8m3Fm5vXrQ0hZ0k5m9X0X9m2q3Zl5Vb"
    values = checked(call, address="127.0.0.1", port=1, hostKey=key)
    with pytest.raises(BundleError, match=r"127\.0\.0\.1, port 1") as refused:
        ReleaseResource().create(call, values, preview=False)
    assert type(refused.value).__name__ == "ConnectionLost"


def test_a_release_cannot_be_imported(call: Call) -> None:
    with pytest.raises(BundleError, match="cannot be imported"):
        ReleaseResource().read(call, "10.0.0.1", {})
