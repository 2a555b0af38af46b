"""Bundles in S3: uploaded so that a cut can be resumed, fetched so that every byte is verified.

A bundle lies under `[PREFIX/]bundles/NAME/HEX/`, HEX being its digest, and its manifest is written
last: a bundle without one is not there yet. An archive of it lies apart, under
`[PREFIX/]archives/NAME/HEX/model.tar.gz`: SageMaker brings everything under a prefix to the
server, and a bundle with a file that its manifest does not list does not verify.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sixways_bundle import archive as tar
from sixways_bundle import s3
from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import MANIFEST, FileEntry, Manifest
from sixways_bundle.s3 import Progress, Stored
from sixways_bundle.verify import BUILD_REPORT, SIGNATURE, verify

ARCHIVE = "model.tar.gz"
_READ = 2**20
_URI = re.compile(r"s3://([^/]+)/((?:.+/)?)([^/]+)/([0-9a-f]{64})/?")


class Uploaded(msgspec.Struct, frozen=True):
    """What is in the bucket: addresses, the manifest, every object; `sent` had to be sent."""

    uri: str
    archive_uri: str
    manifest: Manifest
    objects: tuple[Stored, ...]
    sent: tuple[str, ...]


class _Item(msgspec.Struct, frozen=True):
    stored: Stored
    name: str
    open: Callable[[], Any]


def folder_of(prefix: str, name: str, digest: str, *, archive: bool = False) -> str:
    """The key prefix, with a slash at its end, below which a bundle (or its archive) lies."""
    place = "archives" if archive else "bundles"
    parts = [prefix.strip("/"), place, name, digest.removeprefix("sha256:"), ""]
    return "/".join(parts[1:] if not parts[0] else parts)


def upload(
    bundle: Path,
    bucket: str,
    prefix: str = "",
    *,
    client: Any,
    name: str | None = None,
    kms_key_arn: str | None = None,
    archive: bool = False,
    progress: Progress | None = None,
    cancelled: threading.Event | None = None,
) -> Uploaded:
    """Verifies a bundle and brings what is missing of it into a bucket; the manifest comes last.

    What is there with the same size, checksum and key is not sent again.

    Args:
        bundle: the bundle's folder.
        bucket: the bucket's name.
        prefix: key prefix above `bundles/`.
        client: see `s3.client`.
        name: default: the bundle's own.
        kms_key_arn: encrypts every object; default: what the bucket does by default.
        archive: whether a `model.tar.gz` of it is stored too.
        progress: told how far it is.
        cancelled: ends the work when it is set.

    Raises:
        BundleError: the bundle does not verify, S3 refuses, a file changed meanwhile, or the work
            was cancelled.
    """
    tell = progress or _nobody
    manifest = verify(bundle, progress=_verifying(tell))
    name = name or manifest.name
    folder = folder_of(prefix, name, manifest.digest)
    packed = folder_of(prefix, name, manifest.digest, archive=True)
    *items, last = _items(bundle, manifest, folder)
    if archive:
        items.append(_archive_item(bundle, [item.name for item in (*items, last)], packed))
    extra: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"}
    if kms_key_arn:
        extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_arn}
    with s3.explained(f"{bundle} cannot be uploaded to s3://{bucket}/{folder}"):
        lacking = [i for i in (*items, last) if s3.differs(client, bucket, i.stored, kms_key_arn)]
        meter = s3.Meter("upload", sum(item.stored.size for item in lacking), tell)
        for group in ([item for item in lacking if item is not last], [last]):
            sending = [item for item in group if item in lacking]
            sources = [(item.open(), item.stored.key) for item in sending]
            s3.send(client, bucket, sources, extra, meter, cancelled)
            for item in sending:
                if why := s3.differs(client, bucket, item.stored, kms_key_arn):
                    raise BundleError(
                        f"{item.name} is not in S3 as it should be: it {why}. Fix: upload it "
                        "again; nothing may write to the bundle or the bucket meanwhile"
                    )
    return Uploaded(
        uri=f"s3://{bucket}/{folder}",
        archive_uri=f"s3://{bucket}/{packed}{ARCHIVE}" if archive else "",
        manifest=manifest,
        objects=tuple(item.stored for item in (*items, last)),
        sent=tuple(item.name for item in lacking),
    )


def parse_uri(uri: str) -> tuple[str, str, str]:
    """Bucket, key prefix with a slash at its end, and digest of `s3://BUCKET/…/NAME/HEX/`.

    Raises:
        BundleError: it is no such address.
    """
    found = _URI.fullmatch(uri)
    if not found:
        raise BundleError(
            "the address is not that of a bundle",
            [Problem("uri", uri, "s3://BUCKET/bundles/NAME/HEX/ with 64 hexadecimal digits",
                     "take it from sixways bundle push or BundleStore.uris")],
        )  # fmt: skip
    bucket, above, name, digest = found.groups()
    return bucket, f"{above}{name}/{digest}/", f"sha256:{digest}"


def fetch(
    uri: str,
    digest: str | None,
    into: Path,
    *,
    client: Any,
    progress: Progress | None = None,
    cancelled: threading.Event | None = None,
) -> Manifest:
    """Brings a bundle to this machine; what appears at `into` is whole and verified, or nothing.

    Args:
        uri: `s3://BUCKET/bundles/NAME/HEX/`.
        digest: what it must be (`sha256:…`); None takes it from the address.
        into: the bundle's folder to be. That bundle there is no work, another one is replaced.
        client: see `s3.client`.
        progress: told how far it is.
        cancelled: ends the work when it is set.

    Raises:
        BundleError: it is not there or not whole, a byte differs (the file is named), `into`
            holds something else, S3 refuses, or the work was cancelled.
    """
    tell = progress or _nobody
    into = into.absolute()
    bucket, folder, named = parse_uri(uri)
    if digest not in (None, named):
        raise BundleError(
            "the address is that of another bundle",
            [Problem("digest", str(digest), named, "correct one of the two")],
        )
    with contextlib.suppress(BundleError):
        return verify(into, digest=named, progress=_verifying(tell))
    _require_place(into)
    with s3.explained(f"{uri} cannot be fetched"), _folder_beside(into) as partial:
        try:
            _receive(client, bucket, folder, partial, uri, tell, cancelled)
            manifest = verify(partial, digest=named, progress=_verifying(tell))
        except BundleError as error:
            where = uri.rstrip("/")
            raise BundleError(error.message.replace(str(partial), where), error.problems) from None
        _put_in_place(partial, into)
    return manifest


def _items(bundle: Path, manifest: Manifest, folder: str) -> Iterator[_Item]:
    """Every file of the bundle as an object, the manifest last."""
    for entry in manifest.files:
        yield _item(bundle, entry.path, folder, entry)
    for beside in (SIGNATURE, BUILD_REPORT):
        if (bundle / beside).is_file():
            yield _item(bundle, beside, folder)
    yield _item(bundle, MANIFEST, folder)


def _item(bundle: Path, name: str, folder: str, entry: FileEntry | None = None) -> _Item:
    path = bundle / name
    if entry is not None and entry.size < s3.PART:
        size, checksum = entry.size, s3.base64_of(bytes.fromhex(entry.sha256))
    else:
        made = s3.Checksum()
        with path.open("rb") as file:
            while data := file.read(_READ):
                made.update(data)
        if entry is not None and made.whole.hexdigest() != entry.sha256:
            raise BundleError(f"{path} was changed while it was read")
        size, checksum = made.size, made.value()
    return _Item(Stored(folder + name, size, checksum), name, lambda: str(path))


def _archive_item(bundle: Path, names: list[str], folder: str) -> _Item:
    # Made twice, once for its checksum: it never takes room on the disk.
    made = s3.Checksum()
    for piece in tar.stream(bundle, names):
        made.update(piece)
    stored = Stored(folder + ARCHIVE, made.size, made.value())
    return _Item(stored, ARCHIVE, lambda: tar.Reader(tar.stream(bundle, names)))


def _receive(
    client: Any,
    bucket: str,
    folder: str,
    into: Path,
    uri: str,
    tell: Progress,
    cancelled: threading.Event | None,
) -> None:
    # Asking for each would need the right to list the whole bucket, for those that need not be.
    there = s3.sizes_below(client, bucket, folder)
    if MANIFEST not in there:
        raise BundleError(
            f"{uri} holds no bundle, or one that is not wholly uploaded",
            [Problem(MANIFEST, "", "the manifest, which an upload writes last",
                     "upload it: sixways bundle push")],
        )  # fmt: skip
    client.download_file(bucket, folder + MANIFEST, str(into / MANIFEST))
    manifest = Manifest.load(into)  # also keeps its paths below this folder
    if not folder.endswith(f"/{manifest.digest.removeprefix('sha256:')}/"):
        raise BundleError(
            f"{uri}: {MANIFEST} is that of another bundle",
            [Problem("digest", manifest.digest, "the digest in the address",
                     "do not use it; upload the bundle again: sixways bundle push")],
        )  # fmt: skip
    sizes = {entry.path: entry.size for entry in manifest.files}
    for name, size in sizes.items():
        if there.get(name) != size:
            have = f"{there[name]} bytes" if name in there else ""
            raise BundleError(
                f"{uri}: {name} is not what the manifest says",
                [Problem("size", have, f"{size} bytes",
                         "upload the bundle again: sixways bundle push")],
            )  # fmt: skip
    sizes |= {name: there[name] for name in (SIGNATURE, BUILD_REPORT) if name in there}
    meter = s3.Meter("fetch", sum(sizes.values()), tell)
    for name in sizes:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
    with s3.transfer_manager(client) as transfers:
        s3.finish(
            [
                transfers.download(bucket, folder + name, str(into / name), None, [meter])
                for name in sizes
            ],
            cancelled,
        )


def _require_place(into: Path) -> None:
    if into.is_mount():
        raise BundleError(
            "a bundle appears in one step, and a mounted folder cannot be put in place",
            [Problem("into", str(into), "a folder below the mount", f"use {into / 'bundle'}")],
        )
    other = into.exists() and not (into / MANIFEST).is_file()
    if other and (not into.is_dir() or any(into.iterdir())):
        raise BundleError(
            "there is something else already",
            [Problem("into", str(into), "a folder that is empty, missing or holds a bundle",
                     "name another, or move what is there")],
        )  # fmt: skip


@contextlib.contextmanager
def _folder_beside(into: Path) -> Iterator[Path]:
    """A folder on the same file system, for the block."""
    into.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    folder.chmod(0o755)  # a server of another user reads what it becomes
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(partial: Path, into: Path) -> None:
    try:
        partial.rename(into)  # also onto an empty folder
    except OSError:
        if not (into / MANIFEST).is_file():
            raise
        with _folder_beside(into) as old:
            into.rename(old)
            partial.rename(into)


def _verifying(tell: Progress) -> Callable[[int, int], None]:
    return lambda done, total: tell("verify", done / max(total, 1), s3.megabytes(total))


def _nobody(step: str, share: float, message: str) -> None:
    """Whom progress is told where nobody asked."""
