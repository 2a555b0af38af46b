"""Writes the files of a host: systemd unit, Nginx site, the server's configuration and its keys.

Whatever goes into a template is checked first, since a line break or a semicolon in a value would
be another setting.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

UNIT = "sixways-server@.service"
MAX_BODY_BYTES = 8 * 1024 * 1024
REQUEST_SECONDS = 600.0
DRAIN_SECONDS = 30.0
PORT = 5000
CLOSE_SECONDS = 20
"""What the server may take beyond its drain to close its engines."""
_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_~*\[\]-]+")


@cache
def template(package: str, folder: str, name: str) -> Template:
    """A template of a package's folder; a name that is not given is an error, not nothing.

    It may import those of this package, such as `nginx.j2`.
    """
    loaders = [PackageLoader(package, folder), PackageLoader(__package__, "files")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; values are checked by whoever gives them
    )
    return environment.get_template(f"{name}.j2")


def check_words(**values: str | Sequence[str]) -> None:
    """Nothing in these values ends the setting that they stand in.

    Raises:
        ValueError: one would; names its field.
    """
    for field, value in values.items():
        for word in [value] if isinstance(value, str) else value:
            if not _WORD.fullmatch(word):
                raise ValueError(f"{field}: {word!r} holds what would end the setting")


def check_networks(field: str, values: Sequence[str]) -> None:
    """Each is an address or a network.

    Raises:
        ValueError: one is none; names the field.
    """
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
        if "%" in value:  # after it Python takes anything for the name of an interface
            raise ValueError(f"{field}: {value!r} names an interface")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The systemd unit `sixways-server@SLOT.service`; `%i` in a value is the slot.

    Attributes:
        python: interpreter of the environment with the server.
        config: the server's configuration.
        user: who it runs as; also the name of its group.
        drain_seconds: the configuration's `drain_seconds`; systemd waits a little longer.
        restart_seconds: pause before it is started again.
        systemd_version: of the host. From 254 the pause grows to a minute.
        log_file: where its output goes, in a folder that exists: systemd opens it before it makes
            any. None: the journal.
        memory_max: `MemoryMax` (`6G`, `80%`); None: no limit.
        cpu_quota: `CPUQuota` (`350%`); None: no limit.
        gpu: whether it may open NVIDIA's devices.
        loopback_only: whether it may talk to this host alone.

    Raises:
        ValueError: a value would end its setting.
    """

    python: str = "/opt/sixways/%i/venv/bin/python"
    config: str = "/etc/sixways/%i.json"
    user: str = "sixways"
    drain_seconds: float = DRAIN_SECONDS
    restart_seconds: int = 2
    systemd_version: int = 252
    log_file: str | None = None
    memory_max: str | None = None
    cpu_quota: str | None = None
    gpu: bool = False
    loopback_only: bool = True

    def __post_init__(self) -> None:
        given = {"log_file": self.log_file, "memory_max": self.memory_max,
                 "cpu_quota": self.cpu_quota}  # fmt: skip
        check_words(python=self.python, config=self.config, user=self.user)
        check_words(**{name: value for name, value in given.items() if value is not None})

    def render(self) -> str:
        """The unit's text."""
        stop = math.ceil(self.drain_seconds) + CLOSE_SECONDS
        values = {**asdict(self), "stop_seconds": stop}
        return template(__package__, "files", UNIT).render(values)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The Nginx site, a file for `conf.d`.

    Attributes:
        certificate: its certificate chain (PEM).
        certificate_key: the private key (PEM).
        server_names: names it answers to; `_` for all.
        port: where it listens for TLS.
        redirect_http: whether port 80 leads to https.
        upstreams: addresses of the servers.
        max_body_bytes: the configuration's `max_body_bytes`.
        request_seconds: the configuration's `request_seconds`; None: no limit, an hour here.
        keepalive_seconds: how long an idle connection stays; longer than what a load balancer in
            front of it keeps.
        requests_per_minute: of one key; None: no limit.
        burst: requests of one key that may come at once beyond the rate.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        metrics_from: networks that may read `/metrics`.
        access_log: the access log, a JSON object a line.
        error_log: the error log.

    Raises:
        ValueError: a value would end its setting, or is no network.
    """

    certificate: str = "/etc/sixways/tls.crt"
    certificate_key: str = "/etc/sixways/tls.key"
    server_names: tuple[str, ...] = ("_",)
    port: int = 443
    redirect_http: bool = True
    upstreams: tuple[str, ...] = (f"127.0.0.1:{PORT}",)
    max_body_bytes: int = MAX_BODY_BYTES
    request_seconds: float | None = REQUEST_SECONDS
    keepalive_seconds: int = 75
    requests_per_minute: int | None = None
    burst: int = 20
    trusted_proxies: tuple[str, ...] = ()
    metrics_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    access_log: str = "/var/log/nginx/sixways.access.log"
    error_log: str = "/var/log/nginx/sixways.error.log"

    def __post_init__(self) -> None:
        check_words(
            certificate=self.certificate,
            certificate_key=self.certificate_key,
            server_names=self.server_names,
            upstreams=self.upstreams,
            access_log=self.access_log,
            error_log=self.error_log,
        )
        check_networks("trusted_proxies", self.trusted_proxies)
        check_networks("metrics_from", self.metrics_from)
        if not (self.upstreams and self.server_names):
            raise ValueError("upstreams and server_names: at least one of each")

    def render(self) -> str:
        """The site's text."""
        read = math.ceil(self.request_seconds) + 5 if self.request_seconds else 3600
        values = {**asdict(self), "read_seconds": read}
        return template(__package__, "files", "nginx-site.conf").render(values)


def server_config(models: Sequence[Mapping[str, Any]], **settings: Any) -> str:
    """The server's configuration as JSON (`sixways_server.config.ServerConfig`).

    Args:
        models: each with `name`, `path`, `digest` and, where one is wanted, `variant`.
        settings: further fields; `keys_file` is needed.
    """
    return _json({"models": [dict(model) for model in models], **settings})


def keys_file(hashes: Mapping[str, str]) -> str:
    """The keys file: the SHA-256 of each key under its name. No key itself."""
    return _json({"keys": [{"name": name, "sha256": value} for name, value in hashes.items()]})


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
