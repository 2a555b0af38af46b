"""Make `pulumi` available in the virtual environment: `python -m toolchain.install_pulumi`.

Nothing is installed system-wide: the CLI is the machine's own, or lies in the user's cache, and
the environment gets links to it. Ways, in order: one on PATH that is new enough and complete,
the cache, the official installer, a build from the pinned Go module.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toolchain import paths
from toolchain.routes import (
    COMPANIONS,
    LANGUAGE_HOST,
    Cli,
    RouteFailed,
    from_cache,
    from_go,
    from_installer,
    from_path,
)

# What our shim in the cache looks for next to the name it was called by.
HOST_OF_CHECKOUT = "pulumi-language-python-sixways"

# The engine warns about a language host on PATH unless it is the file that lies beside the CLI.
# So the file beside the CLI, which all checkouts share, only leads back to the environment whose
# link was called.
_SHIM = f"""\
#!/bin/sh
# sixways: hands over to the language host of the environment that this was called from.
host="$(dirname "$0")/{HOST_OF_CHECKOUT}"
[ -x "$host" ] || host="$(command -v {HOST_OF_CHECKOUT})" || {{
    echo "no Python language host: put the bin folder of a Sixways environment first on PATH" >&2
    exit 1
}}
exec "$host" "$@"
"""

_DYNAMIC = """\
#!/bin/sh
# sixways: dynamic providers of a program run in the environment whose bin is first on PATH.
exec python -u -m pulumi.dynamic "$@"
"""


def write_executable(target: Path, text: str) -> None:
    """Write a script by rename, so that one that is running is not changed under its reader."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(target)


def link(target: Path, source: Path) -> None:
    """Make `target` a link to `source`, replacing what is there."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(source)
    temporary.replace(target)


def host_command(python: Path, checkout: Path) -> str:
    """The script that starts our language host: fixed paths, whatever PATH says."""
    program = checkout / "toolchain" / "language_host"
    return (
        "#!/bin/sh\n# sixways: the Python language host of this checkout.\n"
        f'exec {shlex.quote(str(python))} {shlex.quote(str(program))} "$@"\n'
    )


def install(cli: Cli, bin_folder: Path) -> None:
    """Put links to the CLI and to its language host into the environment."""
    beside = cli.pulumi.parent
    if cli.host is None:
        write_executable(beside / LANGUAGE_HOST, _SHIM)
        write_executable(beside / "pulumi-resource-pulumi-python", _DYNAMIC)
        python = bin_folder / "python"
        write_executable(bin_folder / HOST_OF_CHECKOUT, host_command(python, paths.CHECKOUT))
    link(bin_folder / "pulumi", cli.pulumi)
    link(bin_folder / LANGUAGE_HOST, cli.host or beside / LANGUAGE_HOST)
    for name in COMPANIONS:
        if (beside / name).exists():
            link(bin_folder / name, beside / name)
        else:
            (bin_folder / name).unlink(missing_ok=True)


@contextmanager
def one_at_a_time(cache: Path) -> Iterator[None]:
    """Two installs at once would do the six minutes of work twice."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with (cache.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another install of the Pulumi CLI is at work; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    # stderr, so that `make -s env` prints nothing but export lines.
    print(text, file=sys.stderr, flush=True)


def find(bin_folder: Path, cache: Path, search: str) -> Cli:
    """The first way that leads to a CLI.

    :raises RouteFailed: none does; the message has one paragraph for each way.
    """
    ways: list[tuple[str, Callable[[], Cli]]] = [
        ("a `pulumi` on PATH", lambda: from_path(search, bin_folder)),
        ("the cache", lambda: from_cache(cache)),
        ("the official installer", lambda: from_installer(cache)),
        ("a build from the Go module", lambda: from_go(cache)),
    ]
    failures: list[str] = []
    for name, way in ways:
        try:
            return way()
        except RouteFailed as failed:
            failures.append(f"  {name}: {failed}")
            if name not in ("a `pulumi` on PATH", "the cache"):
                say(f"Not by {name}: {failed.why}")
    raise RouteFailed(
        "No way to get the Pulumi CLI works on this machine:\n" + "\n".join(failures),
        "One of them is enough; after that run `make install` again.",
    )


def main() -> int:
    bin_folder = paths.venv_bin()
    cache = paths.pulumi_cache()
    if sys.prefix == sys.base_prefix:
        say("Run this with the Python of a virtual environment (`make install` does).")
        return 2
    try:
        with one_at_a_time(cache):
            cli = find(bin_folder, cache, os.environ.get("PATH", os.defpath))
            install(cli, bin_folder)
    except RouteFailed as failed:
        say(str(failed))
        return 1
    except KeyboardInterrupt:
        say("Interrupted; what was built so far is kept by Go and makes the next try shorter.")
        return 130
    host = "its own language host" if cli.host else "the language host of this checkout"
    version = ".".join(map(str, cli.version))
    say(f"Pulumi CLI {version} at {cli.pulumi}, with {host}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
