"""`sixways:server:SelfSignedCertificate` as the engine calls it."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from sixways.plugin.certificate import SelfSignedCertificateResource
from sixways.plugin.resource import Call
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError

_RESOURCE = SelfSignedCertificateResource()


def call() -> Call:
    return Call("urn:pulumi:dev::p::sixways:server:SelfSignedCertificate::c", lambda *_: None)


def made(**inputs: Any) -> dict[str, Any]:
    checked, problems = _RESOURCE.check(call(), {"names": ["localhost", "127.0.0.1"], **inputs})
    assert problems == []
    return _RESOURCE.create(call(), checked, preview=False)[1]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_both_sides_of_a_connection_believe_it(name: str, tmp_path: Path) -> None:
    state = made()
    path = tmp_path / "both.pem"
    path.write_text(state["certificate"] + state["privateKey"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    server.load_verify_locations(path)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(path))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(path)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listener, server.wrap_socket(listener.accept()[0], server_side=True) as line:
            line.sendall(line.recv(4).upper())

    thread = threading.Thread(target=answer)
    thread.start()
    address = listener.getsockname()
    with (
        socket.create_connection(address, timeout=10) as plain,
        client.wrap_socket(plain, server_hostname=name) as line,
    ):
        line.sendall(b"ping")
        assert line.recv(4) == b"PING"
    thread.join(10)


def test_it_stays_until_an_input_changes_or_its_end_is_near() -> None:
    state = made(days=90)
    inputs = {"names": ["localhost", "127.0.0.1"], "days": 90, "generation": 1}
    assert not _RESOURCE.diff(call(), state, inputs)
    assert _RESOURCE.diff(call(), state, {**inputs, "generation": 2}).replace == ["generation"]
    assert _RESOURCE.diff(call(), state, {**inputs, "names": ["x"]}).replace == ["names"]
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=29)
    late = {**state, "notAfter": soon.isoformat()}
    assert _RESOURCE.diff(call(), late, inputs).replace == ["notAfter"]
    with pytest.raises(BundleError):
        _RESOURCE.update(call(), state, inputs, preview=False)


def test_one_of_few_days_is_not_made_anew_at_once() -> None:
    state = made(days=2)
    inputs = {"names": ["localhost", "127.0.0.1"], "days": 2, "generation": 1}
    assert not _RESOURCE.diff(call(), state, inputs)


def test_a_preview_makes_none_and_a_refresh_leaves_it() -> None:
    inputs = {"names": UNKNOWN, "days": 2, "generation": 1}
    made_id, outputs = _RESOURCE.create(call(), inputs, preview=True)
    assert made_id == ""
    assert is_unknown(outputs["privateKey"])
    assert _RESOURCE.read(call(), "x", {}) is None
    assert _RESOURCE.read(call(), "x", made()) is not None


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ({}, ["names"]),
        ({"names": "x"}, ["names"]),
        ({"names": ["a b", "-x", "10.0.0.300", "*.example.com", "fd00::1", "a_b"], "days": 0},
         ["names[0]", "names[1]", "names[2]", "names[5]", "days"]),
        ({"names": ["x"], "generation": True, "day": 3}, ["day", "generation"]),
        ({"names": [UNKNOWN], "days": UNKNOWN}, []),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_once(inputs: dict[str, Any], fields: list[str]) -> None:
    _, problems = _RESOURCE.check(call(), inputs)
    assert [problem.field for problem in problems] == fields
