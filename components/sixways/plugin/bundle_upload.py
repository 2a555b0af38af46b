"""`sixways:cloud:BundleUpload`: a bundle in an S3 bucket, under its digest."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sixways.checks import DIGEST, MODEL_NAME
from sixways.plugin.resource import (
    Call,
    Changes,
    PartlyMade,
    Progress,
    Resource,
    Values,
    unexpected,
)
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Manifest, Problem, s3, store
from sixways_bundle.verify import SIGNATURE

_INPUTS = (
    "bucket", "prefix", "name", "path", "digest", "kmsKeyArn", "archive", "region", "profile",
)  # fmt: skip
_OUTPUTS = ("uri", "archiveUri", "size", "variants", "objects")
_IDENTITY = ("bucket", "prefix", "name", "digest")
_CONTENT = ("archive", "kmsKeyArn", "signatureSha256")
_TEXTS = {
    "bucket": (re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"), "the name of a bucket"),
    "prefix": (re.compile(r"[^/]?|[^/].*[^/]"), "a key prefix, e.g. teams/shop"),
    "name": (MODEL_NAME, "letters, digits, '.', '_' and '-'"),
    "path": (re.compile(r".+"), "a bundle's folder (Bundle.path)"),
    "digest": (DIGEST, "sha256: and 64 digits (Bundle.digest)"),
    "kmsKeyArn": (re.compile(r"arn:[a-z-]+:kms:[^:]+:\d{12}:key/.+"), "the ARN of a KMS key"),
    "region": (re.compile(r"[a-z0-9-]+"), "a region, e.g. eu-central-1"),
    "profile": (re.compile(r".+"), "a profile of the AWS configuration files"),
}
_REQUIRED = ("bucket", "name", "path", "digest")


class BundleUploadResource(Resource):
    """Objects of one bundle; its id is its address.

    Another digest, name or bucket is another place, so a replacement stands beside the old one
    until everything has moved. The folder it is uploaded from is no part of what it is.
    """

    token = "sixways:cloud:BundleUpload"  # noqa: S105 - a type token, no secret

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; a signature beside the bundle is part of them once it is there."""
        given = {name: value for name, value in inputs.items() if name != "signatureSha256"}
        problems = unexpected(given, _INPUTS)
        checked = {"prefix": "", "archive": False, **given}
        if isinstance(checked["prefix"], str):
            checked["prefix"] = checked["prefix"].strip("/")
        for field, (pattern, accepted) in _TEXTS.items():
            value = checked.get(field, "")
            if value is UNKNOWN or (field not in checked and field not in _REQUIRED):
                continue
            if not (isinstance(value, str) and pattern.fullmatch(value)):
                problems.append(Problem(field, str(value), accepted, "correct it"))
        if checked["archive"] not in (True, False, UNKNOWN):
            problems.append(Problem("archive", str(checked["archive"]), "true or false"))
        if not problems and not is_unknown(checked["path"]):
            signature = Path(checked["path"]) / SIGNATURE
            if signature.is_file():
                checked["signatureSha256"] = hashlib.sha256(signature.read_bytes()).hexdigest()
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another place is a replacement; encryption, archive and signature change in place."""
        changed = [name for name in _CONTENT if state.get(name) != inputs.get(name)]
        # The machine that runs this may not have the bundle, and need not while nothing changes.
        if "signatureSha256" not in inputs:
            changed = [name for name in changed if name != "signatureSha256"]
        changed += [n for n in ("region", "profile") if state.get(n) != inputs.get(n)]
        return Changes(changed, [n for n in _IDENTITY if state.get(n) != inputs.get(n)])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Uploads what is missing; what a broken upload left behind is not sent again."""
        if preview:
            return "", {**inputs, **_foreseen(inputs)}
        uri = f"s3://{inputs['bucket']}/{_folder(inputs)}"
        try:
            return uri, {**inputs, **_upload(call, inputs)}
        except BundleError as error:
            raise PartlyMade(error, uri, {**inputs, "objects": []}) from None

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The same state while every object is there as it was sent; else None."""
        if "objects" not in state:
            raise BundleError(
                "an upload cannot be imported. Fix: declare it and run pulumi up, which sends only "
                "what is missing"
            )
        objects = msgspec.convert(state["objects"], list[s3.Stored])
        if not objects:  # its upload was cut
            return None
        with _client(state) as client:
            why = s3.first_difference(client, state["bucket"], objects, state.get("kmsKeyArn"))
        if why is not None:
            call.log("warning", f"{why}; the next update uploads it again.", False)
            return None
        return state

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Brings the objects to the new key, and the archive and the signature along."""
        names = [n for n in _CONTENT if n in inputs or n != "signatureSha256"]
        if state["objects"] and all(state.get(name) == inputs.get(name) for name in names):
            return {**{n: state[n] for n in (*_OUTPUTS, "signatureSha256") if n in state}, **inputs}
        if preview:
            return {**inputs, **_foreseen(inputs)}
        outputs = _upload(call, inputs)
        if state["archive"] and not inputs["archive"]:
            with _client(inputs) as client:
                s3.remove(client, inputs["bucket"], _folder(inputs, archive=True))
        return {**inputs, **outputs}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Removes every version of every object; a bucket that is gone is success."""
        with _client(state) as client:
            for archive in (False, True):
                call.status("remove every version")
                s3.remove(client, state["bucket"], _folder(state, archive=archive))


def _upload(call: Call, inputs: Values) -> Values:
    path = Path(inputs["path"])
    _require(path, inputs["digest"])
    with _client(inputs) as client:
        done = store.upload(
            path,
            inputs["bucket"],
            inputs["prefix"],
            client=client,
            name=inputs["name"],
            kms_key_arn=inputs.get("kmsKeyArn"),
            archive=inputs["archive"],
            progress=Progress(call),
            cancelled=call.cancelled,
        )
    call.status(f"{len(done.sent)} of {len(done.objects)} files were sent")
    return {
        "uri": done.uri,
        "archiveUri": done.archive_uri,
        "objects": msgspec.to_builtins(done.objects),
        **_described(done.manifest),
    }


def _foreseen(inputs: Values) -> Values:
    """What a preview can tell; a bundle that is not there fails it."""
    outputs: Values = dict.fromkeys(_OUTPUTS, UNKNOWN)
    if not is_unknown([inputs[name] for name in _IDENTITY]):
        bucket = inputs["bucket"]
        outputs["uri"] = f"s3://{bucket}/{_folder(inputs)}"
        if not is_unknown(inputs["archive"]):
            packed = f"s3://{bucket}/{_folder(inputs, archive=True)}{store.ARCHIVE}"
            outputs["archiveUri"] = packed if inputs["archive"] else ""
    if not is_unknown([inputs["path"], inputs["digest"]]):
        outputs |= _described(_require(Path(inputs["path"]), inputs["digest"]))
    return outputs


def _require(path: Path, digest: str) -> Manifest:
    """The manifest of the bundle at `path`, which must be the one that is meant."""
    manifest = Manifest.load(path)
    if manifest.digest != digest:
        raise BundleError(
            f"{path} is another bundle",
            [Problem("digest", digest, f"{manifest.digest}, which is what lies there",
                     "take path and digest from the same bundle")],
        )  # fmt: skip
    return manifest


def _described(manifest: Manifest) -> Values:
    return {
        "size": sum(variant.size for variant in manifest.variants),
        "variants": [
            {"name": v.name, "engine": v.engine, "precision": v.precision, "size": v.size}
            for v in manifest.variants
        ],
    }


def _folder(values: Values, *, archive: bool = False) -> str:
    return store.folder_of(values["prefix"], values["name"], values["digest"], archive=archive)


@contextlib.contextmanager
def _client(values: Values) -> Iterator[Any]:
    with contextlib.closing(s3.client(values.get("region"), values.get("profile"))) as client:
        yield client
