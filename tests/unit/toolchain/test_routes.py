"""Which way leads to a CLI, and what each says when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolchain import install_pulumi, paths, routes
from toolchain.routes import Cli, RouteFailed, from_cache, from_go, from_installer, from_path

from tests.unit.toolchain import fakes

pytestmark = pytest.mark.unit

NEW = f"v{paths.PULUMI_VERSION}"


def reason(caught: pytest.ExceptionInfo[RouteFailed]) -> str:
    assert caught.value.remedy, "every failing way says what to do"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v3.259.0", (3, 259, 0)),
        ("3.260.1-dev.0+abc\n", (3, 260, 1)),
        ("development", None),
        ("", None),
    ],
)
def test_a_version_is_read_as_the_cli_prints_it(text: str, version: routes.Version | None) -> None:
    assert routes.parse_version(text) == version


def test_the_version_of_the_go_module_is_the_pinned_one() -> None:
    module = (paths.CHECKOUT / "toolchain" / "go.mod").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 {NEW}" in module
    constraints = (paths.CHECKOUT / "constraints.txt").read_text()
    assert f"\npulumi=={paths.PULUMI_VERSION}\n" in constraints


def test_a_new_enough_cli_on_path_is_used_with_its_own_host(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    fakes.pulumi(machine, "v4.1.0")
    host = fakes.executable(machine, "pulumi-language-python", "exit 0")
    cli = from_path(str(machine), tmp_path / "own")
    assert cli == Cli(machine / "pulumi", (4, 1, 0), host)


def test_a_host_elsewhere_on_path_belongs_to_the_cli_too(tmp_path: Path) -> None:
    fakes.pulumi(tmp_path / "one", NEW)
    host = fakes.executable(tmp_path / "two", "pulumi-language-python", "exit 0")
    cli = from_path(f"{tmp_path / 'one'}:{tmp_path / 'two'}", tmp_path / "own")
    assert cli.host == host


def test_an_old_cli_on_path_is_refused_with_both_versions(tmp_path: Path) -> None:
    fakes.pulumi(tmp_path, "v3.100.2")
    with pytest.raises(RouteFailed) as caught:
        from_path(str(tmp_path), tmp_path / "own")
    assert "3.100.2" in reason(caught)
    assert paths.PULUMI_VERSION in reason(caught)


def test_a_cli_without_its_language_host_is_refused(tmp_path: Path) -> None:
    fakes.pulumi(tmp_path, NEW)
    with pytest.raises(RouteFailed) as caught:
        from_path(str(tmp_path), tmp_path / "own")
    assert "pulumi-language-python" in reason(caught)


def test_our_own_stand_in_does_not_make_a_cli_complete(tmp_path: Path) -> None:
    fakes.pulumi(tmp_path, NEW)
    fakes.executable(tmp_path, "pulumi-language-python", "# sixways: a stand-in")
    with pytest.raises(RouteFailed) as caught:
        from_path(str(tmp_path), tmp_path / "own")
    assert "without its own" in reason(caught)


def test_a_broken_cli_on_path_is_named(tmp_path: Path) -> None:
    fakes.executable(tmp_path, "pulumi", "exit 3")
    with pytest.raises(RouteFailed) as caught:
        from_path(str(tmp_path), tmp_path / "own")
    assert str(tmp_path / "pulumi") in reason(caught)


def test_what_lies_in_our_own_environment_is_not_taken_for_the_machines(tmp_path: Path) -> None:
    own = tmp_path / "own"
    fakes.pulumi(own, NEW)
    fakes.executable(own, "pulumi-language-python", "exit 0")
    with pytest.raises(RouteFailed) as caught:
        from_path(str(own), own)
    assert "no `pulumi` on PATH" in reason(caught)


def test_an_empty_or_broken_cache_is_no_way(tmp_path: Path) -> None:
    with pytest.raises(RouteFailed):
        from_cache(tmp_path)
    fakes.executable(tmp_path, "pulumi", "exit 1")
    with pytest.raises(RouteFailed) as caught:
        from_cache(tmp_path)
    assert str(tmp_path) in reason(caught)


def test_the_cache_tells_the_official_host_from_our_stand_in(tmp_path: Path) -> None:
    fakes.pulumi(tmp_path, NEW)
    fakes.executable(tmp_path, "pulumi-language-python", "# sixways")
    assert from_cache(tmp_path).host is None
    official = fakes.executable(tmp_path, "pulumi-language-python", "exit 0")
    assert from_cache(tmp_path).host == official


def test_an_installer_that_cannot_be_reached_fails_fast_with_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.executable(tmp_path / "tools", "curl", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    # Port 1 of this machine refuses the connection at once.
    with pytest.raises(RouteFailed) as caught:
        from_installer(tmp_path / "cache", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1 cannot be reached" in reason(caught)
    assert not (tmp_path / "cache").exists()


def test_an_installer_without_a_download_tool_names_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RouteFailed) as caught:
        from_installer(tmp_path / "cache")
    assert "curl" in reason(caught)


def fake_installer(body: str) -> str:
    """An install script that finds the root it is told in $root."""
    return f'while [ $# -gt 0 ]; do [ "$1" = --install-root ] && root="$2"; shift; done\n{body}'


def offer(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def download(url: str, target: Path) -> None:
        target.write_text(script)

    monkeypatch.setattr(routes, "_download_installer", download)
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}")


def test_the_official_installer_fills_the_cache_with_its_whole_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"""
    mkdir -p "$root/bin"
    printf '#!/bin/sh\\necho {NEW}\\n' > "$root/bin/pulumi"
    printf '#!/bin/sh\\n' > "$root/bin/pulumi-language-python"
    chmod +x "$root"/bin/*
    """
    offer(monkeypatch, fake_installer(body))
    cli = from_installer(tmp_path / "cache")
    assert cli.pulumi == tmp_path / "cache" / "pulumi"
    assert cli.host == tmp_path / "cache" / "pulumi-language-python"


def test_a_failing_installer_shows_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, "echo the proxy says no; exit 9")
    with pytest.raises(RouteFailed) as caught:
        from_installer(tmp_path / "cache")
    assert "the proxy says no" in reason(caught)
    assert "status 9" in reason(caught)


def test_no_go_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RouteFailed) as caught:
        from_go(tmp_path / "cache", {"PATH": str(tmp_path)})
    assert "no `go` on PATH" in reason(caught)
    assert "Install Go" in reason(caught)


def test_a_go_that_is_too_old_is_refused_with_its_version(tmp_path: Path) -> None:
    fakes.executable(tmp_path, "go", "echo go1.19.8")
    with pytest.raises(RouteFailed) as caught:
        from_go(tmp_path / "cache", {"PATH": str(tmp_path)})
    assert "1.19" in reason(caught)


BUILDING_GO = f"""
case "$1" in
  env) echo go1.26.0 ;;
  list) echo "go: downloading example.org/m v1.0.0" >&2; echo fmt; echo {routes.CLI_PACKAGE} ;;
  build)
    [ "$GOWORK" = off ] || exit 8
    echo fmt >&2; echo {routes.CLI_PACKAGE} >&2
    while [ "$1" != -o ]; do shift; done
    printf '#!/bin/sh\\necho {NEW}\\n' > "$2"; chmod +x "$2" ;;
esac
"""


def test_a_go_build_lands_in_the_cache_and_tells_what_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.executable(tmp_path / "go", "go", BUILDING_GO)
    cache = tmp_path / "cache"
    cli = from_go(cache, {"PATH": f"{tmp_path / 'go'}:/usr/bin:/bin"})
    assert (cli.pulumi, cli.host) == (cache / "pulumi", None)
    assert [file.name for file in cache.iterdir()] == ["pulumi"]
    told = capsys.readouterr().err
    assert "minutes" in told
    assert "fetching modules" in told


def test_a_failing_go_build_shows_its_last_lines_and_leaves_nothing(tmp_path: Path) -> None:
    body = BUILDING_GO.replace("printf", "echo no space left on device >&2; exit 1; printf")
    fakes.executable(tmp_path / "go", "go", body)
    with pytest.raises(RouteFailed) as caught:
        from_go(tmp_path / "cache", {"PATH": f"{tmp_path / 'go'}:/usr/bin:/bin"})
    assert "no space left on device" in reason(caught)
    assert list((tmp_path / "cache").iterdir()) == []


def test_when_every_way_fails_each_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RouteFailed) as caught:
        install_pulumi.find(tmp_path / "bin", tmp_path / "cache", str(tmp_path))
    said = str(caught.value)
    for part in ("a `pulumi` on PATH", "the cache", "the official installer", "no `go` on PATH"):
        assert part in said


def test_the_machines_own_cli_is_preferred_to_the_cache(tmp_path: Path) -> None:
    machine, cache = tmp_path / "machine", tmp_path / "cache"
    fakes.pulumi(machine, "v3.300.0")
    fakes.executable(machine, "pulumi-language-python", "exit 0")
    fakes.pulumi(cache, NEW)
    assert install_pulumi.find(tmp_path / "own", cache, str(machine)).pulumi.parent == machine
    assert install_pulumi.find(tmp_path / "own", cache, "").pulumi.parent == cache
