"""The project's own program with its tracked settings, as a user of a checkout deploys it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.engine.pulumi_stack import Stack

ROOT = Path(__file__).parents[2]


def tracked_settings(stack: str) -> dict[str, Any]:
    """What `infra/stacks/STACK.yaml` says."""
    config: dict[str, Any] = yaml.safe_load((ROOT / f"infra/stacks/{stack}.yaml").read_text())
    return dict(config["config"])


def use(stack: Stack, config: dict[str, Any]) -> None:
    """Gives the stack these settings in place of its own; its secrets' key stays."""
    path = stack.project / f"Pulumi.{stack.name}.yaml"
    old = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.write_text(yaml.safe_dump({**(old or {}), "config": config}))


@contextmanager
def checkout_stack(folder: Path, env: dict[str, str], name: str) -> Iterator[Stack]:
    """The project's program in a folder of its own, which is made."""
    folder.mkdir()
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    with Stack(folder, env, name=name, timeout_s=600) as stack:
        yield stack
