"""What control groups leave to the engines of a server: memory and processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sixways_bundle.runtime import base, llm

MB = 10**6


@pytest.mark.parametrize("version", [2, 1])
def test_file_contents_that_can_be_given_back_are_not_used_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    _, _, limit, used, names = llm._CGROUPS[2 - version]
    # Every process has such a line, whatever its path: the root's files are read too.
    monkeypatch.setattr(llm, "_CGROUPS", ((r"^.*?:.*?:/(.*)$", str(tmp_path), limit, used, names),))
    (tmp_path / limit).write_text(f"{100 * MB}\n")
    (tmp_path / used).write_text(f"{90 * MB}\n")
    assert llm.memory_available() == 10 * MB
    stat = {"anon": 40 * MB, "file": 50 * MB, names[0]: 30 * MB, names[1]: 15 * MB}
    (tmp_path / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in stat.items()))
    assert llm.memory_available() == 55 * MB


@pytest.mark.parametrize(
    ("limits", "processors"),
    [
        ({"a/b": "max 100000", "a": "150000 100000"}, 1.5),
        ({"a/b": "400000 100000", "a": "150000 100000", "": "300000 100000"}, 1.5),
        ({"a/b": "100000 100000", "a": "150000 100000"}, 1.0),
        ({"a/b": "max 100000", "a": "max 100000"}, None),
    ],
)
def test_the_least_quota_of_all_groups_above_counts(
    tmp_path: Path, limits: dict[str, str], processors: float | None
) -> None:
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for group, limit in limits.items():
        (tmp_path / group / "cpu.max").write_text(limit)
    assert base._cgroup_quota(tmp_path / "own", tmp_path) == processors
