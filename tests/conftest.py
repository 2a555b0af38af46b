"""The tiers: what each needs, and whether a missing one skips its tests or fails them.

`SIXWAYS_REQUIRE=engine,...` makes the named tiers mandatory; CI sets it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from toolchain.environment import ensure_state, full_environment
from toolchain.paths import StateFiles, venv_bin

from tests.nginx import MISSING as NO_NGINX
from tests.nginx import NGINX


def _missing_for_engine() -> str | None:
    absent = [name for name in ("pulumi", "pulumi-language-python") if not shutil.which(name)]
    return f"{' and '.join(absent)} not on PATH; run `make install`" if absent else None


AWS_PLUGINS = tuple(f"pulumi-resource-{name}" for name in ("aws", "aws-native", "docker-build"))


def _missing_for_aws() -> str | None:
    absent = [name for name in AWS_PLUGINS if not shutil.which(name)]
    if absent:
        return (
            f"{', '.join(absent)} not on PATH; `pulumi plugin install resource NAME` brings a "
            "plugin, and its folder must be on PATH"
        )
    if not shutil.which(aws_server()[0]):
        return f"the AWS server {aws_server()[0]} is not on PATH; see SIXWAYS_AWS_SERVER"
    return _missing_for_engine()


def aws_server() -> list[str]:
    """The command of an AWS server on this machine that takes moto_server's `-H` and `-p`."""
    return shlex.split(os.environ.get("SIXWAYS_AWS_SERVER", "moto_server"))


def _missing_for_image() -> str | None:
    return None if shutil.which("podman") else "podman is not on PATH"


def _missing_for_host() -> str | None:
    from tests.host.machine import missing

    return missing()


def _missing_for_cluster() -> str | None:
    tools = ("kubectl", "helm", "pulumi-resource-kubernetes")
    absent = [name for name in tools if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)} not on PATH; install them, and put the plugin's folder on PATH"
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster; the tests make and remove namespaces in it"
    return _cluster_silent() or _missing_for_engine()


@cache
def _cluster_silent() -> str | None:
    asked = subprocess.run(
        ["kubectl", "version", "--request-timeout=10s"], capture_output=True, text=True, check=False
    )
    return f"KUBECONFIG's cluster does not answer: {asked.stderr}" if asked.returncode else None


# Each tier's question: what is missing here? None: nothing.
TIERS: dict[str, Callable[[], str | None]] = {
    "engine": _missing_for_engine,
    "aws": _missing_for_aws,
    "image": _missing_for_image,
    "host": _missing_for_host,
    "cluster": _missing_for_cluster,
}


def pytest_configure(config: pytest.Config) -> None:
    # The tools of the environment that runs the tests, whether or not it is activated.
    own = str(Path(sys.executable).parent)
    os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    unknown = _required() - TIERS.keys()
    if unknown:
        raise pytest.UsageError(
            f"SIXWAYS_REQUIRE names {', '.join(sorted(unknown))}; "
            f"the tiers are {', '.join(sorted(TIERS))}"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for tier, question in TIERS.items():
        if item.get_closest_marker(tier) is None:
            continue
        require(tier, question())


def require(tier: str, missing: str | None) -> None:
    """Skips the test where something of the tier is missing; fails it if the tier is required."""
    if missing is None:
        return
    if tier in _required():
        pytest.fail(f"tier {tier} is required: {missing}", pytrace=False)
    pytest.skip(f"tier {tier}: {missing}")


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get("SIXWAYS_REQUIRE", "").split(",")} - {""}


@pytest.fixture
def nginx() -> str:
    """This machine's Nginx; where tier `host` is required it must be there."""
    require("host", NO_NGINX)
    return str(NGINX)


@pytest.fixture
def pulumi_env(tmp_path: Path) -> dict[str, str]:
    """The environment of `pulumi` for this test: what `make -s env` gives, below `tmp_path`."""
    return private_pulumi(tmp_path / "pulumi")


def private_pulumi(folder: Path) -> dict[str, str]:
    """A Pulumi of its own: state, home and passphrase in that folder."""
    files = StateFiles(folder)
    ensure_state(files)
    environment = full_environment(files, venv_bin())
    # A missing plugin is the tier's to name; a test downloads nothing.
    environment["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    # Neither a debugger nor tracing that a developer has switched on may change what is asserted.
    for name in [name for name in os.environ if name.startswith("PULUMI_DEBUG")]:
        environment.pop(name, None)
    return environment
