"""Builds a bundle: finds the model, makes and measures its variants, chooses, packs.

Nothing is done twice: a variant is kept by what went into it, a build by what was asked for.
A variant whose quality misses its threshold ends the build with the figure.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from sixways_bundle import cache
from sixways_bundle.choose import AUTO, Artifact, Progress, Request, choose, files_of, step_report
from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import MANIFEST, SCHEMA, FileEntry, Manifest, Task, Variant
from sixways_bundle.quantize.base import Family, Recipe
from sixways_bundle.report import BuildReport, Candidate, load_report, machine
from sixways_bundle.sources import Kind, Resolved, resolve
from sixways_bundle.tools import data_sha256, missing, tools_of
from sixways_bundle.verify import BUILD_REPORT, entry_of, verify

__all__ = ["AUTO", "Progress", "Request", "Result", "build", "find", "plan", "recipes"]
_RECIPE_REVISION = 1
"""Raised when a recipe changes what it makes, so that cached variants are made again."""


@dataclass(frozen=True)
class Result:
    """A bundle on this machine; `cached` says that nothing had to be built."""

    path: Path
    manifest: Manifest
    report: BuildReport
    cached: bool


def recipes(kind: Kind) -> tuple[Recipe, ...]:
    """What can be made of a model of that kind. Imports no engine."""
    if kind == "encoder":
        from sixways_bundle.quantize.encoder import ENCODER_RECIPES

        return ENCODER_RECIPES
    if kind == "llm":
        from sixways_bundle.quantize.llm import LLM_RECIPES

        return LLM_RECIPES
    from sixways_bundle.quantize.tensor import TENSOR_RECIPES

    return TENSOR_RECIPES[kind]


def plan(request: Request, *, cache_dir: Path | None = None) -> tuple[Resolved, list[Recipe]]:
    """Checks a request without building: the model it means and the recipes it needs.

    Raises:
        BundleError: everything that is wrong with the request, at once.
    """
    problems = []
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", request.name):
        problems.append(
            Problem("name", request.name, "1 to 64 of a-z, 0-9, '.', '_', '-', "
                    "beginning and ending with a letter or digit", "rename the bundle")
        )  # fmt: skip
    threshold = request.quality_threshold
    if threshold is not None and not (math.isfinite(threshold) and threshold > 0):
        problems.append(
            Problem("quality_threshold", str(threshold), "a positive number, e.g. 0.995 "
                    "(cosine) or 1.05 (perplexity ratio)", "leave it out for the default")
        )  # fmt: skip
    if not request.variants:
        problems.append(Problem("variant", "", f"{AUTO} or names of variants", "name one"))
    resolved = None
    chosen: list[Recipe] = []
    try:
        resolved = resolve(request.source, cache_dir=cache_dir)
    except BundleError as error:
        problems += error.problems or [Problem("source", request.source, str(error))]
    if resolved is not None:
        known = {recipe.name: recipe for recipe in recipes(resolved.kind)}
        for name in dict.fromkeys(request.variants):
            if name == AUTO:
                chosen += [recipe for recipe in known.values() if recipe.auto]
            elif name in known:
                chosen.append(known[name])
            else:
                problems.append(
                    Problem("variant", name, ", ".join([AUTO, *known]), "choose one of these")
                )
        # `auto` goes on with what can be made, if anything can.
        some = any(recipe.auto and not missing(recipe) for recipe in chosen)
        for recipe in chosen:
            absent = missing(recipe)
            if absent and (recipe.name in request.variants or not some):
                problems.append(
                    Problem("variant", recipe.name,
                            f"a variant this machine can make (missing: {', '.join(absent)})",
                            f"pip install 'sixways[{recipe.extra}]'")
                )  # fmt: skip
    if problems or resolved is None:
        raise BundleError(f"bundle {request.name or '(no name)'} cannot be built", problems)
    return resolved, list(dict.fromkeys(chosen))


def find(request: Request, *, cache_dir: Path | None = None) -> Result | None:
    """The bundle of an earlier build of the same request, or None. Builds nothing.

    Raises:
        BundleError: the request is wrong.
    """
    resolved, chosen = plan(request, cache_dir=cache_dir)
    return _finished(cache.root(cache_dir), _build_key(request, resolved, chosen))


def build(
    request: Request, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Result:
    """Builds the bundle, or finds it built.

    Args:
        request: what to build.
        cache_dir: the cache; None: the usual one.
        progress: told about every step.

    Raises:
        BundleError: the request is wrong, or a variant misses its quality threshold.
        MissingExtra: a library that a variant needs is not installed.
    """
    tell = progress or (lambda step, fraction, message: None)
    resolved, chosen = plan(request, cache_dir=cache_dir)
    root = cache.root(cache_dir)
    key = _build_key(request, resolved, chosen)
    if found := _finished(root, key):
        return found
    with _turn(root, tell):
        if found := _finished(root, key):
            return found
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=_folder(root, "work")) as work:
            tell("source", 0.0, f"open {request.source}")
            family = _open(resolved)
            tell("source", 1.0, f"{family.architecture}, {family.reference_size / 1e6:.1f} MB")
            artifacts: dict[str, tuple[Path, Artifact]] = {}
            failed: dict[str, str] = {}
            for recipe in chosen:
                try:
                    made = _artifact(root, resolved, family, recipe, Path(work), tell)
                except Exception as error:
                    # Engines raise anything; one candidate of `auto` must not end the others.
                    if recipe.name in request.variants:
                        raise
                    failed[recipe.name] = _reason(error)
                    tell(recipe.name, 1.0, failed[recipe.name])
                else:
                    artifacts[recipe.name] = made
            chosen = [recipe for recipe in chosen if recipe.name in artifacts]
            candidates = choose(request, family, chosen, artifacts, failed, tell)
            tell("pack", 0.0, "pack and hash")
            result = _pack(
                root, request, resolved, family, chosen, artifacts, candidates, failed, started
            )
        cache.write_atomically(root / "builds" / f"{key}.json", msgspec.json.encode(result.report))
        tell("pack", 1.0, result.manifest.digest)
        return result


def _open(resolved: Resolved) -> Family:
    if resolved.kind == "encoder":
        from sixways_bundle.quantize.encoder import EncoderFamily

        return EncoderFamily(resolved.path)
    if resolved.kind == "llm":
        from sixways_bundle.quantize.llm import LlmFamily

        return LlmFamily(resolved.path)
    from sixways_bundle.quantize.tensor import TensorFamily

    return TensorFamily(resolved.path, resolved.kind)


def _artifact(
    root: Path, resolved: Resolved, family: Family, recipe: Recipe, work: Path, tell: Progress
) -> tuple[Path, Artifact]:
    """The variant's folder in the cache, made and measured now if it is not there."""
    if absent := missing(recipe):
        raise BundleError(f"missing: {', '.join(absent)}; pip install 'sixways[{recipe.extra}]'")
    tools = tools_of(recipe)
    key = cache.key_of(
        source=resolved.source.sha256,
        recipe=recipe.name,
        tools=tools,
        revision=_RECIPE_REVISION,
        # Quality is measured on these texts, and on this processor's instructions.
        data=data_sha256(),
        machine=machine(),
    )
    folder = root / "variants" / key
    note = folder.with_suffix(".json")
    artifact = cache.read_note(note, Artifact)
    # A cache can be damaged like any other folder, and nothing later would notice.
    if artifact is not None and artifact.files == _entries(folder):
        tell(recipe.name, 1.0, "made and measured before")
        return folder, artifact
    partial = Path(tempfile.mkdtemp(dir=_folder(root, "work")))
    try:
        options = family.make(recipe, partial, work, step_report(tell, recipe.name, 0.0, 0.7))
        measured = family.measure(
            recipe, partial, options, work, step_report(tell, recipe.name, 0.7, 1.0)
        )
        if not (math.isfinite(measured.value) and math.isfinite(measured.worst)):
            raise _NotMeasured(
                f"the quality of {recipe.name} could not be measured",
                [Problem(f"quality of {recipe.name}", f"{measured.metric} {measured.value}",
                         "a finite number", "choose another variant")],
            )  # fmt: skip
        artifact = Artifact(
            metric=measured.metric,
            value=round(measured.value, 6),
            worst=round(measured.worst, 6),
            samples=measured.samples,
            worst_sample=measured.worst_sample,
            options=options,
            tools=tools,
            files=_entries(partial),
        )
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    cache.write_atomically(note, msgspec.json.encode(artifact))
    tell(recipe.name, 1.0, f"{artifact.metric} {artifact.value:.4f}")
    return folder, artifact


