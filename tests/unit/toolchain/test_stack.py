"""What `up` and `down` decide, with a pulumi that only notes how it was called."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolchain import caches, settings_file, stack
from toolchain.environment import ensure_state
from toolchain.stack import Checkout, StackProblem, down, summary, up

from tests.unit.toolchain import fakes

pytestmark = pytest.mark.unit

TRACKED = "# A comment.\nconfig:\n  sixways:way: local\n"
OUTPUTS = '{"url": "http://127.0.0.1:5000", "api_key": "k"}'


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path / "checkout", tmp_path / "bin")
    made.tracked_settings.parent.mkdir(parents=True)
    made.tracked_settings.write_text(TRACKED)
    monkeypatch.setattr(caches, "existing", lambda *_: [])
    pulumi(made)
    return made


def pulumi(checkout: Checkout, *, stacks: str = "[]", fails: str = "nothing") -> None:
    body = f"""
    echo "$*" >> "{checkout.bin_folder}/calls"
    case "$*" in
      {fails}*) echo it went wrong >&2; exit 4 ;;
      "stack ls"*) echo '{stacks}' ;;
      "stack output"*) echo '{OUTPUTS}' ;;
    esac"""
    fakes.executable(checkout.bin_folder, "pulumi", body)


def calls(checkout: Checkout) -> list[str]:
    return (checkout.bin_folder / "calls").read_text().splitlines()


DEV = '[{"name": "dev"}]'


def test_up_copies_the_tracked_settings_makes_the_stack_and_shows_the_key(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(checkout, ["--diff"]) == 0
    assert checkout.own_settings.read_text() == TRACKED
    assert calls(checkout)[1:3] == [
        "stack init dev",
        "up --yes --refresh --stack dev --diff",
    ]
    said = capsys.readouterr().out
    assert "http://127.0.0.1:5000" in said
    assert "SIXWAYS_KEY=k" in said


def test_up_keeps_the_users_settings_and_an_existing_stack(checkout: Checkout) -> None:
    ensure_state(checkout.files)
    checkout.own_settings.write_text("config:\n  sixways:way: mine\n")
    pulumi(checkout, stacks=DEV)
    assert up(checkout) == 0
    assert "mine" in checkout.own_settings.read_text()
    assert not any(call.startswith("stack init") for call in calls(checkout))


def test_a_failing_up_gives_its_status_and_shows_no_summary(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    pulumi(checkout, stacks=DEV, fails="up")
    assert up(checkout) == 4
    assert "is up" not in capsys.readouterr().out


def test_up_without_a_cli_says_how_to_get_one(checkout: Checkout) -> None:
    (checkout.bin_folder / "pulumi").unlink()
    with pytest.raises(StackProblem, match="make install"):
        up(checkout)


def test_down_where_nothing_is_up_calls_nothing(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert down(checkout) == 0
    assert "Nothing is up" in capsys.readouterr().out
    assert not (checkout.bin_folder / "calls").exists()


def test_down_removes_state_and_settings_that_only_gained_a_salt(checkout: Checkout) -> None:
    ensure_state(checkout.files)
    checkout.own_settings.write_text(f"encryptionsalt: v1:abc\n{TRACKED}")
    pulumi(checkout, stacks=DEV)
    assert down(checkout) == 0
    assert not checkout.files.root.exists()
    assert not checkout.own_settings.exists()
    assert calls(checkout)[1:] == [
        "destroy --yes --stack dev",
        "stack rm --yes --preserve-config --stack dev",
    ]


def test_a_failing_destroy_removes_nothing(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure_state(checkout.files)
    checkout.own_settings.write_text(TRACKED)
    pulumi(checkout, stacks=DEV, fails="destroy")
    assert down(checkout) == 1
    assert checkout.files.passphrase.exists()
    assert checkout.own_settings.exists()
    assert "run `make down` again" in capsys.readouterr().err


def test_down_keeps_the_state_of_other_stacks(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure_state(checkout.files)
    pulumi(checkout, stacks='[{"name": "dev"}, {"name": "organization/other/prod"}]')
    assert down(checkout) == 0
    assert checkout.files.passphrase.exists()
    assert "organization/other/prod" in capsys.readouterr().out


def test_a_new_passphrase_drops_a_salt_that_nothing_depends_on(checkout: Checkout) -> None:
    checkout.own_settings.write_text(f"encryptionsalt: v1:old\n{TRACKED}")
    assert up(checkout) == 0
    assert checkout.own_settings.read_text() == TRACKED


def test_secrets_of_a_lost_passphrase_are_reported_before_anything_runs(
    checkout: Checkout,
) -> None:
    checkout.own_settings.write_text(
        "encryptionsalt: v1:old\nconfig:\n  sixways:api_key:\n    secure: v1:xyz\n"
    )
    for _ in range(2):
        with pytest.raises(StackProblem, match="passphrase"):
            up(checkout)
    assert not (checkout.bin_folder / "calls").exists()
    assert "v1:xyz" in checkout.own_settings.read_text()


def test_a_secret_is_found_anywhere_in_the_settings() -> None:
    assert settings_file.has_secrets({"config": {"a": [{"b": {"secure": "v1:x"}}]}})
    assert not settings_file.has_secrets({"config": {"secure": "no", "other": 1}})


def test_settings_are_the_same_when_only_the_quotes_differ() -> None:
    tracked = {"config": {"a:port": 5000, "a:on": True, "a:list": [{"n": 1}]}}
    written = {"config": {"a:port": "5000", "a:on": "true", "a:list": [{"n": 1}]}}
    assert settings_file.same(tracked, written)
    assert not settings_file.same(tracked, {"config": {**written["config"], "a:port": "5001"}})


def test_the_summary_offers_lines_for_the_models_that_are_served() -> None:
    outputs = {"url": "http://h:1", "api_key": "k"}
    both = {"config": {"sixways:models": [{"name": "minilm"}, {"name": "smollm2"}]}}
    assert "/v1/embeddings" in summary(outputs, both)
    assert "/v1/chat/completions" in summary(outputs, both)
    only = summary(outputs, {"config": {"sixways:models": [{"name": "other"}]}})
    assert "/v1/models" in only
    assert "minilm" not in only


def test_an_unknown_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.main(["sideways"]) == 2
    assert "up|down|env" in capsys.readouterr().err


def test_a_cache_is_reported_with_its_size_and_how_to_remove_it(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "file").write_bytes(b"x" * 1_200_000)
    (tmp_path / "bundles" / "same").hardlink_to(tmp_path / "bundles" / "file")
    found = caches.existing(tmp_path / "bin", tmp_path, {"PATH": ""})
    report = caches.report(found)
    assert "1.2 MB" in report
    assert f"rm -rf {tmp_path / 'bundles'}" in report
    assert "No cache" in caches.report([])
