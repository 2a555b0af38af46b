"""What a change of the Kubernetes version does, said and checked before anything happens."""

from __future__ import annotations

import re

import pulumi
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_monitor

_VERSION = re.compile(r"1\.(\d{2})")


def minor(version: object) -> int | None:
    """33 of `1.33`; None where it is no such version."""
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    return int(found[1]) if found else None


def refusal(old: object, new: object) -> str | None:
    """Why EKS cannot go from one version to another in one step; None where it can.

    EKS raises the control plane one minor version at a time ("Update existing cluster to new
    Kubernetes version" in its user guide).
    """
    before, after = minor(old), minor(new)
    if before is None or after is None or after <= before + 1:
        return None
    return (
        f"version: {new} is {after - before} minor versions after the running {old}; EKS goes one "
        f"at a time. Fix: set 1.{before + 1}, deploy, and go on from there"
    )


def watch(name: str) -> pulumi.ResourceHookBinding | None:
    """Hooks for the cluster, run in a preview too; None under Pulumi's mocks, which know no hooks.

    Args:
        name: the hook's name begins with it; unique in the stack.
    """
    if isinstance(get_monitor(), MockMonitor):
        return None
    options = pulumi.ResourceHookOptions(on_dry_run=True)
    return pulumi.ResourceHookBinding(
        before_update=[pulumi.ResourceHook(f"{name}-upgrade", _before, options)]
    )


def _before(args: pulumi.ResourceHookArgs) -> None:
    old = (args.old_outputs or {}).get("version")
    new = (args.new_inputs or {}).get("version")
    if old == new or minor(old) is None or minor(new) is None:
        return
    found = refusal(old, new)
    if found:
        raise pulumi.RunError(f"EKS cluster {args.id}: {found}")
    if (minor(new) or 0) < (minor(old) or 0):
        pulumi.log.warn(
            f"{args.id}: {new} is older than the running {old}; AWS refuses that unless it still "
            "offers a rollback to this cluster"
        )
        return
    pulumi.log.info(
        f"{args.id}: Kubernetes {old} -> {new} in place: first the control plane, then each node "
        "group, node by node. Add-ons stay as they are until addon_versions names others"
    )
