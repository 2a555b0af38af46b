"""A bundle in S3: resumed after a cut, verified when it is fetched, gone without a trace."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto import mock_aws
from moto.server import ThreadedMotoServer

from sixways_bundle import BundleError, archive, s3, store
from sixways_bundle.build import Result
from sixways_bundle.verify import entry_of, verify
from tests.unit.bundle.conftest import Builder
from tests.unit.bundle.fake import GOOD

KEY = "arn:aws:kms:us-east-1:123456789012:key/1b4c0d9e-0000-4000-8000-000000000000"
BUCKET = "models"
MODEL = "variants/openvino-int8/model.bin"
BIG = 12 * 2**20
SMALL_PART = 5 * 2**20


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws(), contextlib.closing(s3.client("us-east-1")) as own:
        own.create_bucket(Bucket=BUCKET)
        own.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield own


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that a test's file has several; S3 takes none that are smaller."""
    monkeypatch.setattr(s3, "PART", SMALL_PART)


def keys(client: Any) -> set[str]:
    return {item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())}


def folder(bundle: Result, prefix: str = "") -> str:
    return store.folder_of(prefix, "mini", bundle.manifest.digest)


def uri(bundle: Result) -> str:
    return f"s3://{BUCKET}/{folder(bundle)}"


def fetch(client: Any, bundle: Result, into: Path) -> None:
    assert store.fetch(uri(bundle), None, into, client=client) == bundle.manifest


def spoil(client: Any, key: str) -> None:
    body = bytearray(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    body[-1] ^= 1
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes(body))


def test_a_bundle_that_was_uploaded_can_be_fetched(
    client: Any, bundle: Result, tmp_path: Path
) -> None:
    done = store.upload(bundle.path, BUCKET, client=client, kms_key_arn=KEY)
    hex_digest = bundle.manifest.digest.removeprefix("sha256:")
    assert done.uri == f"s3://{BUCKET}/bundles/mini/{hex_digest}/"
    assert done.archive_uri == ""
    into = tmp_path / "here/mini"
    assert store.fetch(done.uri, bundle.manifest.digest, into, client=client) == bundle.manifest
    assert verify(into) == bundle.manifest
    # The report beside the manifest tells the server which variant is quickest.
    assert (into / "build.json").read_bytes() == (bundle.path / "build.json").read_bytes()
    assert into.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in into.parent.iterdir()] == ["mini"]


def test_every_object_is_encrypted_with_the_key_and_has_its_sha256(
    client: Any, bundle: Result
) -> None:
    done = store.upload(bundle.path, BUCKET, "shop", client=client, kms_key_arn=KEY, archive=True)
    assert len(done.objects) == 5
    for stored in done.objects:
        assert stored.key.startswith(("shop/bundles/mini/", "shop/archives/mini/"))
        head = client.head_object(Bucket=BUCKET, Key=stored.key, ChecksumMode="ENABLED")
        body = client.get_object(Bucket=BUCKET, Key=stored.key)["Body"].read()
        assert head["SSEKMSKeyId"] == KEY
        assert head["ServerSideEncryption"] == "aws:kms"
        assert head["ChecksumSHA256"] == s3.base64_of(hashlib.sha256(body).digest())


def test_what_is_there_is_not_sent_again(client: Any, bundle: Result) -> None:
    first = store.upload(bundle.path, BUCKET, client=client, archive=True)
    assert len(first.sent) == 5
    assert store.upload(bundle.path, BUCKET, client=client, archive=True).sent == ()
    client.delete_object(Bucket=BUCKET, Key=folder(bundle) + MODEL)
    spoil(client, folder(bundle) + "tokenizer/tokenizer.json")
    again = store.upload(bundle.path, BUCKET, client=client, archive=True)
    assert sorted(again.sent) == ["tokenizer/tokenizer.json", MODEL]
    assert again.objects == first.objects


def test_another_key_encrypts_everything_anew(client: Any, bundle: Result) -> None:
    store.upload(bundle.path, BUCKET, client=client, kms_key_arn=KEY)
    other = KEY.replace("1b4c", "2b4c")
    assert len(store.upload(bundle.path, BUCKET, client=client, kms_key_arn=other).sent) == 4


def test_the_manifest_is_written_last(client: Any, bundle: Result) -> None:
    written: list[str] = []
    client.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: written.append(params["url_path"])
    )
    store.upload(bundle.path, BUCKET, client=client, archive=True)
    assert len(written) == 5
    assert written[-1].endswith("/bundle.json")


