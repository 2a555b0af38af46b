"""Where things lie: in the checkout, in its virtual environment and in the user's cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The version that toolchain/go.mod builds; the SDK in constraints.txt is the same one.
PULUMI_VERSION = "3.259.0"

CHECKOUT = Path(__file__).resolve().parent.parent


def venv_bin() -> Path:
    """Folder of the running Python: the `bin` that gets `pulumi`."""
    return Path(sys.executable).parent


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`$SIXWAYS_CACHE`, else `$XDG_CACHE_HOME/sixways`, else `~/.cache/sixways`."""
    if own := environ.get("SIXWAYS_CACHE"):
        return Path(own).expanduser().absolute()
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser().absolute() / "sixways"
    return Path(environ.get("HOME") or Path.home()) / ".cache" / "sixways"


def pulumi_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the CLI of `PULUMI_VERSION` is kept, shared by every checkout of this user."""
    return cache_root(environ) / "pulumi" / PULUMI_VERSION / "bin"


@dataclass(frozen=True)
class StateFiles:
    """What stack `dev` keeps in the checkout. Nothing of it is tracked by git."""

    root: Path

    @classmethod
    def of(cls, checkout: Path) -> StateFiles:
        return cls(checkout / ".sixways")

    @property
    def backend(self) -> Path:
        return self.root / "state"

    @property
    def pulumi_home(self) -> Path:
        return self.root / "pulumi-home"

    @property
    def passphrase(self) -> Path:
        return self.root / "passphrase"
