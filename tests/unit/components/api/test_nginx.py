"""What an Nginx gateway refuses, what it writes, and what the plugin says an update will do."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

import sixways
from sixways.api.nginx_args import problems
from sixways.api.nginx_files import Machine, render
from sixways.plugin.nginx_here import Here
from sixways.plugin.nginx_place import configuration_id
from sixways.plugin.nginx_process import NginxProcessResource
from sixways.plugin.resource import Call, Values
from sixways.plugin.values import UNKNOWN
from sixways_bundle import BundleError

KEY = "ann-key-0123456789abcdef"
URN = "urn:pulumi:dev::shop::sixways:api:NginxProcess::gateway-nginx"
GOOD: dict[str, Any] = {
    "upstream": {
        "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://10.0.0.2"}],
        "health_path": "/readyz",
    },
    "plans": [{"name": "free", "requests_per_second": 5}],
    "keys": [{"name": "ann", "plan": "free", "key": KEY}],
}
HOST = {"address": "10.0.0.9", "host_key": f"ssh-ed25519 {'A' * 68}"}
PEM = "-----BEGIN CERTIFICATE-----"
LOCKED = "-----BEGIN ENCRYPTED PRIVATE KEY-----"


def refused(**changes: Any) -> list[str]:
    args = {**copy.deepcopy(GOOD), **changes}
    return sorted(one.field for one in problems("gateway", args))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"host": HOST, "tls": {"self_signed": True}}, []),
        ({"plans": [{"name": "free", "quota": 5, "tokens_per_minute": 9}]},
         ["plans[0].quota", "plans[0].tokens_per_minute"]),
        ({"plans": [{"name": "free", "requests_per_second": 0.01}]},
         ["plans[0].requests_per_second"]),
        ({"keys": [*GOOD["keys"], {"name": "bob", "plan": "free", "key": KEY.upper()}]},
         ["keys[1].key"]),
        ({"listen": "0.0.0.0"}, ["tls"]),  # noqa: S104 - is refused
        ({"listen": "0.0.0.0", "dev": True}, []),  # noqa: S104 - nothing listens
        ({"listen": "::1"}, []),
        ({"host": HOST}, ["tls"]),
        ({"host": HOST, "listen": "127.0.0.1"}, []),
        ({"host": {"address": "a b"}, "dev": True, "state_dir": "x"},
         ["host.address", "host.host_key", "state_dir"]),
        ({"tls": {"self_signed": True, "certificate": PEM}}, ["tls.self_signed"]),
        ({"tls": {"certificate": "tls.crt"}}, ["tls.certificate", "tls.certificate_key"]),
        ({"tls": {"certificate": PEM, "certificate_key": LOCKED}}, ["tls.certificate_key"]),
        ({"tags": {"team": "ml"}}, ["tags"]),
        ({"log": {"kind": "stdout"}}, ["log.kind"]),
        ({"log": {"kind": "file", "target": "/var/log/a.json", "retention_days": 3}},
         ["log.retention_days"]),
        ({"port": 80, "metrics_port": 80}, ["metrics_port"]),
        ({"trusted_proxies": ["10.0.0.1/8"]}, ["trusted_proxies[0]"]),
        ({"upstream": {"health_path": "/", "instances": [{"url": "https://a"},
                                                         {"url": "https://b"}]}},
         ["upstream.tls_name"]),
        ({"upstream": {"health_path": "/", "tls_name": "m.example.com",
                       "instances": [{"url": "https://10.0.0.1"}, {"url": "https://b"}]}}, []),
    ],
)  # fmt: skip
def test_what_nginx_has_not_is_refused_by_name(changes: dict[str, Any], fields: list[str]) -> None:
    assert refused(**changes) == fields


def written(version: tuple[int, ...] = (1, 22, 1), **changes: Any) -> dict[str, str]:
    args = {**copy.deepcopy(GOOD), "listen": "127.0.0.1", "port": 8080, **changes}
    return render(args, Machine(version=version, user=None, authorities="/etc/ca.crt"))


def test_rates_are_those_of_the_plans() -> None:
    plans = [
        {"name": "a", "requests_per_second": 5},
        {"name": "b", "requests_per_second": 0.5, "burst": 1},
        {"name": "c", "requests_per_second": 2.5, "burst": 9},
    ]
    text = written(plans=plans)["nginx.conf"]
    assert re.findall(r"zone=(\w+):1m rate=(\S+);", text) == [
        ("sixways_plan_0", "5r/s"), ("sixways_plan_1", "30r/m"), ("sixways_plan_2", "150r/m"),
    ]  # fmt: skip
    limits = set(re.findall(r"limit_req zone=(\S+?)( burst=\d+)?(?: nodelay)?;", text))
    assert limits == {
        ("sixways_plan_0", " burst=9"), ("sixways_plan_1", ""), ("sixways_plan_2", " burst=8"),
    }  # fmt: skip
    assert '"\\\\b" 2;' in text


def test_a_path_is_refused_where_it_is_not_sent_on_as_it_is_matched() -> None:
    text = written()["nginx.conf"]
    pattern = re.search(r'map \$request_uri \$sixways_odd \{\n.*\n +"~\*(.*)" 1;', text)
    assert pattern
    odd = re.compile(pattern[1].replace("\\\\", "\\"), re.IGNORECASE)
    refused = ("//v1", "/docs/../v1", "/docs/..", "/docs/..?a", "/docs/.", "/docs/%2E%2e/v1",
               "/docs%2fv1", "/docs/%5c..", "/docs\\v1", "/docs#/v1", "/docs/..#")  # fmt: skip
    assert [path for path in refused if not odd.search(path)] == []
    taken = ("/docs", "/docs?a=//b/../c#d", "/v1/models/a..b", "/v1/.well-known", "/%64ocs")
    assert [path for path in taken if odd.search(path)] == []


def test_http2_is_written_as_the_version_wants_it() -> None:
    tls = {"certificate": PEM, "certificate_key": "-----BEGIN PRIVATE KEY-----"}
    old, new = (written(version, **tls)["nginx.conf"] for version in ((1, 25, 0), (1, 25, 1)))
    assert "127.0.0.1:8080 ssl http2 " in old
    assert "http2 on;" not in old
    assert "127.0.0.1:8080 ssl backlog" in new
    assert "http2 on;" in new
    assert "http2" not in written()["nginx.conf"]


def test_the_keys_stand_in_their_own_file_alone() -> None:
    keys = [{"name": "ann", "plan": "free", "key": KEY, "previous_key": "~old-key-0123456789ab"}]
    files = written(keys=keys, upstream_key='a"b$c\\d-0123456789')
    assert KEY not in files["nginx.conf"]
    assert f'"\\\\{KEY}" "ann {KEY}";' in files["keys.conf"]
    assert '"\\\\~old-key-0123456789ab" "ann ~old-key-0123456789ab";' in files["keys.conf"]
    assert 'default "a\\"b$c\\\\d-0123456789";' in files["keys.conf"]


def test_the_health_path_is_open_unless_a_route_says_otherwise() -> None:
    only = [{"path": "/v1/*"}]
    assert "location = /readyz {" in written(routes=only)["nginx.conf"]
    guarded = written(routes=[*only, {"path": "/readyz"}])["nginx.conf"]
    assert guarded.count("location = /readyz {") == 1
    block = guarded.partition("location = /readyz {")[2]
    assert block.index("return 401") < block.index("proxy_pass")


def wire(**changes: Any) -> Values:
    return {
        "upstream": {
            "instances": [{"url": "http://10.0.0.1:5000"}, {"url": "http://10.0.0.2"}],
            "healthPath": "/readyz",
        },
        "plans": [{"name": "free", "requestsPerSecond": 5}],
        "keys": [{"name": "ann", "plan": "free", "key": KEY}],
        "stateDir": "state",
        **changes,
    }


@pytest.fixture
def call() -> Call:
    return Call(URN, lambda severity, message, ephemeral: None)


def test_the_plugin_checks_what_was_an_output_before(call: Call) -> None:
    resource = NginxProcessResource()
    assert resource.check(call, wire())[1] == []
    assert resource.check(call, wire(upstream=UNKNOWN, keys=UNKNOWN, stateDir=UNKNOWN))[1] == []
    later = [{"name": "ann", "plan": "free", "key": UNKNOWN}]
    assert resource.check(call, wire(keys=later))[1] == []
    _, found = resource.check(call, wire(
        plans=[{"name": "free", "requestsPerSecond": 5, "burst": 1}], upstreamKey="hush",
        keys=[{"name": "ann", "plan": "gold"}], colour="blue", maxBodyBytes=0,
    ))  # fmt: skip
    assert sorted(one.field for one in found) == [
        "colour", "keys[0].key", "keys[0].plan", "maxBodyBytes", "plans[0].burst", "upstreamKey",
    ]  # fmt: skip
    assert "hush" not in str(found)


def test_only_another_place_replaces_it(call: Call) -> None:
    resource = NginxProcessResource()
    inputs, _ = resource.check(call, wire())
    state = {**inputs, "status": "running", "version": sixways.__version__}
    assert not resource.diff(call, state, inputs)
    in_place: list[Values] = [{"plans": []}, {"port": 81}, {"keys": []}, {"listen": "127.0.0.2"}]
    for changes in in_place:
        found = resource.diff(call, state, {**inputs, **changes})
        assert (list(found.update), list(found.replace)) == (list(changes), [])
    assert list(resource.diff(call, state, {**inputs, "stateDir": "b"}).replace) == ["stateDir"]
    assert list(resource.diff(call, {**state, "status": "stopped"}, inputs).update) == ["status"]
    there = {**{k: v for k, v in inputs.items() if k != "stateDir"}, "host": {"address": "a"}}
    state = {**there, "status": "running", "version": sixways.__version__}
    other_user = {**there, "host": {"address": "a", "user": "deploy"}, "privateKey": "x"}
    found = resource.diff(call, state, other_user)
    assert (set(found.update), list(found.replace)) == ({"host", "privateKey"}, [])
    assert list(resource.diff(call, state, {**there, "host": {"address": "b"}}).replace) == ["host"]


def test_a_configuration_is_named_by_its_files() -> None:
    one = {"a": "1", "b": "2"}
    assert configuration_id(one) == configuration_id(dict(reversed(one.items())))
    assert configuration_id(one) != configuration_id({"a": "12", "b": ""})


class _Spoken(Here):
    """A gateway that runs, whose Nginx says the same to every reload."""

    words = ""

    def machine(self) -> Machine:
        raise NotImplementedError

    def running(self) -> bool:
        return True

    def test(self, configuration: str) -> str | None:
        return None

    def reload(self) -> None:
        with (Path(self.folder) / "error.log").open("a") as log:
            log.write(self.words)


def test_a_reload_fails_by_what_it_says_itself_alone(tmp_path: Path) -> None:
    place = _Spoken(tmp_path / "gateway")
    place.words = (
        "[alert] 7#7: *3 open socket #9 left in connection 4\n"  # of a worker of long ago
        "[notice] 1#1: start worker process 8\n[notice] 5#5: gracefully shutting down\n"
    )
    new = place.deploy(written(), lambda line: None)
    assert place.live() == new
    place.words = "[emerg] 1#1: bind() to 127.0.0.1:81 failed\n"
    with pytest.raises(BundleError, match="failed"):
        place.deploy(written(port=81), lambda line: None)
    assert place.live() == new