def test_a_large_file_goes_in_parts_and_is_found_again(
    client: Any, bundle: Result, tmp_path: Path, parts: None
) -> None:
    large = grow(bundle, tmp_path)
    done = store.upload(large, BUCKET, client=client, kms_key_arn=KEY, archive=True)
    etags = {
        Path(item["Key"]).name: item["ETag"]
        for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]
    }
    assert etags["model.bin"].endswith('-3"')
    assert etags["model.tar.gz"].endswith('-3"')
    assert store.upload(large, BUCKET, client=client, kms_key_arn=KEY, archive=True).sent == ()
    assert store.fetch(done.uri, None, tmp_path / "into", client=client) == done.manifest
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    address = done.archive_uri.removeprefix(f"s3://{BUCKET}/")
    packed = client.get_object(Bucket=BUCKET, Key=address)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        # Python 3.11.0 to 3.11.3 know no filters.
        known = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(tmp_path / "unpacked", **known)  # noqa: S202 - our own archive
    assert verify(tmp_path / "unpacked") == done.manifest


def test_the_checksum_of_parts_is_that_of_their_checksums(parts: None) -> None:
    made = s3.Checksum()
    made.update(bytes(SMALL_PART // 2))
    made.update(bytes(SMALL_PART + SMALL_PART // 2))
    part = hashlib.sha256(bytes(SMALL_PART)).digest()
    assert made.value() == s3.base64_of(hashlib.sha256(part + part).digest())
    assert made.whole.digest() == hashlib.sha256(bytes(2 * SMALL_PART)).digest()


def test_a_change_while_it_is_sent_leaves_no_manifest(
    client: Any, bundle: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle.path / "build.json"
    real = s3.send

    def changed(client: Any, bucket: str, sources: Any, *rest: Any) -> None:
        sources = list(sources)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b" ")
        real(client, bucket, sources, *rest)

    monkeypatch.setattr(s3, "send", changed)
    with pytest.raises(BundleError, match=r"build\.json is not in S3 as it should be"):
        store.upload(bundle.path, BUCKET, client=client)
    assert folder(bundle) + "bundle.json" not in keys(client)


def test_a_damaged_bundle_is_not_uploaded(client: Any, bundle: Result) -> None:
    path = bundle.path / MODEL
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(BundleError, match=r"model\.bin differs"):
        store.upload(bundle.path, BUCKET, client=client)
    assert keys(client) == set()


def test_a_cancelled_upload_is_no_bundle(client: Any, bundle: Result, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(BundleError, match="cancelled"):
        store.upload(bundle.path, BUCKET, client=client, cancelled=cancelled)
    with pytest.raises(BundleError, match="not wholly uploaded"):
        store.fetch(uri(bundle), None, tmp_path / "into", client=client)
    assert not (tmp_path / "into").exists()


def test_a_reader_needs_only_to_list_its_folder_and_to_get_objects(
    client: Any, bundle: Result, tmp_path: Path
) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    asked: list[tuple[str, str]] = []

    def note(model: Any, params: Any, **_: Any) -> None:
        asked.append((model.name, params["query_string"].get("prefix", params["url_path"])))

    client.meta.events.register("before-call.s3", note)
    fetch(client, bundle, tmp_path / "into")
    names = [*(entry.path for entry in bundle.manifest.files), "bundle.json", "build.json"]
    # GetObject and HeadObject are both s3:GetObject; no key is asked for that is not there.
    for name, where in asked:
        if name == "ListObjectsV2":
            assert where == folder(bundle)
        else:
            assert name in ("GetObject", "HeadObject")
            assert where.removeprefix("/").removeprefix(folder(bundle)) in names


def test_progress_ends_with_all(client: Any, bundle: Result, tmp_path: Path) -> None:
    seen: dict[str, float] = {}

    def note(step: str, share: float, message: str) -> None:
        assert share >= seen.get(step, 0)
        seen[step] = share

    store.upload(bundle.path, BUCKET, client=client, progress=note)
    assert seen == {"verify": 1.0, "upload": 1.0}
    seen.clear()
    store.fetch(uri(bundle), None, tmp_path / "into", client=client, progress=note)
    assert seen == {"fetch": 1.0, "verify": 1.0}


@pytest.mark.parametrize("name", [MODEL, "tokenizer/tokenizer.json"])
def test_a_changed_byte_is_refused_and_named(
    client: Any, bundle: Result, tmp_path: Path, name: str
) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    spoil(client, folder(bundle) + name)
    with pytest.raises(BundleError, match=f"^{uri(bundle)}{name} differs|: {name} differs") as told:
        store.fetch(uri(bundle), None, tmp_path / "into/mini", client=client)
    assert str(tmp_path) not in str(told.value)
    assert list((tmp_path / "into").iterdir()) == []


def test_a_changed_manifest_is_refused_before_anything_is_fetched(
    client: Any, bundle: Result, builder: Builder, tmp_path: Path
) -> None:
    other = builder(name="other", variants=(GOOD.name,))
    store.upload(bundle.path, BUCKET, client=client)
    client.put_object(
        Bucket=BUCKET,
        Key=folder(bundle) + "bundle.json",
        Body=(other.path / "bundle.json").read_bytes(),
    )
    with pytest.raises(BundleError, match=r"bundle\.json is that of another bundle"):
        store.fetch(uri(bundle), None, tmp_path / "into", client=client)


def test_a_longer_file_is_refused_before_it_is_fetched(
    client: Any, bundle: Result, tmp_path: Path
) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    client.put_object(Bucket=BUCKET, Key=folder(bundle) + MODEL, Body=bytes(10**6))
    with pytest.raises(BundleError, match=r"model\.bin is not what the manifest says"):
        store.fetch(uri(bundle), None, tmp_path / "into", client=client)
    client.delete_object(Bucket=BUCKET, Key=folder(bundle) + MODEL)
    with pytest.raises(BundleError, match="size: is missing"):
        store.fetch(uri(bundle), None, tmp_path / "into", client=client)


def test_a_bundle_that_is_here_is_no_work(client: Any, bundle: Result, tmp_path: Path) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    store.fetch(uri(bundle), None, tmp_path / "into", client=client)
    s3.remove(client, BUCKET, folder(bundle))
    fetch(client, bundle, tmp_path / "into")


def test_a_damaged_or_other_bundle_is_replaced(
    client: Any, bundle: Result, builder: Builder, tmp_path: Path
) -> None:
    into = tmp_path / "into/mini"
    other = builder(name="other", variants=(GOOD.name,))
    done = store.upload(other.path, BUCKET, client=client)
    store.upload(bundle.path, BUCKET, client=client)
    store.fetch(done.uri, None, into, client=client)
    fetch(client, bundle, into)
    (into / MODEL).chmod(0o644)
    (into / MODEL).write_bytes(b"x")
    fetch(client, bundle, into)
    assert verify(into) == bundle.manifest
    assert [path.name for path in into.parent.iterdir()] == ["mini"]


def test_what_is_no_bundle_is_never_overwritten(
    client: Any, bundle: Result, tmp_path: Path
) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    into = tmp_path / "into"
    into.mkdir()
    fetch(client, bundle, into)  # empty is as good as missing
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="something else already"):
        store.fetch(uri(bundle), None, other, client=client)
    with pytest.raises(BundleError, match="a folder below the mount"):
        store.fetch(uri(bundle), None, Path("/proc"), client=client)


@pytest.mark.parametrize(
    ("address", "digest", "why"),
    [
        ("https://models/bundles/mini/0/", None, "not that of a bundle"),
        ("s3://models/bundles/mini/abc/", None, "64 hexadecimal digits"),
        (f"s3://models/{'0' * 64}/", None, "not that of a bundle"),
        (f"s3://models/bundles/mini/{'0' * 64}", f"sha256:{'1' * 64}", "of another bundle"),
    ],
)
def test_a_wrong_address_is_told(
    client: Any, tmp_path: Path, address: str, digest: str | None, why: str
) -> None:
    with pytest.raises(BundleError, match=why):
        store.fetch(address, digest, tmp_path / "into", client=client)


def test_an_error_of_s3_tells_the_fix(client: Any, bundle: Result) -> None:
    with pytest.raises(BundleError, match="create the bucket, or correct its name"):
        store.upload(bundle.path, "not-there", client=client)


def test_a_profile_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with pytest.raises(BundleError, match=r"nobody.*check the credentials"):
        s3.client(profile="nobody")


def test_a_server_of_ones_own_has_the_bucket_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://storage.example:9000",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(s3.client()) as own:
        url = own.generate_presigned_url("get_object", {"Bucket": "models", "Key": "a"})
        assert url.startswith("http://storage.example:9000/models/a?")
        assert own.meta.region_name == "eu-central-1"


def test_removing_leaves_no_version_and_no_unfinished_upload(client: Any, bundle: Result) -> None:
    store.upload(bundle.path, BUCKET, client=client)
    store.upload(bundle.path, BUCKET, "shop", client=client)
    spoil(client, folder(bundle) + MODEL)
    client.delete_object(Bucket=BUCKET, Key=folder(bundle) + MODEL)
    client.create_multipart_upload(Bucket=BUCKET, Key=folder(bundle) + "variants/big")
    assert s3.remove(client, BUCKET, folder(bundle)) == 6
    left = client.list_object_versions(Bucket=BUCKET)
    assert {item["Key"].split("/")[0] for item in left["Versions"]} == {"shop"}
    assert "DeleteMarkers" not in left
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert s3.remove(client, BUCKET, folder(bundle)) == 0
    assert s3.remove(client, "not-there", folder(bundle)) == 0


@pytest.mark.parametrize("prefix", ["", "/", "bundles/mini"])
def test_a_removal_never_covers_more_than_one_folder(client: Any, prefix: str) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        s3.remove(client, BUCKET, prefix)


def test_the_first_difference_is_named(client: Any, bundle: Result) -> None:
    done = store.upload(bundle.path, BUCKET, client=client, kms_key_arn=KEY)
    assert s3.first_difference(client, BUCKET, done.objects, KEY) is None
    spoil(client, folder(bundle) + MODEL)
    told = s3.first_difference(client, BUCKET, done.objects, KEY)
    assert told is not None
    assert f"{MODEL} has the SHA-256" in told
    client.delete_object(Bucket=BUCKET, Key=folder(bundle) + MODEL)
    assert s3.first_difference(client, BUCKET, done.objects) == f"{uri(bundle)}{MODEL} is missing"


_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "DeleteObjects": "DeleteObjectVersion",
}
"""Calls of S3 whose action in IAM has another name."""


def test_the_page_that_a_refusal_leads_to_lists_every_action(
    client: Any, bundle: Result, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[3] / "docs/ways/cloud.md").read_text(encoding="utf-8")
    asked: set[str] = set()
    client.meta.events.register(
        "before-call.s3", lambda model, **_: asked.add(_ACTIONS.get(model.name, model.name))
    )
    steps: dict[str, Callable[[], object]] = {
        "upload": lambda: store.upload(bundle.path, BUCKET, client=client, kms_key_arn=KEY),
        "fetch": lambda: fetch(client, bundle, tmp_path / "mini"),
        "remove": lambda: s3.remove(client, BUCKET, folder(bundle)),
    }
    for step, do in steps.items():
        asked.clear()
        do()
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {step} (")]
        assert asked
        assert {action for action in asked if f"`s3:{action}`" not in row} == set()


def test_equal_files_make_equal_archives_whatever_their_times_and_modes(
    bundle: Result, tmp_path: Path
) -> None:
    names = ["bundle.json", MODEL]
    one = b"".join(archive.stream(bundle.path, names))
    other = tmp_path / "copy"
    for name in names:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((bundle.path / name).read_bytes())
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o600)
    assert b"".join(archive.stream(other, names)) == one
    assert gzip.decompress(one)
    with tarfile.open(fileobj=io.BytesIO(one)) as opened:
        assert [(m.name, m.mtime, m.uid, m.mode) for m in opened] == [
            (name, 0, 0, 0o644) for name in names
        ]


def test_an_archive_is_read_in_pieces_of_any_size(bundle: Result) -> None:
    whole = archive.Reader(archive.stream(bundle.path, [MODEL])).read()
    reader = archive.Reader(archive.stream(bundle.path, [MODEL]))
    pieces = list(iter(lambda: reader.read(7), b""))
    assert b"".join(pieces) == whole
    assert {len(piece) for piece in pieces[:-1]} == {7}


_KILLED = """
import os, signal, sys
from pathlib import Path
from sixways_bundle import s3, store

s3.PART = 5 * 2**20
def die(step, share, message):
    if step == "upload" and share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
store.upload(Path(sys.argv[1]), "models", client=s3.client(), progress=die)
"""


def test_an_upload_that_was_killed_goes_on_where_it_was(
    bundle: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: None
) -> None:
    large = grow(bundle, tmp_path)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(s3.client()) as own:
            own.create_bucket(Bucket=BUCKET)
            program = [sys.executable, "-c", _KILLED, str(large)]
            assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
            there = keys(own)
            assert there
            assert not any(key.endswith("bundle.json") for key in there)
            done = store.upload(large, BUCKET, client=own)
            missing = {stored.key for stored in done.objects} - there
            assert {
                done.uri.removeprefix(f"s3://{BUCKET}/") + name for name in done.sent
            } == missing
            assert store.fetch(done.uri, None, tmp_path / "into", client=own) == done.manifest
    finally:
        server.stop()


def grow(bundle: Result, tmp_path: Path) -> Path:
    """A copy of the bundle whose model has several parts."""
    copy = tmp_path / "large"
    for path in bundle.path.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(bundle.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    # Random, so that the archive has several parts too.
    (copy / MODEL).write_bytes(os.urandom(BIG))
    (variant,) = bundle.manifest.variants
    grown = msgspec.structs.replace(
        variant, files=(entry_of(copy, copy / MODEL),), size=BIG, reference_size=4 * BIG
    )
    manifest = msgspec.structs.replace(bundle.manifest, variants=(grown,))
    (copy / "bundle.json").write_bytes(manifest.to_bytes())
    return copy
