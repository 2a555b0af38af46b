"""A host under another name: its old resources are deleted when the new ones stand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from sixways.plugin import hosts, monitoring
from sixways.plugin.monitoring import MonitoringResource
from sixways.plugin.release import ReleaseResource
from sixways.plugin.resource import Call, Resource, Values
from sixways.plugin.site import SiteResource
from sixways.server import holder, layout, watching
from sixways.server.ssh import ConnectionLost
from tests.unit.components.server.fake_host import FakeHost

STATE: Values = {
    "address": "10.0.0.2", "supervisor": "systemd", "startedNginx": False, "owner": "shop/prod",
    "holder": "old",
}  # fmt: skip
OURS = {
    layout.config("blue"): b"{}",
    layout.KEYS: b"{}",
    layout.NGINX_SITE: b"server {}",
    watching.OWNER: b'{"owner": "shop/prod"}',
    watching.UNIT_FILE: b"[Unit]",
}


@pytest.mark.parametrize(
    ("resource", "path", "one"),
    [
        (ReleaseResource(), holder.RELEASE, layout.KEYS),
        (SiteResource(), holder.SITE, layout.NGINX_SITE),
        (MonitoringResource(), watching.HOLDER, watching.UNIT_FILE),
    ],
)
def test_what_another_resource_took_over_stays_and_the_own_goes(
    resource: Resource, path: str, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHost(files=dict(OURS))
    call = Call(f"urn:pulumi:dev::x::{resource.token}::web", lambda *_: None)

    @contextlib.contextmanager
    def connect(_: Any) -> Iterator[FakeHost]:
        yield fake

    monkeypatch.setattr(hosts, "host", connect)
    monkeypatch.setattr(monitoring, "host", connect)

    holder.take(fake, path, "new")
    before = dict(fake.files)
    resource.delete(call, "id", STATE)
    assert fake.files == before
    resource.delete(call, "id", {**STATE, "holder": "new"})
    assert one not in fake.files
    assert path not in fake.files

    fake.files = dict(OURS)  # it was never made to its end
    resource.delete(call, "id", STATE)
    assert one not in fake.files


@pytest.mark.parametrize("resource", [ReleaseResource(), SiteResource(), MonitoringResource()])
def test_a_host_that_is_gone_for_good_can_be_forgotten(
    resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def silent(_: Any) -> Iterator[FakeHost]:
        raise ConnectionLost("root@10.0.0.2 does not answer")
        yield

    monkeypatch.setattr(hosts, "host", silent)
    monkeypatch.setattr(monitoring, "host", silent)
    urn = f"urn:pulumi:dev::x::{resource.token}::web"
    with pytest.raises(ConnectionLost, match=f"does not answer.*pulumi state delete '{urn}'"):
        resource.delete(Call(urn, lambda *_: None), "id", STATE)
