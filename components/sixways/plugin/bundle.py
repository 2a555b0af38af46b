"""`sixways:index:Bundle`: builds a bundle as part of an update."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from sixways.plugin.resource import Call, Changes, Progress, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Manifest, Problem
from sixways_bundle.build import AUTO, Request, Result, find, plan
from sixways_bundle.verify import verify
from sixways_bundle.worker import build_in_child

_INPUTS = ("name", "source", "variants", "qualityThreshold")
_CHECKED = (*_INPUTS, "sourceSha256")
_OUTPUTS = ("digest", "path", "size", "referenceSize", "quality", "builtVariants")


class BundleResource(Resource):
    """A bundle in this machine's cache, identified by its digest.

    Every input is part of what the bundle is, so a changed one makes a new bundle; the old one
    goes only after everything that used it has moved.
    """

    token = "sixways:index:Bundle"  # noqa: S105 - a type token, no secret

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs and adds the digest of the source, so that a preview sees it change."""
        given = {name: value for name, value in inputs.items() if name != "sourceSha256"}
        problems = unexpected(given, _INPUTS)
        checked = {"name": call.name, "variants": [AUTO], **given}
        if "source" not in checked:
            accepted = "package:<name>, file:<path> or hf:<org>/<name>@<revision>"
            problems.append(Problem("source", "", accepted, "say where the model is"))
        if isinstance(checked["variants"], str):
            checked["variants"] = [checked["variants"]]
        wrong = _types(checked)
        problems += wrong
        # A model on a hub is fetched when it is built: a preview downloads nothing.
        remote = str(checked.get("source", "")).startswith("hf:")
        if "source" in checked and not (wrong or remote or is_unknown(checked)):
            try:
                resolved, _ = plan(_request(checked))
                checked["sourceSha256"] = resolved.source.sha256
            except BundleError as error:
                renamed = {"variant": "variants", "quality_threshold": "qualityThreshold"}
                problems += [
                    Problem(renamed.get(p.field, p.field), p.value, p.accepted, p.fix)
                    for p in error.problems
                ] or [Problem("source", str(checked["source"]), error.message)]
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Any changed input makes another bundle."""
        return Changes(replace=[n for n in _CHECKED if state.get(n) != inputs.get(n)])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Builds it, or finds it in the cache; a preview says which of the two it will be."""
        if preview:
            # Finding a model on a hub would download it.
            remote = str(inputs.get("source", "")).startswith("hf:")
            found = None if is_unknown(inputs) or remote else self._cached(inputs)
            if found is None:
                return "", {**inputs, **dict.fromkeys(_OUTPUTS, UNKNOWN)}
            return "", {**inputs, **_outputs(found)}
        progress = Progress(call)
        try:
            result = build_in_child(
                _request(inputs), progress=progress, on_start=lambda child: _watch(child, call)
            )
        except BundleError:
            if call.cancelled.is_set():
                raise BundleError(f"the build of {call.name} was cancelled") from None
            raise
        if not result.cached:
            call.log("info", _summary(result), False)
        return result.manifest.digest, {**inputs, **_outputs(result)}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The same state while every byte verifies; else None, so that it is built again."""
        if "path" not in state:
            raise BundleError("a bundle is built, not imported. Fix: declare it and run pulumi up")
        try:
            verify(Path(state["path"]), digest=resource_id)
        except BundleError as error:
            call.log("warning", f"{error}\nThe next update builds it again.", False)
            return None
        return state

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Never asked for: every change is a replacement."""
        raise BundleError("a bundle is never changed in place")

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Leaves the cache as it is: it is shared, and `make down` names it."""

    @staticmethod
    def _cached(inputs: Values) -> Result | None:
        try:
            return find(_request(inputs))
        except BundleError:
            return None  # the update itself will say it


def _watch(child: subprocess.Popen[bytes], call: Call) -> None:
    """Ends the child when the user interrupts the update."""

    def wait() -> None:
        while child.poll() is None:
            if call.cancelled.wait(0.5):
                child.terminate()
                return

    threading.Thread(target=wait, daemon=True).start()


def _types(inputs: Values) -> list[Problem]:
    problems = [
        Problem(field, repr(inputs[field]), "a text", "correct it")
        for field in ("name", "source")
        if not (is_unknown(inputs.get(field, "")) or isinstance(inputs.get(field, ""), str))
    ]
    names = inputs["variants"]
    if not is_unknown(names) and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        problems.append(Problem("variants", repr(names), "a list of names", "correct it"))
    number = inputs.get("qualityThreshold")
    if not (number is None or is_unknown(number)) and (
        isinstance(number, bool) or not isinstance(number, int | float)
    ):
        accepted = "a number, e.g. 0.995"
        problems.append(Problem("qualityThreshold", repr(number), accepted, "correct it"))
    return problems


def _request(inputs: Values) -> Request:
    threshold = inputs.get("qualityThreshold")
    return Request(
        name=str(inputs["name"]),
        source=str(inputs["source"]),
        variants=tuple(str(name) for name in inputs["variants"]),
        # 1 and 1.0 are the same threshold, and must be the same build.
        quality_threshold=None if threshold is None else float(threshold),
    )


def _outputs(result: Result) -> Values:
    manifest: Manifest = result.manifest
    return {
        "digest": manifest.digest,
        "path": str(result.path),
        "size": sum(variant.size for variant in manifest.variants),
        "referenceSize": manifest.variants[0].reference_size,
        "quality": [
            {
                "variant": variant.name,
                "metric": variant.quality.metric,
                "value": variant.quality.value,
                "worst": variant.quality.worst,
                "threshold": variant.quality.threshold,
                "samples": variant.quality.samples,
            }
            for variant in manifest.variants
        ],
        "builtVariants": [variant.name for variant in manifest.variants],
    }


def _summary(result: Result) -> str:
    chosen = ", ".join(
        f"{v.name}: {v.size / 1e6:.1f} MB ({_compared(v.size, v.reference_size)}), "
        f"{v.quality.metric} {v.quality.value:.4f}"
        for v in result.manifest.variants
    )
    peak = result.report.peak_memory_bytes / 1e9
    return f"built in {result.report.seconds:.0f} s, peak memory {peak:.1f} GB; {chosen}"


def _compared(size: int, reference: int) -> str:
    """A GGUF source may be smaller than what is made of it."""
    if size <= reference:
        return f"{reference / size:.2f}x smaller than its source"
    return f"{size / reference:.2f}x larger than its source"
