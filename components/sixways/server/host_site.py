"""Writes the Nginx site of a host with two slots, alone or as one of a fleet."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import asdict, dataclass

from sixways.server import layout
from sixways.server.files import (
    MAX_BODY_BYTES,
    REQUEST_SECONDS,
    check_networks,
    check_words,
    template,
)

CERTIFICATE = f"{layout.TLS}/site.crt"
CERTIFICATE_KEY = f"{layout.TLS}/site.key"
FLEET_CERTIFICATE = f"{layout.TLS}/fleet.crt"
FLEET_KEY = f"{layout.TLS}/fleet.key"
CHALLENGES = f"{layout.ETC}/acme"
"""Where certbot puts its answers, and Nginx's own user reads them, who must not see the state."""
FLEET_NAME = "sixways-fleet"
"""The name in the certificate that the hosts of one server show each other."""
ACCESS_LOG = "/var/log/nginx/sixways.access.log"
ERROR_LOG = "/var/log/nginx/sixways.error.log"
OLDEST_NGINX = (1, 18, 0)
_HTTP2_DIRECTIVE = (1, 25, 1)
"""From this version on `listen … http2` is deprecated (Nginx's changes of 2023-06-13)."""


@dataclass(frozen=True, kw_only=True)
class HostSite:
    """The site of one host, a file for `conf.d`.

    Attributes:
        nginx_version: of the host.
        server_names: names and addresses it answers to; `_` for all.
        certificate: its certificate chain (PEM).
        certificate_key: the private key (PEM).
        port: where it listens for TLS.
        redirect_http: whether port 80 leads to https.
        challenges: folder with the answers to an ACME server, on port 80; None: no ACME.
        peers: addresses of all hosts, this one too; empty: it is the only one.
        fleet_certificate: what the hosts show each other, and the only one that they believe.
        fleet_key: its private key.
        max_body_bytes: the server's `max_body_bytes`.
        request_seconds: the server's `request_seconds`; None: no limit, an hour here.
        keepalive_seconds: how long an idle connection of a caller stays.
        requests_per_minute: of one key, at this host; None: no limit.
        burst: requests of one key that may come at once beyond the rate.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        metrics_from: networks that may read `/metrics`, the host's own.
        access_log: the access log, a JSON object a line.
        error_log: the error log.

    Raises:
        ValueError: a value would end its setting, or is no network.
    """

    nginx_version: str
    server_names: tuple[str, ...] = ("_",)
    certificate: str = CERTIFICATE
    certificate_key: str = CERTIFICATE_KEY
    port: int = 443
    redirect_http: bool = True
    challenges: str | None = None
    peers: tuple[str, ...] = ()
    fleet_certificate: str = FLEET_CERTIFICATE
    fleet_key: str = FLEET_KEY
    max_body_bytes: int = MAX_BODY_BYTES
    request_seconds: float | None = REQUEST_SECONDS
    keepalive_seconds: int = 75
    requests_per_minute: int | None = None
    burst: int = 20
    trusted_proxies: tuple[str, ...] = ()
    metrics_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    access_log: str = ACCESS_LOG
    error_log: str = ERROR_LOG

    def __post_init__(self) -> None:
        check_words(
            server_names=self.server_names,
            certificate=self.certificate,
            certificate_key=self.certificate_key,
            challenges=self.challenges or (),
            peers=self.peers,
            fleet_certificate=self.fleet_certificate,
            fleet_key=self.fleet_key,
            access_log=self.access_log,
            error_log=self.error_log,
        )
        check_networks("trusted_proxies", self.trusted_proxies)
        check_networks("metrics_from", self.metrics_from)
        if not self.server_names:
            raise ValueError("server_names: at least one")
        if version(self.nginx_version) < OLDEST_NGINX:
            raise ValueError("nginx_version: 1.18 or later is needed")

    def render(self) -> str:
        """The site's text."""
        read = math.ceil(self.request_seconds) + 5 if self.request_seconds else 3600
        rate = self.requests_per_minute
        values = {
            **asdict(self),
            # `_` is what the distribution's own site calls itself; a pattern is one of ours.
            "names": "~." if "_" in self.server_names else " ".join(self.server_names),
            "peers": [_with_port(peer) for peer in self.peers],
            "slots": layout.PORTS,
            "green_is_live": layout.GREEN_IS_LIVE,
            "fleet_port": layout.FLEET_PORT,
            "fleet_name": FLEET_NAME,
            "read_seconds": read,
            "retry_seconds": max(1, math.ceil(60 / rate)) if rate else 1,
            "http2_directive": version(self.nginx_version) >= _HTTP2_DIRECTIVE,
        }
        return template(__package__, "files", "nginx-host.conf").render(values)


def version(text: str) -> tuple[int, ...]:
    """`1.22.1` as numbers.

    Raises:
        ValueError: it is no version.
    """
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise ValueError(f"nginx_version: {text!r} is no version such as 1.22.1") from None


def _with_port(peer: str) -> str:
    try:
        if ipaddress.ip_address(peer).version == 6:
            return f"[{peer}]:{layout.FLEET_PORT}"
    except ValueError:
        pass  # a name
    return f"{peer}:{layout.FLEET_PORT}"
