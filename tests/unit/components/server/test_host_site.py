"""The site of a host with two slots in a running Nginx, alone and as one of a fleet."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways.plugin.certificate import self_signed
from sixways.server import layout
from sixways.server.host_site import FLEET_NAME, HostSite
from tests.nginx import NGINX, needs_nginx
from tests.unit.components.server.fleet import Host, Load, curl, running_hosts

_KEY = {"Authorization": "Bearer sk-secret-key-of-mine"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    limits = {"requests_per_minute": 30, "burst": 2, "max_body_bytes": 1000}
    with running_hosts(tmp_path, "127.0.0.1", metrics_from=("192.0.2.0/24",), **limits) as hosts:
        yield hosts[0]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Host]]:
    addresses = ("127.0.0.2", "127.0.0.3")
    with running_hosts(tmp_path, *addresses, peers=addresses) as hosts:
        yield hosts


@needs_nginx
def test_the_traffic_moves_between_the_slots_without_a_lost_request(host: Host) -> None:
    with Load(host) as load:  # without a key there is no limit
        load.wait_for("blue of 127.0.0.1")
        for slot in ("green", "blue", "green"):
            host.switch(slot)
            moved = len(load.answers)
            load.wait_for(f"{slot} of 127.0.0.1")
            # Those that were on their way may still come from the old one, and no others.
            late = {name for _, name in load.answers[moved + 8 :]}
            assert late == {f"{slot} of 127.0.0.1"}


@needs_nginx
def test_a_body_that_takes_longer_than_the_release_reaches_the_new_slot(host: Host) -> None:
    anybodys = ssl.create_default_context()
    anybodys.check_hostname, anybodys.verify_mode = False, ssl.CERT_NONE
    host.switch("green")
    with (
        socket.create_connection((host.address, host.port), 10) as plain,
        anybodys.wrap_socket(plain) as link,
    ):
        link.sendall(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
                     b"Expect: 100-continue\r\n\r\n")  # fmt: skip
        assert b" 100 Continue" in link.recv(100)  # it has its slot
        host.switch("blue")
        host.slots.pop("green").end()
        link.sendall(b"0123456789")
        answer = link.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"blue of 127.0.0.1" in answer


@needs_nginx
def test_limits_are_answered_in_the_servers_words(host: Host) -> None:
    answers = [host.get("/v1/x", **_KEY) for _ in range(5)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "2"  # 30 a minute
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert host.get("/v1/x", Authorization="Bearer sk-another-key-of-mine").status_code == 200
    with host.client() as client:
        large = client.post("/v1/x", content=b"x" * 1001)
    assert large.status_code == 413
    assert large.json()["error"]["code"] == "body_too_large"
    for answer in (refused[0], large):
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@needs_nginx
def test_a_request_has_one_id_from_the_caller_to_the_log(host: Host) -> None:
    answer = host.get("/v1/x?secret=1", **{"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["headers"]["X-Request-Id"] == "mine-1"
    entry = host.last()
    assert (entry["request_id"], entry["path"], entry["status"]) == ("mine-1", "/v1/x", 200)
    for field in ("seconds", "upstream_seconds", "upstream_header_seconds"):
        assert float(entry[field]) >= 0
    assert entry["upstream"].startswith("127.0.0.1:")


@needs_nginx
def test_tokens_go_out_as_they_come_from_either_slot(host: Host) -> None:
    for slot, server in host.slots.items():
        if slot == "green":
            host.switch(slot)
        with host.client() as client, client.stream("GET", "/stream") as answer:
            pieces = answer.iter_bytes()
            assert next(pieces) == b"first"  # the server has not sent the rest yet
            server.go_on.set()
            assert b"".join(pieces) == b"second"


@needs_nginx
def test_a_caller_may_speak_http_2(host: Host) -> None:
    seen = curl("-k", "--http2", f"https://127.0.0.1:{host.port}/v1/x")
    assert seen == "2 200"


@needs_nginx
def test_metrics_are_closed_to_the_outside(host: Host) -> None:
    for path in ("/metrics", "//metrics", "/x/../metrics", "/%6Detrics", "/metrics?x=1"):
        seen = curl("-k", "--path-as-is", f"https://127.0.0.1:{host.port}{path}")
        assert seen.endswith(" 403"), path


@needs_nginx
def test_a_slot_that_is_gone_is_a_503_that_asks_to_come_again(host: Host) -> None:
    host.slots.pop("green").end()
    host.switch("green")
    answer = host.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"


@needs_nginx
def test_a_fleet_shares_the_requests_of_one_host(fleet: list[Host]) -> None:
    first, second = fleet
    with Load(first) as load:
        for host in fleet:
            load.wait_for(f"blue of {host.address}")
        second.switch("green")
        load.wait_for("green of 127.0.0.3")
    answer = first.get("/v1/x", **{"X-Request-Id": "mine-2", "X-Forwarded-For": "6.6.6.6"})
    headers = answer.json()["headers"]
    assert headers["X-Request-Id"] == "mine-2"
    assert headers["X-Forwarded-For"] == "127.0.0.1"  # the caller's own, not what it says


@needs_nginx
def test_any_host_answers_an_acme_server_for_the_one_that_asked(tmp_path: Path) -> None:
    addresses = ("127.0.0.2", "127.0.0.3")
    with running_hosts(tmp_path, *addresses, peers=addresses, challenges="acme") as (first, second):
        answers = second.folder / "acme/.well-known/acme-challenge"
        answers.mkdir(parents=True)
        (answers / "token").write_text("the answer")
        for host in (first, second):
            url = f"http://{host.address}:{host.http_port}"
            for path, status in (("token", 200), ("other", 404), ("../../../site.key", 400)):
                seen = curl("--path-as-is", f"{url}/.well-known/acme-challenge/{path}")
                assert seen == f"1.1 {status}", path
            answer = httpx.get(f"{url}/.well-known/acme-challenge/token")
            assert answer.text == "the answer"
            assert answer.headers["content-type"] == "text/plain"
            assert httpx.get(f"{url}/v1/x").status_code == 404  # nothing else without TLS


@needs_nginx
def test_metrics_are_those_of_the_host_that_is_asked(fleet: list[Host]) -> None:
    fleet[1].switch("green")
    for _ in range(4):
        assert fleet[0].get("/metrics").json()["name"] == "blue of 127.0.0.2"
        assert fleet[1].get("/metrics").json()["name"] == "green of 127.0.0.3"


@needs_nginx
def test_a_host_that_is_not_ready_gets_no_requests(fleet: list[Host]) -> None:
    with Load(fleet[0]) as load:
        load.wait_for("blue of 127.0.0.3")
        fleet[1].slots["blue"].status = 503
        load.wait_for("blue of 127.0.0.2", 100)
        fleet[1].slots["blue"].status = 200
        load.wait_for("blue of 127.0.0.3", 1)  # it comes back by itself


@needs_nginx
def test_a_killed_host_costs_no_request(fleet: list[Host]) -> None:
    with Load(fleet[0]) as load:
        load.wait_for("blue of 127.0.0.3")
        fleet[1].kill()
        load.wait_for("blue of 127.0.0.2", 200)


@needs_nginx
def test_the_hosts_believe_nobody_else(fleet: list[Host], tmp_path: Path) -> None:
    other = self_signed([FLEET_NAME], 2)
    (tmp_path / "other.crt").write_text(other.certificate)
    (tmp_path / "other.key").write_text(other.private_key)
    own = tmp_path / "127.0.0.2" / "fleet"
    for certificate, expected in ((None, "400"), (tmp_path / "other", "400"), (own, "200")):
        shown = [] if certificate is None else [
            "--cert", f"{certificate}.crt", "--key", f"{certificate}.key"]  # fmt: skip
        url = f"https://127.0.0.2:{layout.FLEET_PORT}/v1/x"
        assert curl(*shown, "--cacert", f"{own}.crt", url) == f"1.1 {expected}"
    # Nor does a host send anything to one that shows another certificate.
    for kind in ("crt", "key"):
        shutil.copy(tmp_path / f"other.{kind}", tmp_path / "127.0.0.3" / f"fleet.{kind}")
    conf = str(fleet[1].folder / "nginx.conf")
    subprocess.run([str(NGINX), "-e", "stderr", "-c", conf, "-s", "reload"], check=True)
    for _ in range(200):
        answers = {fleet[0].get("/v1/x").json()["name"] for _ in range(6)}
        if answers == {"blue of 127.0.0.2"}:
            break
    assert answers == {"blue of 127.0.0.2"}


def test_http_2_is_asked_for_as_the_version_has_it() -> None:
    old, new = HostSite(nginx_version="1.22.1").render(), HostSite(nginx_version="1.25.1").render()
    assert "listen 443 ssl http2;" in old
    assert "http2 on;" not in old
    assert "listen 443 ssl;" in new
    assert "http2 on;" in new


def test_port_80_leads_to_https_and_answers_acme() -> None:
    text = HostSite(nginx_version="1.22.1", port=8443, challenges="/x").render()
    assert "return 308 https://$host:8443$request_uri;" in text
    assert "location ^~ /.well-known/acme-challenge/" in text
    without = HostSite(nginx_version="1.22.1", redirect_http=False, challenges="/x").render()
    assert "return 404;" in without
    assert "listen 80" not in HostSite(nginx_version="1.22.1", redirect_http=False).render()


def test_a_peer_may_be_an_address_of_either_kind_or_a_name() -> None:
    peers = ("10.0.0.1", "fd00::1", "b.example.com")
    text = HostSite(nginx_version="1.22.1", peers=peers).render()
    for server in ("10.0.0.1:5443", "[fd00::1]:5443", "b.example.com:5443"):
        assert f"server {server} max_fails" in text


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"server_names": ("a;b",)}, "server_names"),
        ({"server_names": ()}, "server_names"),
        ({"peers": ("10.0.0.1\n",)}, "peers"),
        ({"certificate_key": "/x y"}, "certificate_key"),
        ({"challenges": "/x{"}, "challenges"),
        ({"trusted_proxies": ("10.0.0.0/33",)}, "trusted_proxies"),
        ({"metrics_from": ("all",)}, "metrics_from"),
        ({"nginx_version": "1.14.1"}, "nginx_version"),
        ({"nginx_version": "new"}, "nginx_version"),
    ],
)
def test_a_value_that_would_be_another_setting_is_refused(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        HostSite(**{"nginx_version": "1.22.1", **values})
