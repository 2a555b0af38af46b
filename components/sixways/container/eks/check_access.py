"""Checks of access entries and bundle readers."""

import re
from collections.abc import Mapping
from typing import Any

from sixways.checks import Checks, is_plain
from sixways.container.eks.args import AccessEntryArgs, BundleReaderArgs, EksClusterArgs

POLICIES = (
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSViewPolicy",
)
_WIDE = ("AmazonEKSClusterAdminPolicy", "AmazonEKSAdminViewPolicy")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\w+=,.@/-]+")
_BUCKET = re.compile(r"arn:aws[a-z-]*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KMS = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A name of Kubernetes may have dots.
_DOTTED = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def check_access(checks: Checks, args: EksClusterArgs) -> None:
    """Who may use the Kubernetes API, and which pods may read bundles."""
    entries, readers = args.get("access_entries"), args.get("bundle_readers")
    for field, value in (("access_entries", entries), ("bundle_readers", readers)):
        if value is not None and not isinstance(value, list):
            checks.add(field, "an output", "a list whose values may be outputs")
    names: set[object] = set()
    principals: set[object] = set()
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        where = f"access_entries[{index}]"
        if not isinstance(entry, Mapping):
            checks.add(where, "an output", "an entry whose values may be outputs")
            continue
        _check_entry(checks, f"{where}.", entry)
        _once(checks, f"{where}.name", entry.get("name"), names)
        _once(checks, f"{where}.principal_arn", entry.get("principal_arn"), principals)
    if args.get("creator_is_admin") is False and not entries:
        checks.add("access_entries", None, "at least one entry, since creator_is_admin is false",
                   "add who may use the cluster")  # fmt: skip
    accounts: set[object] = set()
    for index, reader in enumerate(readers if isinstance(readers, list) else ()):
        where = f"bundle_readers[{index}]"
        if not isinstance(reader, Mapping):
            checks.add(
                where, "an output", "a reader whose bucket_arn and kms_key_arn may be outputs"
            )
            continue
        _check_reader(checks, f"{where}.", reader)
        who = f"{reader.get('namespace')}/{reader.get('service_account')}"
        _once(checks, f"{where}.service_account", who, accounts)


def _check_entry(checks: Checks, where: str, entry: Any) -> None:
    checks.known(entry, AccessEntryArgs, where)
    checks.required(entry, "name", "principal_arn", "policy", prefix=where)
    _plain(checks, f"{where}name", entry.get("name"), _NAME, "up to 63 letters, digits, '-', '_'")
    _matches(checks, f"{where}principal_arn", entry.get("principal_arn"), _PRINCIPAL,
             "the ARN of an IAM role or user (of no session)")  # fmt: skip
    checks.one_of(f"{where}policy", entry.get("policy"), POLICIES)
    spaces = entry.get("namespaces")
    if spaces is None:
        return
    if spaces == []:
        checks.add(f"{where}namespaces", "[]", "one namespace or more",
                   "leave it out for the whole cluster")  # fmt: skip
    if entry.get("policy") in _WIDE:
        checks.add(f"{where}namespaces", spaces, f"nothing beside {entry['policy']}, which is "
                   "about the whole cluster", "remove it, or choose another policy")  # fmt: skip
    for index, space in enumerate(spaces if isinstance(spaces, list) else ()):
        _matches(checks, f"{where}namespaces[{index}]", space, _LABEL, "a namespace's name")


def _check_reader(checks: Checks, where: str, reader: Any) -> None:
    checks.known(reader, BundleReaderArgs, where)
    checks.required(reader, "namespace", "service_account", "bucket_arn", prefix=where)
    _plain(checks, f"{where}namespace", reader.get("namespace"), _LABEL, "a namespace's name")
    _plain(checks, f"{where}service_account", reader.get("service_account"), _DOTTED,
           "a service account's name")  # fmt: skip
    _matches(checks, f"{where}bucket_arn", reader.get("bucket_arn"), _BUCKET,
             "the ARN of a bucket, arn:aws:s3:::NAME", "take it from BundleStore.bucket_arn"
    )  # fmt: skip
    _matches(checks, f"{where}kms_key_arn", reader.get("kms_key_arn"), _KMS,
             "the ARN of a KMS key (not of an alias)", "take it from BundleStore.kms_key_arn"
    )  # fmt: skip
    prefix = reader.get("prefix")
    if isinstance(prefix, str) and (not prefix.strip("/") or re.search(r"[*?${}]", prefix)):
        checks.add(f"{where}prefix", prefix or "''", "a prefix like bundles/, without wildcards",
                   "leave it out for bundles/")  # fmt: skip


def _plain(
    checks: Checks, field: str, value: object, shape: re.Pattern[str], accepted: str
) -> None:
    """Such a value names resources in the program, so an output cannot be one."""
    if value is not None and not is_plain(value):
        checks.add(field, "an output", f"{accepted}, in plain text", "resources are named by it")
    _matches(checks, field, value, shape, accepted)


def _matches(
    checks: Checks, field: str, value: object, shape: re.Pattern[str], accepted: str, fix: str = ""
) -> None:
    if isinstance(value, str) and value and not shape.fullmatch(value):
        checks.add(field, value, accepted, fix)


def _once(checks: Checks, field: str, value: object, seen: set[object]) -> None:
    if not isinstance(value, str) or not value:
        return
    if value in seen:
        checks.add(field, value, "each once", "remove one of them, or name them differently")
    seen.add(value)
