"""A rolling release under load: real servers as pods, replaced in the chart's order."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from sixways_bundle.build import Request
from sixways_bundle.worker import build_in_child
from sixways_server.auth import add_key
from tests.engine.deployment import MINILM
from tests.engine.rollout import PRE_STOP, Cluster, Load, environment

pytestmark = pytest.mark.engine
_REPLICAS = 3


@pytest.fixture(scope="module")
def bundle() -> Path:
    return build_in_child(
        Request(name=MINILM["name"], source=MINILM["source"], variants=(MINILM["variant"],))
    ).path


async def test_three_servers_are_replaced_under_load_and_no_request_fails(
    bundle: Path, tmp_path: Path
) -> None:
    key = add_key(tmp_path / "keys.json")
    cluster = Cluster(tmp_path, environment(bundle, tmp_path / "keys.json"))
    async with cluster.running(_REPLICAS):
        load = Load(cluster.address, key)
        old = list(cluster.pods)
        async with load.running():
            await _until(load, 10)
            ends = []
            for pod in old:
                await cluster.start()  # the surge: ready before one of the old has to go
                ends.append(
                    asyncio.create_task(cluster.end(pod, pre_stop=PRE_STOP, how=signal.SIGTERM))
                )
            statuses = await asyncio.gather(*ends)
            await _until(load, 10)
        assert load.failed == []
        assert statuses == [0, 0, 0], [pod.said() for pod in old]
        new = cluster.pods[_REPLICAS:]
        assert all(pod.connections for pod in (*old, *new)), "every pod had its part"
        assert all(pod.process.poll() is None for pod in new)


@pytest.mark.parametrize(
    ("pre_stop", "how"),
    [
        pytest.param(0.0, signal.SIGTERM, id="without a pause before SIGTERM"),
        pytest.param(PRE_STOP, signal.SIGKILL, id="without a drain"),
    ],
)
async def test_a_pod_that_goes_in_another_order_fails_requests(
    bundle: Path, tmp_path: Path, pre_stop: float, how: signal.Signals
) -> None:
    """The test above can fail: what the chart does is what keeps it from it."""
    key = add_key(tmp_path / "keys.json")
    cluster = Cluster(tmp_path, environment(bundle, tmp_path / "keys.json"))
    async with cluster.running(2):
        load = Load(cluster.address, key)
        async with load.running():
            await _until(load, 10)
            await cluster.end(cluster.pods[0], pre_stop=pre_stop, how=how)
        assert load.failed


async def _until(load: Load, more: int) -> None:
    """Until every kind of caller has had so many answers more."""
    target = {kind: load.done[kind] + more for kind in ("kept", "long", "fresh")}
    async with asyncio.timeout(120):
        while any(load.done[kind] < count for kind, count in target.items()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
