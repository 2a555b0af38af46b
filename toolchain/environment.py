"""What makes plain `pulumi` work in this checkout: variables, a state folder and a passphrase."""

from __future__ import annotations

import os
import secrets
import shlex
from pathlib import Path

from toolchain.paths import StateFiles


def ensure_state(files: StateFiles) -> bool:
    """Create the folders and the passphrase, once. Only this user may read them.

    :returns: whether the passphrase is a new one, which opens nothing encrypted before.
    """
    files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (files.backend, files.pulumi_home):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        # O_EXCL: two commands at once must not each write their own, for the one that loses
        # would encrypt with a passphrase that nobody knows any more.
        handle = os.open(files.passphrase, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return True


def variables(files: StateFiles) -> dict[str, str]:
    """The variables but PATH. The passphrase is named by its file: a listing of the environment
    shows no secret."""
    return {
        # as_uri quotes a space or a '#' in the checkout's path.
        "PULUMI_BACKEND_URL": files.backend.absolute().as_uri(),
        "PULUMI_HOME": str(files.pulumi_home.absolute()),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(files.passphrase.absolute()),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
    }


def full_environment(files: StateFiles, bin_folder: Path) -> dict[str, str]:
    """The environment of a `pulumi` that we start."""
    own = {**os.environ, **variables(files)}
    own["PATH"] = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # A passphrase of another project in the user's shell would win over the file.
    own.pop("PULUMI_CONFIG_PASSPHRASE", None)
    own.pop("PULUMI_STACK", None)
    return own


def export_lines(files: StateFiles, bin_folder: Path) -> list[str]:
    """Lines for `eval`, each one an export, quoted for a POSIX shell."""
    lines = [f'export PATH={shlex.quote(str(bin_folder))}:"$PATH"']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables(files).items()]
    return lines
