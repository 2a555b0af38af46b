"""The files of a host, by the tools that will read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sixways.server import files
from sixways.server.files import Site, Unit
from sixways_server.config import ServerConfig
from tests.nginx import NGINX, configuration, needs_nginx

_GPU_AND_LIMITS = Unit(
    gpu=True, memory_max="6G", cpu_quota="350%", log_file="/var/log/sixways/server.log"
)
_SYSTEMD = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def written(unit: Unit, folder: Path) -> Path:
    (folder / files.UNIT).write_text(unit.render())
    return folder / files.UNIT


@_SYSTEMD
@pytest.mark.parametrize("unit", [Unit(), _GPU_AND_LIMITS], ids=["default", "gpu and limits"])
def test_systemd_finds_no_fault_in_the_unit(unit: Unit, tmp_path: Path) -> None:
    # The one path that systemd looks for is there: this Python.
    text = unit.render().replace(unit.python, sys.executable)
    (tmp_path / "sixways-server@a.service").write_text(text)
    said = analyze("verify", "--man=no", str(tmp_path / "sixways-server@a.service"))
    assert "sixways" not in said


@_SYSTEMD
@pytest.mark.parametrize("unit", [Unit(), _GPU_AND_LIMITS], ids=["default", "gpu and limits"])
def test_the_unit_is_exposed_by_3_at_most(unit: Unit, tmp_path: Path) -> None:
    said = analyze(
        "security", "--offline=true", "--threshold=30", "--no-pager", str(written(unit, tmp_path))
    )
    assert "Overall exposure level" in said


@_SYSTEMD
def test_the_check_of_exposure_sees_what_is_taken_away(tmp_path: Path) -> None:
    path = written(Unit(), tmp_path)
    path.write_text(
        re.sub(r"(?m)^(Protect|Restrict|System|Capab|Private).*\n", "", path.read_text())
    )
    with pytest.raises(AssertionError, match="exposure"):
        analyze("security", "--offline=true", "--threshold=30", "--no-pager", str(path))


def test_systemd_waits_longer_than_the_server_drains() -> None:
    stop = re.search(r"TimeoutStopSec=(\d+)s", Unit(drain_seconds=45.5).render())
    assert stop is not None
    assert int(stop[1]) > 45.5 + 10


def test_the_pause_before_a_restart_grows_where_systemd_can() -> None:
    assert "RestartSteps" not in Unit(systemd_version=252).render()
    assert "RestartMaxDelaySec=60s" in Unit(systemd_version=254).render()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Unit(memory_max="1G\nUser=root"), "memory_max"),
        (lambda: Unit(user="a b"), "user"),
        (lambda: Site(server_names=("a;b",)), "server_names"),
        (lambda: Site(upstreams=("x{}",)), "upstreams"),
        (lambda: Site(upstreams=()), "upstreams"),
        (lambda: Site(trusted_proxies=("10.0.0.0/33",)), "trusted_proxies"),
        (lambda: Site(metrics_from=("all",)), "metrics_from"),
        (lambda: Site(metrics_from=("::%;return 200;",)), "metrics_from"),
    ],
)
def test_a_value_that_would_be_another_setting_is_refused(make: object, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        make()  # type: ignore[operator]


def test_the_defaults_are_those_of_the_server(tmp_path: Path) -> None:
    own = {field.name: field.default for field in msgspec.structs.fields(ServerConfig)}
    assert own["max_body_bytes"] == files.MAX_BODY_BYTES
    assert own["request_seconds"] == files.REQUEST_SECONDS
    assert own["drain_seconds"] == files.DRAIN_SECONDS
    assert own["port"] == files.PORT


def test_the_server_takes_its_configuration_and_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(files.keys_file({"default": "0" * 64}))
    text = files.server_config(
        [{"name": "m", "path": "dummy:embeddings"}], keys_file=str(keys), drain_seconds=5
    )
    config = ServerConfig.from_dict(json.loads(text))
    assert config.models[0].name == "m"
    assert config.drain_seconds == 5


@needs_nginx
@pytest.mark.parametrize(
    "site",
    [
        Site(),
        Site(
            redirect_http=False,
            requests_per_minute=600,
            trusted_proxies=("10.0.0.0/8", "fd00::/8"),
            upstreams=("10.0.0.1:5000", "10.0.0.2:5000"),
            server_names=("api.example.com",),
            metrics_from=("10.1.0.0/16",),
        ),
    ],
    ids=["default", "all options"],
)
def test_nginx_finds_no_fault_in_the_site(site: Site, tmp_path: Path) -> None:
    said = nginx_test(site, tmp_path)
    assert "warn" not in said
    assert "successful" in said


@needs_nginx
def test_the_check_of_the_site_sees_a_fault(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="certificate"):
        nginx_test(Site(), tmp_path, certificate=False)


def nginx_test(site: Site, folder: Path, *, certificate: bool = True) -> str:
    if certificate:
        self_signed(folder)
    text = site.render().replace("/etc/sixways", str(folder)).replace("/var/log/nginx", str(folder))
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(configuration(folder))
    done = subprocess.run(
        [str(NGINX), "-t", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def self_signed(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")],
        check=True,
        capture_output=True,
    )  # fmt: skip
