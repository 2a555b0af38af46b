"""Who may call."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from sixways_bundle import BundleError
from sixways_server import auth
from sixways_server.auth import OPEN_PATHS, KeyStore, add_key
from sixways_server.errors import Unauthorized
from tests.unit.server.conftest import Live


def test_every_route_but_the_open_ones_needs_a_key(live: Live) -> None:
    routes = [route for route in live.app.routes if hasattr(route, "path")]
    assert len(routes) > 15
    with httpx.Client(base_url=live.url) as client:
        for route in routes:
            path = str(route.path).format(model="mini", version="1")
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                status = client.request(method, path).status_code
                if path in OPEN_PATHS:
                    assert status in (200, 503), (method, path, status)
                else:
                    assert status == 401, (method, path, status)


def test_every_open_path_is_one_of_the_routes_or_the_page(live: Live) -> None:
    paths = {route.path for route in live.app.routes if isinstance(route, Route)}
    assert paths | {"/"} >= OPEN_PATHS


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/nothing", "//healthz", "/healthz/", "/healthz/../v1/models"]
)
def test_an_unknown_path_needs_a_key_as_well(live: Live, path: str) -> None:
    with httpx.Client(base_url=live.url) as client:
        assert client.get(httpx.URL(live.url, path=path)).status_code == 401


def test_no_key_is_answered_in_the_shape_of_the_protocol(live: Live) -> None:
    with httpx.Client(base_url=live.url) as client:
        openai = client.post("/v1/embeddings", json={})
        v2 = client.post("/v2/models/mini/infer", json={})
    assert openai.headers["www-authenticate"].startswith("Bearer")
    assert openai.json()["error"]["code"] == "invalid_api_key"
    assert isinstance(v2.json()["error"], str)


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_either_header_opens_and_a_wrong_key_does_not(live: Live, header: str) -> None:
    prefix = "Bearer " if header == "authorization" else ""
    with httpx.Client(base_url=live.url) as client:
        right = client.get("/v1/models", headers={header: prefix + live.key})
        wrong = client.get("/v1/models", headers={header: prefix + live.key[:-1]})
    assert (right.status_code, wrong.status_code) == (200, 401)
    assert live.key[:-1] not in wrong.text


def test_the_key_may_be_the_password_of_any_user(live: Live) -> None:
    with httpx.Client(base_url=live.url) as client:
        for user in ("", "sixways"):
            assert client.get("/v1/models", auth=(user, live.key)).status_code == 200
        assert client.get("/v1/models", auth=(live.key, "")).status_code == 401
        for wrong in ("x", "=", "a:b", live.key):
            headers = {"authorization": f"Basic {wrong}"}
            assert client.get("/v1/models", headers=headers).status_code == 401


def test_a_request_without_a_key_is_refused_before_its_body_is_sent(live: Live) -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n"
    with live.raw() as raw:
        raw.sendall(head)
        assert raw.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_store_names_the_key_and_knows_several(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, second = add_key(path, "first"), add_key(path, "second")
    store = KeyStore(path)
    assert (store.check(first), store.check(second)) == ("first", "second")
    for wrong in (None, "", "x", hashlib.sha256(first.encode()).hexdigest(), "ü"):
        with pytest.raises(Unauthorized):
            store.check(wrong)


def test_the_file_holds_no_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path)
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_changed_file_counts_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_RECHECK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    old = add_key(path)
    store = KeyStore(path)
    new = add_key(path)
    assert store.check(new) == "default"
    with pytest.raises(Unauthorized):
        store.check(old)


def test_a_file_that_became_wrong_leaves_the_keys_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auth, "_RECHECK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    key = add_key(path)
    store = KeyStore(path)
    path.write_text("{")
    assert store.check(key) == "default"
    assert "stay as they were" in caplog.text
    path.unlink()
    assert store.check(key) == "default"


def test_the_file_is_looked_at_once_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path)
    store = KeyStore(path)
    looks: list[object] = []
    monkeypatch.setattr(store, "_stat", lambda: looks.append(None))
    for _ in range(100):
        store.check(key)
    assert len(looks) <= 1


@pytest.mark.parametrize(
    "content", ["", "[]", '{"keys": 1}', '{"keys": [{"name": "a", "sha256": "00"}]}']
)
def test_a_wrong_file_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="keys_file"):
        KeyStore(path)


def test_a_live_server_takes_a_new_key_within_seconds(live: Live) -> None:
    extra = "sk-second"
    keys = json.loads(live.keys_file.read_bytes())["keys"]
    keys.append({"name": "second", "sha256": hashlib.sha256(extra.encode()).hexdigest()})
    live.keys_file.write_text(json.dumps({"keys": keys}))
    os.utime(live.keys_file)
    end = time.monotonic() + 3
    with httpx.Client(base_url=live.url, headers={"x-api-key": extra}) as client:
        while client.get("/v1/models").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
