"""The three ways to get the Pulumi CLI, each of which may fail with a reason and a remedy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain import paths
from toolchain.progress import CommandFailed, Ticker, run_told

INSTALLER_URL = "https://get.pulumi.com"
CONNECT_TIMEOUT_S = 5.0
CLI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
# The first Go that fetches the toolchain which a go.mod names by itself.
OLDEST_GO = (1, 21)
LANGUAGE_HOST = "pulumi-language-python"
# Beside the official CLI lie helpers of its language host; they are linked with it.
COMPANIONS = (
    "pulumi-language-python-exec",
    "pulumi-resource-pulumi-python",
    "pulumi-analyzer-policy-python",
)

Version = tuple[int, int, int]


class RouteFailed(Exception):
    """This way does not lead to a CLI here.

    :param why: what was found.
    :param remedy: what to install or do so that it works.
    """

    def __init__(self, why: str, remedy: str) -> None:
        self.why = why
        self.remedy = remedy
        super().__init__(f"{why}\n     {remedy}")


@dataclass(frozen=True)
class Cli:
    """A CLI that answered `pulumi version`."""

    pulumi: Path
    version: Version
    host: Path | None
    """The official language host that belongs to it; None: ours has to stand in."""


def parse_version(text: str) -> Version | None:
    """`v3.259.0`, also with a suffix such as `-dev.1`; None for anything else."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


WANTED: Version = parse_version(paths.PULUMI_VERSION) or (0, 0, 0)


