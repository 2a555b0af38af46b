"""The Nginx of this machine, for tests that start one of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Debian keeps it where only root's PATH leads.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
MISSING = None if NGINX else "nginx is not on PATH; apt install nginx-light"
needs_nginx = pytest.mark.usefixtures("nginx")


def configuration(folder: Path, workers: int = 1) -> str:
    """All around `site.conf` of that folder, to which Nginx writes everything."""
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # The tests' folders are closed to other users.
    user = "user root root; " if os.geteuid() == 0 else ""
    return (
        f"{user}daemon off; pid {folder}/pid; worker_processes {workers}; events {{}} "
        f"http {{ {places} include {folder}/site.conf; }}"
    )
