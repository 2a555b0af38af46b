"""How many threads an engine takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sixways_bundle.runtime import base


@pytest.mark.parametrize(
    ("limit", "processors"),
    [("200000 100000", 2.0), ("50000 100000", 0.5), ("max 100000", None), ("", None)],
)
def test_the_quota_of_the_own_cgroup_is_read(
    tmp_path: Path, limit: str, processors: float | None
) -> None:
    (tmp_path / "own").write_text("0::/kubepods/pod1\n")
    group = tmp_path / "kubepods" / "pod1"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(limit)
    assert base._cgroup_quota(tmp_path / "own", tmp_path) == processors


def test_a_container_that_sees_only_its_own_group_reads_that_one(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/path/of/the/host\n")
    (tmp_path / "cpu.max").write_text("300000 100000")
    assert base._cgroup_quota(tmp_path / "own", tmp_path) == 3.0


@pytest.mark.parametrize(("quota", "processors"), [("150000", 1.5), ("-1", None), ("", None)])
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_the_first_version_of_cgroups_is_read_too(
    tmp_path: Path, controllers: str, quota: str, processors: float | None
) -> None:
    (tmp_path / "own").write_text(f"9:memory:/pod\n4:{controllers}:/pod\n0::/\n")
    group = tmp_path / "cpu" / "pod"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(quota + "\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert base._cgroup_quota(tmp_path / "own", tmp_path) == processors


def test_a_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert base._cgroup_quota(tmp_path / "own", tmp_path) is None


@pytest.mark.parametrize(
    ("allowed", "quota", "threads"),
    [(8, 2.0, 2), (8, 2.5, 3), (8, 0.1, 1), (4, 9.0, 4), (6, None, 6)],
)
def test_threads_follow_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)))
    monkeypatch.setattr(base, "_cgroup_quota", lambda: quota)
    assert base.usable_threads(None) == threads
    assert base.usable_threads(5) == 5
