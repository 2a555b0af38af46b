"""S3 itself: objects with SHA-256 checksums, sent and received in parts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from sixways_bundle.errors import BundleError, MissingExtra

PART = 32 * 2**20
"""Bytes of one part of a large object: S3 takes 10,000 of them, so a file may have 312 GiB."""

Progress = Callable[[str, float, str], None]
"""Told the step (`verify`, `upload`, `fetch`), the share done from 0 to 1, and a message."""


class Stored(msgspec.Struct, frozen=True):
    """One object: its key, its size in bytes, and its SHA-256 as S3 writes it.

    S3 gives an object of several parts the SHA-256 of its parts' SHA-256. It adds their number
    (`-3`), some other servers do not, so it is left out here.
    """

    key: str
    size: int
    checksum: str


def client(region: str | None = None, profile: str | None = None) -> Any:
    """boto3's client of S3, with the credentials that boto3 finds.

    Args:
        region: default: AWS_REGION, else what boto3 finds.
        profile: of the AWS configuration files; default: AWS_PROFILE, else the default chain.

    Raises:
        MissingExtra: boto3 is not installed.
        BundleError: there is no such profile.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise MissingExtra("a bundle in S3", "s3") from None
    # A bucket of a server that is not AWS has no host name of its own.
    own = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    config = Config(
        s3={"addressing_style": "path"} if own else None,
        retries={"mode": "standard", "max_attempts": 5},
    )
    with explained("S3 cannot be used"):
        session = boto3.Session(
            region_name=region or os.environ.get("AWS_REGION") or None, profile_name=profile
        )
        return session.client("s3", config=config)


def first_difference(
    client: Any, bucket: str, objects: Iterable[Stored], kms_key_arn: str | None = None
) -> str | None:
    """What is first found missing or changed among objects of a bucket; None: all is as it was.

    Raises:
        BundleError: S3 refuses.
    """
    with explained(f"s3://{bucket} cannot be read"):
        for stored in objects:
            if why := differs(client, bucket, stored, kms_key_arn):
                return f"s3://{bucket}/{stored.key} {why}"
    return None


def remove(client: Any, bucket: str, prefix: str) -> int:
    """Deletes every version below a prefix, and ends the uploads that are not finished there.

    Args:
        client: see `client()`.
        bucket: the bucket's name; a bucket that is gone is no error.
        prefix: key prefix with a slash at its end.

    Returns:
        How many versions and delete markers there were.

    Raises:
        BundleError: S3 refuses to delete one of them.
        ValueError: the prefix would cover more than one folder.
    """
    if not prefix.endswith("/") or prefix == "/":
        raise ValueError(f"{prefix!r} is no folder")
    removed = 0
    with explained(f"s3://{bucket}/{prefix} cannot be removed"):
        try:
            for page in client.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                for started in page.get("Uploads", ()):
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=started["Key"], UploadId=started["UploadId"]
                    )
            for page in client.get_paginator("list_object_versions").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                found = [
                    {"Key": item["Key"], "VersionId": item["VersionId"]}
                    for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                ]
                if not found:
                    continue
                answer = client.delete_objects(
                    Bucket=bucket, Delete={"Objects": found, "Quiet": True}
                )
                if errors := answer.get("Errors"):
                    first = errors[0]
                    raise BundleError(
                        f"s3://{bucket}/{first['Key']} cannot be deleted: {first['Message']}"
                    )
                removed += len(found)
        except client.exceptions.NoSuchBucket:
            return removed
    return removed


class Checksum:
    """SHA-256 of a file as S3 computes it, and of the file as a whole."""

    def __init__(self) -> None:
        self.size = 0
        self.whole = hashlib.sha256()
        self._part = hashlib.sha256()
        self._room = PART
        self._parts: list[bytes] = []

    def update(self, data: bytes) -> None:
        """Adds what comes next."""
        self.size += len(data)
        self.whole.update(data)
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: self._room], rest[self._room :]
            self._part.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._end_part()

    def value(self) -> str:
        """What S3 will say of all that was added, sent in parts of PART bytes."""
        if self.size < PART:
            return base64_of(self.whole.digest())
        if self._room < PART:
            self._end_part()
        of_parts = hashlib.sha256(b"".join(self._parts)).digest()
        return base64_of(of_parts)

    def _end_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part, self._room = hashlib.sha256(), PART


