"""The installed CLI and its Python language host run programs, plugins and policy packs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from toolchain.stack import Checkout, down, up

from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.engine

PROGRAM = """
    import pulumi
    from thing import Thing

    config = pulumi.Config()
    thing = Thing("only", config.require("word"), config.require_secret("hidden"))
    print("said by the program")
    pulumi.export("word", thing.word)
    pulumi.export("hidden", thing.hidden)
    pulumi.export("where", f"{pulumi.get_organization()}/{pulumi.get_project()}")
    mode = config.get("mode")
    if mode == "raise":
        def check_word():
            raise ValueError("the word is not allowed")
        check_word()
    if mode == "apply":
        thing.word.apply(lambda word: word.no_such_method())
    if mode == "exit":
        raise SystemExit(7)
    if mode == "run_error":
        raise pulumi.RunError("the settings are wrong")
    if mode == "sleep":
        import time
        print("sleeping now")
        time.sleep(120)
"""
THING = """
    import pulumi

    class Thing(pulumi.ComponentResource):
        def __init__(self, name, word, hidden):
            super().__init__("test:index:Thing", name)
            self.word = pulumi.Output.from_input(word)
            self.hidden = hidden
            self.register_outputs({"word": self.word, "hidden": self.hidden})
"""


def write(folder: Path, **files: str) -> Path:
    """Files by stem: `Pulumi` is YAML, everything else Python."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        suffix = ".yaml" if stem.startswith("Pulumi") else ".py"
        (folder / f"{stem}{suffix}").write_text(dedent(text))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    write(folder / "program", __main__=PROGRAM, thing=THING)
    return write(folder, Pulumi="name: tiny\nruntime: python\nmain: program\n")


@pytest.fixture
def stack(project: Path, pulumi_env: dict[str, str]):  # type: ignore[no-untyped-def]
    with Stack(project, pulumi_env) as made:
        made.config(word="hello")
        made.secret(hidden="behind the curtain")
        yield made


def test_a_program_goes_up_stays_unchanged_and_is_destroyed(stack: Stack) -> None:
    first = stack.up()
    assert "said by the program" in first.stdout
    assert "behind the curtain" not in first.stdout
    assert stack.outputs() == {
        "word": "hello",
        "hidden": "behind the curtain",
        "where": "organization/tiny",
    }
    assert "behind the curtain" not in str(stack.resources())
    stack.up("--expect-no-changes")
    stack.destroy()
    assert stack.resources() == []


def test_an_ordinary_run_prints_no_warning_about_the_language_host(stack: Stack) -> None:
    assert "warning" not in stack.up().stdout


def test_an_error_of_the_program_shows_the_users_lines_only_and_keeps_the_state(
    stack: Stack,
) -> None:
    stack.up()
    before = stack.resources()
    stack.config(mode="raise")
    failed = stack.up(check=False)
    assert failed.returncode != 0
    assert "ValueError: the word is not allowed" in failed.stdout
    assert "in check_word" in failed.stdout
    for ours in ("language_host", "runpy", "asyncio", "site-packages"):
        assert ours not in failed.stdout
    assert [r["urn"] for r in stack.resources()] == [r["urn"] for r in before]
    stack.run("config", "rm", "mode", "--stack", stack.name)
    stack.up("--expect-no-changes")


def test_an_error_in_an_apply_points_at_the_users_line(stack: Stack) -> None:
    stack.config(mode="apply")
    failed = stack.up("--skip-preview", check=False)
    assert failed.returncode != 0
    assert "no_such_method" in failed.stdout
    assert "asyncio" not in failed.stdout


def test_a_run_error_is_shown_as_its_message_alone(stack: Stack) -> None:
    stack.config(mode="run_error")
    failed = stack.preview(check=False)
    assert failed.returncode != 0
    assert "the settings are wrong" in failed.stdout
    assert "Traceback" not in failed.stdout


def test_a_program_that_exits_by_itself_fails_with_its_status(stack: Stack) -> None:
    stack.config(mode="exit")
    failed = stack.preview(check=False)
    assert failed.returncode != 0
    assert "status 7" in failed.stdout


def test_a_folder_without_a_program_says_what_is_missing(stack: Stack) -> None:
    (stack.project / "program" / "__main__.py").unlink()
    failed = stack.preview(check=False)
    assert failed.returncode != 0
    assert "__main__.py" in failed.stdout