def _pack(
    root: Path,
    request: Request,
    resolved: Resolved,
    family: Family,
    chosen: Sequence[Recipe],
    artifacts: dict[str, tuple[Path, Artifact]],
    candidates: Sequence[Candidate],
    failed: dict[str, str],
    started: float,
) -> Result:
    """Copies what was chosen into a new folder and gives it its name, the digest, last."""
    partial = Path(tempfile.mkdtemp(dir=_folder(root, "work")))
    try:
        tokenizer = partial / "tokenizer"
        tokenizer.mkdir()
        family.write_tokenizer(tokenizer)
        if not any(tokenizer.iterdir()):
            tokenizer.rmdir()
        variants = []
        for recipe, row in zip(chosen, candidates, strict=True):
            if not row.chosen:
                continue
            made, artifact = artifacts[recipe.name]
            folder = partial / "variants" / recipe.name
            # A copy, not a link: a bundle that is damaged must not damage the cache with it.
            shutil.copytree(made, folder)
            files = tuple(entry_of(partial, path) for path in files_of(folder))
            variants.append(
                Variant(
                    name=recipe.name,
                    engine=recipe.engine,
                    precision=recipe.precision,
                    files=files,
                    size=sum(entry.size for entry in files),
                    reference_size=family.reference_size,
                    quality=row.quality,
                    tools=artifact.tools,
                    options=artifact.options,
                )
            )
        manifest = Manifest(
            schema=SCHEMA,
            name=request.name,
            task=msgspec.convert(family.task, Task),
            architecture=family.architecture,
            source=resolved.source,
            max_tokens=family.max_tokens,
            dimensions=family.dimensions,
            tokenizer=tuple(entry_of(partial, path) for path in files_of(tokenizer)),
            variants=tuple(variants),
            eos_token_ids=family.eos_token_ids,
        )
        (partial / MANIFEST).write_bytes(manifest.to_bytes())
        report = BuildReport(
            bundle_digest=manifest.digest,
            machine=machine(),
            seconds=round(time.monotonic() - started, 2),
            # Linux counts in KiB (getrusage(2)).
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            candidates=tuple(candidates),
            not_made=failed,
        )
        (partial / BUILD_REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        for path in files_of(partial):
            path.chmod(0o444)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        final = cache.bundle_path(root, manifest.digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        if _verified(final, manifest.digest):
            # Another request made the same content. It stays: it may be signed, or be served.
            beside = load_report(final)
            if beside is None or len(beside.candidates) < len(report.candidates):
                cache.write_atomically(final / BUILD_REPORT, (partial / BUILD_REPORT).read_bytes())
        else:
            shutil.rmtree(final, ignore_errors=True)
            _open_folders(partial)
            partial.replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Result(final, manifest, report, cached=False)


def _finished(root: Path, key: str) -> Result | None:
    report = cache.read_note(root / "builds" / f"{key}.json", BuildReport)
    if report is None:
        return None
    path = cache.bundle_path(root, report.bundle_digest)
    manifest = _verified(path, report.bundle_digest)
    if manifest is None:
        return None
    _open_folders(path)
    return Result(path, manifest, report, cached=True)


def _open_folders(bundle: Path) -> None:
    """Lets every user read the bundle: in a container, the server is another than who built it."""
    for folder in (bundle, *(path for path in bundle.rglob("*") if path.is_dir())):
        # Variants were made in temporary folders, which are their maker's alone.
        if folder.stat().st_mode & 0o055 != 0o055:
            with contextlib.suppress(PermissionError):  # another user's cache, who may read it
                folder.chmod(0o755)


def _verified(bundle: Path, digest: str) -> Manifest | None:
    """The manifest; None where the bundle is gone or damaged, so that it is built again."""
    try:
        return verify(bundle, digest=digest)
    except BundleError:
        return None


def _build_key(request: Request, resolved: Resolved, chosen: Sequence[Recipe]) -> str:
    return cache.key_of(
        request=msgspec.to_builtins(request),
        source=resolved.source.sha256,
        recipes={
            recipe.name: [
                {} if missing(recipe) else tools_of(recipe),
                recipe.threshold,
                missing(recipe),
            ]
            for recipe in chosen
        },
        revision=_RECIPE_REVISION,
        data=data_sha256(),
        machine=machine(),
    )


class _NotMeasured(BundleError):
    """A variant was made, but its quality is no number."""


def _reason(error: Exception) -> str:
    if isinstance(error, _NotMeasured):
        return f"could not be measured: {error.problems[0].value}"
    text = error.message if isinstance(error, BundleError) else f"{type(error).__name__}: {error}"
    return f"could not be made: {text.strip().splitlines()[0]}"


def _entries(folder: Path) -> tuple[FileEntry, ...]:
    return tuple(entry_of(folder, path) for path in files_of(folder))


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _turn(root: Path, tell: Progress) -> Iterator[None]:
    """One build at a time on a machine: two would spoil each other's timings, and memory."""
    lock = FileLock(_folder(root, "locks") / "build.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("wait", 0.0, "another build is running on this machine")
        lock.acquire()
    try:
        # What lies here is of a build that was killed: whoever has the turn is alone.
        shutil.rmtree(root / "work", ignore_errors=True)
        yield
    finally:
        lock.release()