class Meter:
    """Adds up bytes of several transfers; s3transfer calls `on_progress` in its threads."""

    def __init__(self, step: str, total: int, tell: Progress) -> None:
        self._step, self._total, self._tell = step, total, tell
        self._done = 0
        self._lock = threading.Lock()

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        """Adds bytes, less than none where a part is sent again."""
        with self._lock:
            self._done += bytes_transferred
            share = min(self._done / max(self._total, 1), 1.0)
            self._tell(self._step, share, megabytes(self._total))


def differs(client: Any, bucket: str, wanted: Stored, kms_key_arn: str | None) -> str | None:
    """How the object in the bucket differs from the one wanted."""
    found = head(client, bucket, wanted.key)
    if found is None:
        return "is missing"
    if found["ContentLength"] != wanted.size:
        return f"has {found['ContentLength']} bytes instead of {wanted.size}"
    checksum = found.get("ChecksumSHA256", "").partition("-")[0]
    if checksum != wanted.checksum:
        return f"has the SHA-256 {checksum or '(none)'} instead of {wanted.checksum}"
    if kms_key_arn and found.get("SSEKMSKeyId") != kms_key_arn:
        return f"is encrypted with {found.get('SSEKMSKeyId')} instead of {kms_key_arn}"
    return None


def head(client: Any, bucket: str, key: str) -> Mapping[str, Any] | None:
    """What S3 tells of an object; None where there is none."""
    from botocore.exceptions import ClientError

    try:
        found: Mapping[str, Any] = client.head_object(
            Bucket=bucket, Key=key, ChecksumMode="ENABLED"
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket"):
            return None
        raise
    return found


def sizes_below(client: Any, bucket: str, prefix: str) -> dict[str, int]:
    """The bytes of each object below a prefix, by the rest of its key."""
    return {
        item["Key"].removeprefix(prefix): item["Size"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", ())
    }


def transfer_manager(client: Any) -> Any:
    """s3transfer's manager, which ends all transfers when its block raises."""
    from s3transfer.manager import TransferConfig, TransferManager

    config = TransferConfig(
        multipart_threshold=PART,
        multipart_chunksize=PART,
        max_request_concurrency=8,
        max_in_memory_upload_chunks=4,  # an archive is never on the disk: its parts are in memory
    )
    return TransferManager(client, config)


def send(
    client: Any,
    bucket: str,
    items: Iterable[tuple[Any, str]],
    extra: Mapping[str, Any],
    meter: Meter,
    cancelled: threading.Event | None,
) -> None:
    """Uploads files (a path, or something to read from) to their keys, several at a time."""
    with transfer_manager(client) as transfers:
        finish(
            [transfers.upload(source, bucket, key, dict(extra), [meter]) for source, key in items],
            cancelled,
        )


def finish(futures: Iterable[Any], cancelled: threading.Event | None) -> None:
    """Waits for transfers; the manager ends those that are left when one fails."""
    for future in futures:
        while cancelled is not None and not future.done():
            if cancelled.wait(0.05):
                raise BundleError("the transfer was cancelled")
        future.result()


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of the AWS SDK as one sentence with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import RetriesExceededError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        fix = _FIXES.get(code, "")
        raise BundleError(f"{what}: {error}{fix and f'. Fix: {fix}'}") from None
    except (BotoCoreError, RetriesExceededError) as error:
        raise BundleError(
            f"{what}: {error}. Fix: check the credentials of AWS, the profile, the region and "
            "the network"
        ) from None
    except OSError as error:
        raise BundleError(f"{what}: {error}") from None


_DENIED = "grant the identity the actions that docs/ways/cloud.md lists for bundles"
_GONE = "create the bucket, or correct its name"
_FIXES = {
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "NoSuchBucket": _GONE,
    "404": _GONE,
    "ExpiredToken": "sign in to AWS again",
}


def base64_of(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:.1f} MB"