def version_of(pulumi: Path) -> Version | None:
    """What the executable says of itself; None when it cannot be run or says nothing useful."""
    environ = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run(
            [str(pulumi), "version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout) if done.returncode == 0 else None


def is_ours(host: Path) -> bool:
    """Whether this is the stand-in that `install_pulumi` writes."""
    with host.open("rb") as file:
        return b"sixways" in file.read(400)


def from_path(search: str, own_bin: Path) -> Cli:
    """A CLI that the machine has already.

    :param search: a PATH. Our own `bin` on it is passed over: what lies there is a link of ours.
    """
    own = own_bin.resolve()
    folders = [f for f in search.split(os.pathsep) if f and Path(f).resolve() != own]
    elsewhere = os.pathsep.join(folders)
    found = shutil.which("pulumi", path=elsewhere)
    if found is None:
        raise RouteFailed(
            "no `pulumi` on PATH.",
            "Nothing to do if another way works; else see pulumi.com/docs/install.",
        )
    pulumi = Path(found).resolve()
    version = version_of(pulumi)
    if version is None:
        raise RouteFailed(
            f"{found} does not answer `pulumi version`.", "Repair it or take it off PATH."
        )
    if version < WANTED:
        have = ".".join(map(str, version))
        raise RouteFailed(
            f"{found} is {have}, older than {paths.PULUMI_VERSION}.",
            "Upgrade it if you want it to be used; it is left as it is.",
        )
    beside = pulumi.parent / LANGUAGE_HOST
    on_path = shutil.which(LANGUAGE_HOST, path=elsewhere)
    host = beside if os.access(beside, os.X_OK) else Path(on_path).resolve() if on_path else None
    if host is None or is_ours(host):
        raise RouteFailed(
            f"{found} comes without its own {LANGUAGE_HOST}.",
            "Install the complete Pulumi distribution if you want it to be used.",
        )
    return Cli(pulumi, version, host)


def from_cache(cache: Path) -> Cli:
    """What an earlier run left in the cache."""
    pulumi = cache / "pulumi"
    version = version_of(pulumi) if pulumi.exists() else None
    if version is None:
        raise RouteFailed(f"nothing usable in {cache}.", "It is filled by the ways below.")
    host = cache / LANGUAGE_HOST
    official = host.exists() and not is_ours(host)
    return Cli(pulumi, version, host if official else None)


def _download_installer(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310
            target.write_bytes(answer.read())
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise RouteFailed(
            f"{url} cannot be reached ({reason}).",
            "If this machine should reach it, check the network and HTTPS_PROXY.",
        ) from error


def from_installer(cache: Path, url: str = INSTALLER_URL) -> Cli:
    """The official distribution, by its own install script, into the cache."""
    if not any(shutil.which(tool) for tool in ("curl", "wget")):
        raise RouteFailed(
            "the official installer needs `curl` or `wget`; neither is on PATH.", "Install curl."
        )
    with tempfile.TemporaryDirectory(prefix="sixways-pulumi-") as temporary, Ticker() as ticker:
        ticker.set(f"asking {url} for the official distribution")
        script = Path(temporary) / "install.sh"
        _download_installer(url, script)
        stage = Path(temporary) / "root"
        command = ["sh", str(script), "--version", paths.PULUMI_VERSION]
        command += ["--install-root", str(stage), "--no-edit-path"]
        try:
            run_told(command, lambda line: ticker.set(f"official installer: {line}"))
        except (CommandFailed, OSError) as error:
            raise RouteFailed(
                f"the official installer failed: {error}",
                "The text above says why; often a proxy or a firewall.",
            ) from error
        staged = stage / "bin"
        if version_of(staged / "pulumi") is None:
            raise RouteFailed(
                "the official installer left no working `pulumi`.",
                "The distribution may not support this machine.",
            )
        cache.mkdir(parents=True, exist_ok=True)
        for file in sorted(staged.iterdir()):
            replace_file(file, cache / file.name)
    return from_cache(cache)


def replace_file(source: Path, target: Path) -> None:
    """Copy next to the target, then rename: nobody ever sees half a file."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copy2(source, temporary)
        temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def go_version(go: str) -> tuple[int, int] | None:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", done.stdout.strip())
    return (int(found[1]), int(found[2])) if found else None


def from_go(cache: Path, environ: Mapping[str, str] = os.environ) -> Cli:
    """Build the CLI from its Go module, pinned by toolchain/go.sum, into the cache."""
    go = shutil.which("go", path=environ.get("PATH"))
    remedy = "Install Go 1.25 or newer from go.dev/dl (Debian: golang-go from backports)."
    if go is None:
        raise RouteFailed("no `go` on PATH, so the CLI cannot be built.", remedy)
    version = go_version(go)
    if version is None or version < OLDEST_GO:
        have = ".".join(map(str, version)) if version else "of an unknown version"
        raise RouteFailed(f"{go} is {have}; 1.21 is the oldest that can build it.", remedy)

    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "pulumi"
    temporary = cache / f".pulumi.{os.getpid()}"
    settings = {**environ, "GOWORK": "off"}
    module = paths.CHECKOUT / "toolchain"
    flag = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
    build = [go, "build", "-v", "-mod=readonly", "-o", str(temporary)]
    build += ["-ldflags", f"-s -w -X {flag}=v{paths.PULUMI_VERSION}", CLI_PACKAGE]
    print(
        f"Building the Pulumi CLI {paths.PULUMI_VERSION} from its Go module. The first time this "
        "takes about 6 minutes on 2 cores; after that it is in the cache.",
        file=sys.stderr,
    )
    try:
        with Ticker() as ticker:
            fetch = Fetching(ticker)
            ticker.set("fetching modules")
            listing = [go, "list", "-mod=readonly", "-deps", CLI_PACKAGE]
            packages = run_told(listing, fetch, cwd=module, environ=settings, keep_stdout=True)
            ticker.set(f"compiling {len(packages)} packages (those built before are skipped)")
            run_told(build, Compiling(ticker, packages), cwd=module, environ=settings)
        if version_of(temporary) is None:
            raise RouteFailed(
                f"the built {target.name} does not answer `pulumi version`.",
                "Remove the Go build cache (`go clean -cache`) and try again.",
            )
        temporary.replace(target)
    except (CommandFailed, OSError) as error:
        raise RouteFailed(
            f"the Go build failed: {error}",
            "It needs a Go module proxy (GOPROXY), about 3 GB of disk and 2 GB of memory.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return from_cache(cache)


class Fetching:
    """Counts the modules that `go list` downloads."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._count = 0

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self._count += 1
            name = line.removeprefix("go: downloading ").split()[0]
            self._ticker.set(f"fetching modules: {self._count}, {name}")


class Compiling:
    """Counts the packages that `go build -v` names as it comes to them."""

    def __init__(self, ticker: Ticker, packages: list[str]) -> None:
        self._ticker = ticker
        self._left = set(packages)
        self._total = len(packages)
        self._count = 0

    def __call__(self, line: str) -> None:
        if line not in self._left:
            return
        self._left.discard(line)
        self._count += 1
        doing = "linking" if line == CLI_PACKAGE else f"compiling {line}"
        self._ticker.set(f"{self._count} of at most {self._total} packages, {doing}")
