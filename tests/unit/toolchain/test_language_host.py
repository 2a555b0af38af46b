"""The parts of the language host that need no engine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toolchain import paths
from toolchain.language_host.children import Children, stop
from toolchain.language_host.environment import EnvironmentProblem, plugin_command, python_for
from toolchain.language_host.program import user_traceback

pytestmark = pytest.mark.unit

HOST = paths.CHECKOUT / "toolchain" / "language_host"


def test_another_environment_is_asked_through_its_own_python() -> None:
    command = [sys.executable, str(HOST / "packages.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pulumi" in {entry["name"] for entry in json.loads(done.stdout)}


def test_without_options_our_own_python_runs_the_program() -> None:
    assert python_for({}, "/nowhere") == Path(sys.executable)
    assert python_for({"toolchain": "pip"}, "/nowhere") == Path(sys.executable)


def test_a_virtualenv_is_found_from_any_of_the_projects_folders(tmp_path: Path) -> None:
    python = tmp_path / "program" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    folders = (str(tmp_path), str(tmp_path / "program"))
    assert python_for({"virtualenv": "venv"}, *folders) == python


@pytest.mark.parametrize(
    ("options", "named"), [({"virtualenv": "gone"}, "gone"), ({"toolchain": "poetry"}, "poetry")]
)
def test_an_environment_that_cannot_be_had_is_named_with_a_remedy(
    tmp_path: Path, options: dict[str, str], named: str
) -> None:
    with pytest.raises(EnvironmentProblem, match=f"{named}.*[Ll]eave the option out"):
        python_for(options, str(tmp_path))


def test_each_kind_of_plugin_is_started_its_own_way(tmp_path: Path) -> None:
    python = Path("/env/bin/python")
    folder = tmp_path / "plugin"
    folder.mkdir()
    with pytest.raises(EnvironmentProblem, match=r"__main__\.py"):
        plugin_command(python, "resource", str(folder), ["engine"])
    (folder / "pyproject.toml").write_text('[project]\nname = "my-plugin"\n')
    start = [str(python), "-u"]
    module = [*start, "-m", "pulumi.run.plugin", "my-plugin", "-v=9", "engine"]
    assert plugin_command(python, "resource", str(folder), ["-v=9", "engine"]) == module
    (folder / "__main__.py").touch()
    program = [*start, str(folder), "engine"]
    assert plugin_command(python, "resource", str(folder), ["engine"]) == program
    pack = [*start, "-m", "pulumi.policy", "engine", str(folder)]
    assert plugin_command(python, "analyzer", str(folder), ["-v=9", "engine"]) == pack


def failing() -> None:
    raise ValueError("what happened")


def test_a_traceback_starts_at_the_users_line_and_keeps_causes() -> None:
    try:
        try:
            failing()
        except ValueError as cause:
            raise KeyError("on top") from cause
    except KeyError as error:
        text = user_traceback(error)
    assert "in failing" in text
    assert "direct cause" in text
    assert text.rstrip().endswith("KeyError: 'on top'")


def test_machinery_above_the_users_code_is_left_out(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def f():\n    return 1 / 0\nf()\n")
    import runpy

    with pytest.raises(ZeroDivisionError) as caught:
        runpy.run_path(str(program))
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]
    text = user_traceback(caught.value)
    assert "runpy" not in text
    assert f'"{program}", line 3' in text


def test_a_syntax_error_names_its_line_and_no_machinery(tmp_path: Path) -> None:
    import runpy

    program = tmp_path / "program.py"
    program.write_text("a = = 1\n")
    with pytest.raises(SyntaxError) as caught:
        runpy.run_path(str(program))
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]
    text = user_traceback(caught.value)
    assert "runpy" not in text
    assert "line 1" in text


def sleeper(code: str = "import time; time.sleep(60)") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def test_only_the_children_of_a_role_are_interrupted() -> None:
    children = Children()
    program, plugin = sleeper("input()"), sleeper()
    with children.keep("program", program), children.keep("plugin", plugin):
        children.interrupt("program")
        program.wait(10)
        assert plugin.poll() is None
        children.stop_all()
    assert plugin.poll() is not None
    for child in (program, plugin):
        child.stdout.close()  # type: ignore[union-attr]


def test_a_child_that_does_not_listen_is_killed_after_the_grace() -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
    child = sleeper(code + "time.sleep(60)")
    assert child.stdout is not None
    child.stdout.readline()
    started = time.monotonic()
    assert stop(child, grace_s=0.2) == -9
    assert time.monotonic() - started < 5
    child.stdout.close()


def test_the_host_serves_without_importing_the_whole_sdk() -> None:
    """It starts with nearly every pulumi command: the SDK would cost more than all the rest."""
    code = (
        f"import sys; sys.path.insert(0, {str(paths.CHECKOUT)!r}); "
        "import toolchain.language_host.host; print('pulumi.resource' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_host_without_an_engine_shows_how_it_is_started() -> None:
    done = subprocess.run(
        [sys.executable, str(HOST)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "ENGINE_ADDRESS" in done.stderr
