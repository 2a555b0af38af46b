"""`bundle.json`: what is in a bundle, how good it is and where it came from.

The file is canonical JSON (RFC 8785), so equal content has equal bytes. The digest of a bundle
is the SHA-256 of that file, and the file holds the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

import msgspec
import rfc8785

from sixways_bundle.errors import BundleError, Problem

SCHEMA = 1
MANIFEST = "bundle.json"
Task = Literal["embeddings", "chat", "completion", "classify", "tensor"]
Engine = Literal["openvino", "onnx", "torch", "litert", "tensorflow", "vllm"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file: `path` relative to the bundle with forward slashes, `size` in bytes, hex digest."""

    path: str
    size: int
    sha256: str


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far a variant is from the unquantized model, measured when it was built.

    `cosine` (higher is better): mean cosine between both models' sentence embeddings; `worst` is
    the smallest. For a model over tensors: between all numbers of its outputs over seeded random
    inputs, which shows that a conversion is right and not what a quantized model loses on the
    inputs it was trained for. `perplexity_ratio` (lower is better): perplexity over a fixed text
    divided by that of the unquantized model; `worst` is the largest ratio of one passage.
    """

    metric: Literal["cosine", "perplexity_ratio"]
    value: float
    worst: float
    threshold: float
    samples: int

    @property
    def holds(self) -> bool:
        """Whether the value meets the threshold."""
        if self.metric == "cosine":
            return self.value >= self.threshold
        return self.value <= self.threshold


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One engine and precision of the model.

    `size` and `reference_size` are bytes of model files, this variant's and those of the
    unquantized source. `options` is what the runtime must know to open it. `tools` maps each
    library that made it to its version.
    """

    name: str
    engine: Engine
    precision: str
    files: tuple[FileEntry, ...]
    size: int
    reference_size: int
    quality: Quality
    tools: dict[str, str]
    options: dict[str, str | int | float | bool] = {}


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the model came from: the URI as given, an exact revision, its licence, its digest."""

    uri: str
    revision: str
    licence: str
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `bundle.json`.

    `max_tokens` is the longest input (encoders) or context (LLMs), 0 over tensors. `dimensions` is
    the width of an embedding, 0 where the task has none. `eos_token_ids` end a generation.
    """

    schema: int
    name: str
    task: Task
    architecture: str
    source: Source
    max_tokens: int
    dimensions: int
    tokenizer: tuple[FileEntry, ...]
    variants: tuple[Variant, ...]
    eos_token_ids: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """The canonical JSON of this manifest."""
        return rfc8785.dumps(msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """`sha256:` and 64 hex digits: the bundle's name."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the bundle but the manifest itself."""
        return self.tokenizer + tuple(f for v in self.variants for f in v.files)

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            BundleError: the bundle has none of that name.
        """
        for candidate in self.variants:
            if candidate.name == name:
                return candidate
        have = ", ".join(v.name for v in self.variants)
        raise BundleError(
            f"bundle {self.name} has no such variant",
            [Problem("variant", name, have, "name one of these, or build the bundle with it")],
        )

    @classmethod
    def load(cls, bundle: Path) -> Manifest:
        """Reads `bundle/bundle.json`.

        Raises:
            BundleError: it is missing, not a manifest, of another schema, or not canonical.
        """
        path = bundle / MANIFEST
        if not path.is_file():
            raise BundleError(
                f"{bundle} is not a bundle",
                [Problem("bundle", str(bundle), f"a folder with {MANIFEST}",
                         "build one: sixways bundle build --help")],
            )  # fmt: skip
        data = path.read_bytes()
        try:
            schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
            if schema is not None and bytes(schema) != str(SCHEMA).encode():
                raise BundleError(
                    f"{path} has a schema that this version cannot read",
                    [Problem("schema", bytes(schema).decode(), str(SCHEMA),
                             "install the version of sixways that built it, or build it again")],
                )  # fmt: skip
            manifest = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise BundleError(f"{path} is not a bundle manifest: {error}") from None
        if manifest.to_bytes() != data:
            raise BundleError(
                f"{path} is not canonical JSON, so it was changed after it was built. "
                "Fix: build the bundle again"
            )
        manifest._check_places(path)
        return manifest

    def _check_places(self, path: Path) -> None:
        """A manifest is data from elsewhere: its names become folders."""
        places = [(entry, "tokenizer/") for entry in self.tokenizer]
        for variant in self.variants:
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", variant.name):
                raise BundleError(
                    f"{path} names a variant that cannot be",
                    [Problem("variant", variant.name, "a-z, 0-9, '.', '_', '-'", "build it again")],
                )
            places += [(entry, f"variants/{variant.name}/") for entry in variant.files]
        for entry, place in places:
            if not entry.path.startswith(place) or ".." in entry.path.split("/"):
                raise BundleError(
                    f"{path}: a manifest may only list files of its own folder",
                    [Problem("path", entry.path, f"a path below {place}", "build it again")],
                )