def test_an_interrupt_ends_the_program_quietly_and_leaves_no_process(
    stack: Stack,
) -> None:
    stack.config(mode="sleep")
    pulumi = subprocess.Popen(
        ["pulumi", "preview", "--color", "never", "--non-interactive", "--stack", stack.name],
        cwd=stack.project,
        env=stack.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert pulumi.stdout is not None
    written: list[str] = []
    for line in pulumi.stdout:
        written.append(line)
        if "sleeping now" in line:
            break
    started = psutil.Process(pulumi.pid).children(recursive=True)
    assert started
    pulumi.send_signal(signal.SIGINT)
    rest, _ = pulumi.communicate(timeout=30)
    assert pulumi.returncode != 0
    assert "KeyboardInterrupt" not in "".join(written) + rest
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def test_a_killed_engine_leaves_no_process(stack: Stack) -> None:
    stack.config(mode="sleep")
    pulumi = subprocess.Popen(
        ["pulumi", "preview", "--color", "never", "--non-interactive", "--stack", stack.name],
        cwd=stack.project,
        env=stack.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    started: list[psutil.Process] = []
    while time.monotonic() < deadline and len(started) < 2:
        time.sleep(0.2)
        started = psutil.Process(pulumi.pid).children(recursive=True)
    assert len(started) >= 2, "the host and the program run"
    pulumi.kill()
    pulumi.wait()
    _, alive = psutil.wait_procs(started, timeout=15)
    assert alive == []


PACK = """
    from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

    def check(args, report):
        if args.resource_type == "test:index:Thing" and args.name == "{forbidden}":
            report("a thing must not be called {forbidden}")

    PolicyPack("names", policies=[ResourceValidationPolicy(
        name="thing-names",
        description="Things have good names.",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=check,
    )])
"""


@pytest.mark.parametrize(("forbidden", "passes"), [("only", False), ("other", True)])
def test_a_policy_pack_decides_whether_a_preview_passes(
    stack: Stack, tmp_path: Path, forbidden: str, passes: bool
) -> None:
    pack = write(
        tmp_path / "pack",
        PulumiPolicy="runtime: python\n",
        __main__=PACK.format(forbidden=forbidden),
    )
    done = stack.preview("--policy-pack", str(pack), check=False)
    assert (done.returncode == 0) is passes, done.stdout
    assert ("a thing must not be called only" in done.stdout) is not passes
    assert "KeyboardInterrupt" not in done.stdout
    assert "Traceback" not in done.stdout


def test_a_component_plugin_in_a_folder_runs_through_the_language_host(
    tmp_path: Path, pulumi_env: dict[str, str]
) -> None:
    write(
        tmp_path / "greeter",
        PulumiPlugin="runtime: python\n",
        __main__="""
            from greeting import Greeter
            from pulumi.provider.experimental import component_provider_host

            component_provider_host(name="greeter", components=[Greeter])
        """,
        greeting="""
            from typing import TypedDict

            import pulumi

            class GreeterArgs(TypedDict):
                who: pulumi.Input[str]

            class Greeter(pulumi.ComponentResource):
                text: pulumi.Output[str]

                def __init__(self, name: str, args: GreeterArgs,
                             opts: pulumi.ResourceOptions | None = None):
                    super().__init__("greeter:index:Greeter", name, {}, opts)
                    self.text = pulumi.Output.concat("hello ", args["who"])
                    self.register_outputs({"text": self.text})
        """,
    )
    project = write(
        tmp_path / "user",
        Pulumi="""
            name: user
            runtime: python
            plugins:
              providers:
                - name: greeter
                  path: ../greeter
        """,
        __main__="""
            import pulumi

            class Greeter(pulumi.ComponentResource):
                text: pulumi.Output[str]

                def __init__(self, name, who):
                    props = {"who": who, "text": None}
                    super().__init__("greeter:index:Greeter", name, props, remote=True)

            pulumi.export("text", Greeter("greeter", "world").text)
        """,
    )
    with Stack(project, pulumi_env) as stack:
        assert "warning" not in stack.up().stdout
        assert stack.outputs() == {"text": "hello world"}
        stack.up("--expect-no-changes")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with a stack `dev` that needs no model."""
    from toolchain.paths import venv_bin

    root = write(tmp_path / "check out", Pulumi="name: sixways\nruntime: python\nmain: infra\n")
    write(
        root / "infra",
        __main__="""
            import pulumi

            config = pulumi.Config()
            if config.get_bool("fails"):
                raise pulumi.RunError("no luck")
            pulumi.export("url", "http://127.0.0.1:5000")
            pulumi.export("api_key", pulumi.Output.secret("key-of-the-test"))
        """,
    )
    write(root / "infra" / "stacks")
    (root / "infra" / "stacks" / "dev.yaml").write_text(
        "# A comment.\nconfig:\n  sixways:port: 5000\n  sixways:fast: true\n  sixways:rate: 0.5\n"
        "  sixways:models:\n    - name: minilm\n      size: 3\n"
    )
    return Checkout(root, venv_bin())


def test_stack_dev_goes_up_and_down_and_leaves_nothing(
    checkout: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    assert up(checkout) == 0
    assert "key-of-the-test" in capfd.readouterr().out
    assert up(checkout, ["--expect-no-changes"]) == 0
    assert down(checkout) == 0
    assert sorted(path.name for path in checkout.root.iterdir()) == ["Pulumi.yaml", "infra"]
    assert down(checkout) == 0


def test_stack_dev_keeps_settings_that_the_user_changed(checkout: Checkout) -> None:
    assert up(checkout) == 0
    own = checkout.own_settings
    assert checkout.pulumi("config", "set", "--stack", "dev", "other", "mine") == 0
    assert down(checkout) == 0
    assert "mine" in own.read_text()
    assert "encryptionsalt" not in own.read_text()
    assert not checkout.files.root.exists()
    assert up(checkout) == 0
    assert down(checkout) == 0


def test_secret_settings_survive_down_with_their_passphrase(checkout: Checkout) -> None:
    assert up(checkout) == 0
    secret = ("config", "set", "--stack", "dev", "--secret", "token", "hush")
    assert checkout.pulumi(*secret) == 0
    assert down(checkout) == 0
    assert [path.name for path in checkout.files.root.iterdir()] == ["passphrase"]
    assert up(checkout) == 0
    assert checkout.ask("config", "get", "--stack", "dev", "--json", "token")["value"] == "hush"
    shutil.rmtree(checkout.files.root)


def test_a_failed_destroy_removes_nothing(checkout: Checkout) -> None:
    assert up(checkout) == 0
    (checkout.root / "Pulumi.yaml").write_text(
        "name: sixways\nruntime: python\nmain: infra\nplugins:\n  providers:\n"
        "    - name: absent\n      path: no/such/folder\n"
    )
    before = sorted(checkout.files.root.rglob("*.json"))
    assert down(checkout) != 0
    assert sorted(checkout.files.root.rglob("*.json")) == before
    assert checkout.own_settings.exists()
