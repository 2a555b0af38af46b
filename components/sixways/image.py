"""The server's image: what `docker build` is given, the same bytes for the same source.

The Dockerfile is part of the package (`model_server/` of a checkout, `sixways_server/image/` of an
installed wheel). `prepare` puts it into a folder together with what it copies; nothing in that
folder carries a time, so a source that did not change builds nothing anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sixways.checks import Checks
from sixways_bundle import BundleError, Problem
from sixways_server import sixways_version

PLATFORMS = ("linux/amd64", "linux/arm64")
"""Those that every engine of the image has wheels for."""
EXTRAS = ("graphql", "gpu", "litert", "otel", "sign")
"""What the image may hold besides `server`: the extras that its constraints pin."""

_EPOCH = 1577836800
"""2020-01-01: the time of everything in the context and in the image."""
_OWN_FILES = ("Dockerfile", "serve", "requirements.txt", "constraints.txt", "sbom.txt")
_OURS = ("REQUIREMENT", "VERSION")
_PIN = re.compile(r"sixways==[A-Za-z0-9][A-Za-z0-9.!+-]*")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACCEPTED_PACKAGE = "sixways==VERSION, or the path of a wheel (sixways-….whl)"


@dataclass(frozen=True)
class BuildContext:
    """What one build takes.

    Attributes:
        folder: the context; `Dockerfile` is in it.
        build_args: arguments of the build, all plain.
        digest: SHA-256 of the context, in hex.
        version: of the sixways in it.
    """

    folder: Path
    build_args: dict[str, str]
    digest: str
    version: str


def check_build_inputs(
    checks: Checks,
    *,
    package: object = None,
    extras: object = None,
    build_args: object = None,
    platforms: object = None,
) -> None:
    """Notes what is wrong with the inputs of a build; reads no file."""
    if isinstance(package, str) and not (_PIN.fullmatch(package) or package.endswith(".whl")):
        checks.add(
            "package",
            package,
            _ACCEPTED_PACKAGE,
            "pin the version; extras have a field of their own",
        )
    for field, given, accepted in (("extras", extras, EXTRAS), ("platforms", platforms, PLATFORMS)):
        if not isinstance(given, list):
            continue
        for index, one in enumerate(given):
            checks.one_of(f"{field}[{index}]", one, accepted)
        plain = [one for one in given if isinstance(one, str)]
        for one in sorted({one for one in plain if plain.count(one) > 1}):
            checks.add(field, one, "each value once", f"remove one {one}")
    if platforms == []:
        checks.add("platforms", None, ", ".join(PLATFORMS), "leave the field out for linux/amd64")
    if isinstance(build_args, Mapping):
        for key in build_args:
            if not _ARGUMENT.fullmatch(str(key)):
                checks.add(f"build_args.{key}", key, "letters, digits and _", "rename it")
            elif key in _OURS:
                checks.add(f"build_args.{key}", key, "other names than " + ", ".join(_OURS),
                           "use the field package")  # fmt: skip


def prepare(
    folder: Path,
    *,
    package: str | None = None,
    extras: Iterable[str] = (),
    dockerfile: Path | None = None,
) -> BuildContext:
    """Makes `folder` the build context: it is written anew where something differs.

    Args:
        folder: whatever else is in it is removed.
        package: `sixways==VERSION` or the path of a wheel. None: what runs now, which is a wheel
            made from the checkout, or the version that is installed.
        extras: see `EXTRAS`.
        dockerfile: another Dockerfile to use with this context.

    Raises:
        BundleError: a file is missing, or the wheel cannot be made; carries the problem.
    """
    files = {name: _read_own(name) for name in _OWN_FILES}
    if dockerfile is not None:
        files["Dockerfile"] = _read(dockerfile, "dockerfile", "a Dockerfile")
    selected = "[" + ",".join(["server", *sorted(set(extras))]) + "]"
    version = sixways_version()
    if package is None and _checkout() is None:
        package = f"sixways=={version}"
    if package is not None and not package.endswith(".whl"):
        version = package.partition("==")[2]
        requirement = package.replace("==", f"{selected}==", 1)
    else:
        wheel, data = (
            _wheel_of_checkout()
            if package is None
            else (Path(package).name, _read(Path(package), "package", _ACCEPTED_PACKAGE))
        )
        files[wheel] = data
        version = wheel.split("-")[1] if wheel.count("-") >= 2 else version
        requirement = f"/context/{wheel}{selected}"
    _write(folder, files)
    build_args = {
        "REQUIREMENT": requirement,
        "VERSION": version,
        "SOURCE_DATE_EPOCH": str(_EPOCH),
    }
    return BuildContext(folder, build_args, _digest(files), version)


def constraints() -> str:
    """The versions that this release of sixways was tried with, as a constraints file of pip."""
    return _read_own("constraints.txt").decode()


def _checkout() -> Path | None:
    """The checkout this module lies in; None: it was installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "model_server" / "Dockerfile").is_file() else None


def _read_own(name: str) -> bytes:
    root = _checkout()
    if root is None:
        return (resources.files("sixways_server") / "image" / name).read_bytes()
    folder = root / "model_server"
    return (folder / name if name == "Dockerfile" else folder / "image" / name).read_bytes()


def _read(path: Path, field: str, accepted: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            "the image cannot be built",
            [Problem(field, str(path), accepted, f"{error.strerror}: give an existing file")],
        ) from error


def _wheel_of_checkout() -> tuple[str, bytes]:
    """Name and content of a wheel of this checkout; hatchling puts no time into it."""
    if importlib.util.find_spec("hatchling") is None:
        raise BundleError(
            "the image cannot be built",
            [Problem("package", "", _ACCEPTED_PACKAGE,
                     "a checkout's own wheel needs hatchling: pip install hatchling")],
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="sixways-wheel-") as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "hatchling",
                "build",
                "--target",
                "wheel",
                "--directory",
                folder,
            ],
            cwd=_checkout(),
            env={k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BundleError(f"no wheel could be made of the checkout:\n{done.stdout.strip()}")
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.name, wheel.read_bytes()


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return whole.hexdigest()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """What is there already stays as it is: a build that is reading it is not disturbed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
        path.chmod(0o755 if name == "serve" else 0o644)
        os.utime(path, (_EPOCH, _EPOCH))
