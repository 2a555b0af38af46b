"""The server as SageMaker starts it: `docker run IMAGE serve`.

It serves on 0.0.0.0:8080 (`SAGEMAKER_BIND_TO_PORT`) what lies in `/opt/ml/model` (`SM_MODEL_DIR`):
one bundle, or a folder of bundles, each under its folder's name. It opens no other port, so
`SAGEMAKER_SAFE_PORT_RANGE` is kept. Every setting of `ServerConfig` has an environment variable
(`SIXWAYS_WORKERS`, `SIXWAYS_REQUEST_SECONDS` …), and besides:

    SIXWAYS_NAME     the name of the only model; left out: the bundle's own
    SIXWAYS_VARIANT  the variant to serve of every bundle that has it
    SIXWAYS_MODELS   models as JSON, [{"name": …, "path": …}], in place of the folder

SageMaker checks its callers (SigV4) before a request comes here and passes no header of theirs that
could hold a key. So `/invocations` takes requests without one, in this entry point only; with
`SIXWAYS_KEYS_FILE` it wants one like every other way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sixways_bundle import Manifest
from sixways_bundle.errors import BundleError, Problem
from sixways_server.auth import OPEN_PATHS, KeyStore
from sixways_server.config import ServerConfig

FOLDER = "/opt/ml/model"
PORT = 8080
_PREFIX = "SIXWAYS_"
_DRAIN_SECONDS = 25.0
"""SageMaker kills a container 30 seconds after SIGTERM."""


class CallersAreKnown(KeyStore):
    """Lets `/invocations` be called without a key: SageMaker has checked who calls."""

    open_paths = OPEN_PATHS | {"/invocations"}


def configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `ServerConfig.from_dict` takes, without a keys file where none is named.

    Raises:
        BundleError: a variable cannot be read, or there is no bundle; carries every problem.
    """
    problems: list[Problem] = []
    raw: dict[str, Any] = {"drain_seconds": _DRAIN_SECONDS, "console": False}
    for field in msgspec.structs.fields(ServerConfig):
        name = _PREFIX + field.name.upper()
        if name not in environment:
            continue
        text = environment[name]
        try:
            raw[field.name] = (
                msgspec.json.decode(text)
                if field.name == "models"
                else msgspec.to_builtins(
                    msgspec.convert(text, field.type, strict=False, dec_hook=_path), enc_hook=str
                )
            )
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            problems.append(Problem(name, text, str(error)))
    raw["host"] = "0.0.0.0"  # noqa: S104 - SageMaker calls from outside of the container
    port = environment.get("SAGEMAKER_BIND_TO_PORT", str(PORT))
    if port.isascii() and port.isdecimal():
        raw["port"] = int(port)
    else:
        problems.append(Problem("SAGEMAKER_BIND_TO_PORT", port, "a port's number"))
    if problems:
        raise BundleError("the environment's settings are wrong", problems)
    if "models" not in raw:
        raw["models"] = _models(Path(environment.get("SM_MODEL_DIR", FOLDER)), environment)
    return raw


def _path(kind: type, value: object) -> object:
    return Path(str(value))


def _models(folder: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    variant = environment.get("SIXWAYS_VARIANT")
    if (folder / "bundle.json").is_file():
        found = {environment.get("SIXWAYS_NAME") or Manifest.load(folder).name: folder}
    else:
        found = {path.parent.name: path.parent for path in sorted(folder.glob("*/bundle.json"))}
    if not found:
        raise BundleError(
            "there is no model",
            [Problem("SM_MODEL_DIR", str(folder), "a folder with a bundle, or with bundles in it",
                     "make model.tar.gz of a bundle's folder: sixways bundle build --help")],
        )  # fmt: skip
    return [
        {"name": name, "path": str(path), "variant": _variant(path, variant, len(found) == 1)}
        for name, path in found.items()
    ]


def _variant(bundle: Path, wanted: str | None, only: bool) -> str | None:
    """The variant to serve; of several bundles some may not have it and serve their own first."""
    if wanted is None or only:
        return wanted
    names = [variant.name for variant in Manifest.load(bundle).variants]
    return wanted if wanted in names else None


def main() -> int:
    """Entry point of `serve`."""
    from sixways_server.serve import run

    try:
        raw = configuration(os.environ)
        with tempfile.TemporaryDirectory(prefix="sixways-") as own:
            if "keys_file" in raw:
                return run(ServerConfig.from_dict(raw))
            keys = Path(own) / "keys.json"
            keys.write_bytes(b'{"keys": []}')
            config = ServerConfig.from_dict({**raw, "keys_file": str(keys)})
            sys.stderr.write(
                "no SIXWAYS_KEYS_FILE: whoever reaches the port may call /invocations. "
                "Right inside SageMaker, which checks its callers; nowhere else.\n"
            )
            return run(config, CallersAreKnown(keys))
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
