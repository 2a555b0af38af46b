"""Several workers are one server: one address, one set of figures, one end."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from sixways_server.auth import add_key
from tests.ports import free_port
from tests.unit.server.conftest import Process
from tests.unit.server.test_handover import Hammer, stream_words
from tests.unit.server.test_metrics import samples, values

Launch = Callable[..., Process]
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
MINI = {"model_name": "mini", "protocol": "openai", "operation": "embeddings", "status": "200"}
COUNT = ("gen_ai_server_request_duration_seconds_count", tuple(sorted(MINI.items())))
RUNNING = ("sixways_num_requests_running", (("model_name", "mini"),))


def workers_of(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.child.pid).children()


def folders_of(process: Process) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"sixways-{process.child.pid}-*"))


def ask(url: str, key: str, client: httpx.Client | None = None) -> httpx.Response:
    post = client.post if client else httpx.post
    body = {"model": "mini", "input": "a b"}
    return post(f"{url}/v1/embeddings", json=body, headers={"x-api-key": key}, timeout=20)


@contextlib.contextmanager
def several_clients(count: int) -> Iterator[list[httpx.Client]]:
    """Each keeps a connection open, so that every worker gets some of them."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(httpx.Client(timeout=20)) for _ in range(count)]


def served_by(process: Process) -> Counter[int]:
    """Requests in the log, by the pid of the worker that answered."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    return Counter(line["pid"] for line in lines if line["message"] == "request")


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_figures_are_sums_whichever_worker_tells_them(launch: Launch) -> None:
    key: str = launch.key  # type: ignore[attr-defined]
    process = launch(workers=2)
    status = process.wait_for("ready")
    assert status["pid"] == process.child.pid
    url = status["url"]
    pids = {worker.pid for worker in workers_of(process)}
    assert len(pids) == 2
    with several_clients(8) as clients:
        for client in clients * 5:
            assert ask(url, key, client).status_code == 200
    # A request is counted and logged a moment after its answer is out.
    wait_until(lambda: sum(served_by(process).values()) == 40)
    assert set(served_by(process)) == pids, "one worker answered everything"
    with several_clients(8) as clients:
        for client in clients:
            found = samples(client.get(f"{url}/metrics").text)
            assert found[COUNT] == 40
            assert found["sixways_prompt_tokens_total", (("model_name", "mini"),)] == 80
            assert found[RUNNING] == 0
            assert found["sixways_processes", ()] == 3
            figures = client.get(f"{url}/console.json").json()
            assert figures["workers"] == 2
            assert figures["windows"]["5m"]["requests"] == 40
            assert figures["in_flight"] == 0


def test_what_is_in_flight_is_the_sum_too(launch: Launch) -> None:
    key: str = launch.key  # type: ignore[attr-defined]
    process = launch(workers=2)
    url = process.wait_for("ready")["url"]
    results: list[list[str]] = [[] for _ in range(6)]
    threads = [threading.Thread(target=stream_words, args=(url, key, 40, r)) for r in results]
    for thread in threads:
        thread.start()
    running = ("sixways_num_requests_running", (("model_name", "echo"),))
    wait_until(lambda: values(url).get(running) == 6)
    for _ in range(4):
        assert httpx.get(f"{url}/console.json").json()["in_flight"] == 6
    for thread in threads:
        thread.join(20)
    assert all(result[-1] == "data: [DONE]" for result in results)
    assert values(url)[running] == 0


def test_connections_are_shared_among_the_workers(launch: Launch) -> None:
    process = launch(workers=2)
    url = process.wait_for("ready")["url"]
    with several_clients(12) as clients:
        for client in clients:
            client.get(f"{url}/healthz")
        # One of each worker's is the listening socket.
        open_here = [len(worker.net_connections("tcp")) - 1 for worker in workers_of(process)]
        assert sum(open_here) == 12
        assert max(open_here) - min(open_here) <= 4


def test_a_killed_worker_is_replaced_and_no_figure_falls(launch: Launch) -> None:
    key: str = launch.key  # type: ignore[attr-defined]
    process = launch(workers=2)
    url = process.wait_for("ready")["url"]
    with Hammer(url, key, 6) as hammer:
        time.sleep(0.5)
        before = values(url)[COUNT]
        assert before > 20
        victim, other = workers_of(process)
        victim.kill()
        answered = hammer.answered

        def replaced() -> bool:
            now = {worker.pid for worker in workers_of(process)}
            return len(now) == 2 and victim.pid not in now

        wait_until(replaced)

        def new_one_serves() -> bool:
            assert ask(url, key).status_code == 200
            return len(served_by(process)) == 3

        wait_until(new_one_serves)
        assert hammer.answered > answered + 20
        assert other.is_running()
    # Only what the dead worker had in its hands failed: at most one request a client.
    assert len(hammer.failures) <= 6
    assert all("Error(" in failure for failure in hammer.failures), hammer.failures
    wait_until(lambda: values(url)[RUNNING] == 0)
    # What the dead worker had counted is in it. It may have died between count and log line.
    wait_until(lambda: 0 <= values(url)[COUNT] - sum(served_by(process).values()) <= 1)
    assert values(url)[COUNT] >= before
    assert process.status["state"] == "ready"


@pytest.mark.parametrize("to", ["master", "all"])
def test_sigterm_under_load_fails_no_accepted_request(launch: Launch, to: str) -> None:
    """`all`: as systemd ends a service, every process gets the signal."""
    key: str = launch.key  # type: ignore[attr-defined]
    process = launch(workers=2, linger_seconds=1)
    url = process.wait_for("ready")["url"]
    results: list[list[str]] = [[] for _ in range(4)]
    streams = [threading.Thread(target=stream_words, args=(url, key, 40, r)) for r in results]
    codes: list[int] = []
    broken: list[str] = []

    def hammer() -> None:
        with httpx.Client() as client:
            while True:
                try:
                    codes.append(ask(url, key, client).status_code)
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    broken.append(repr(error))
                    return

    threads = [*streams, *(threading.Thread(target=hammer) for _ in range(4))]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    workers = workers_of(process)
    assert folders_of(process)
    for one in [process.child, *(workers if to == "all" else [])]:
        one.send_signal(signal.SIGTERM)
    wait_until(lambda: process.status["state"] == "draining")
    for thread in threads:
        thread.join(20)
    assert process.child.wait(10) == 0
    assert process.status["state"] == "stopped"
    assert broken == []
    assert len(codes) > 50
    assert set(codes) == {200}
    assert all(result[-1] == "data: [DONE]" for result in results)
    assert not any(worker.is_running() for worker in workers)
    assert not folders_of(process)


@pytest.mark.parametrize("after", ["opening the port", "0 workers", "1 worker", "2 workers"])
def test_a_signal_at_any_moment_of_the_start_ends_it(launch: Launch, after: str) -> None:
    models = [{"name": "mini", "path": "dummy:embeddings?load=1"}]
    process = launch(workers=2, models=models)

    def so_far() -> bool:
        if after == "opening the port":
            return str(process.status.get("message")) == after
        count = int(after.split()[0])
        return bool(folders_of(process)) and len(workers_of(process)) >= count

    wait_until(so_far)
    process.child.terminate()
    assert process.child.wait(20) == 0
    assert process.status["state"] == "stopped"
    assert not folders_of(process)
    assert '"level":"error"' not in process.log.read_text()


def test_a_second_signal_ends_all_of_them_now(launch: Launch) -> None:
    process = launch(workers=2, linger_seconds=20)
    url = process.wait_for("ready")["url"]
    workers = workers_of(process)
    with httpx.Client() as client:
        client.get(f"{url}/healthz")
        process.child.terminate()
        process.wait_for("draining")
        process.child.send_signal(signal.SIGINT)
        assert process.child.wait(5) == 0
    assert not any(worker.is_running() for worker in workers)


def test_workers_end_when_their_master_is_killed(launch: Launch) -> None:
    process = launch(workers=2)
    process.wait_for("ready")
    workers = workers_of(process)
    process.child.kill()
    process.child.wait(5)
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    assert not folders_of(process)


def test_a_worker_that_hangs_is_replaced(launch: Launch) -> None:
    process = launch("import sixways_server.workers as w; w._HUNG_SECONDS = 2", workers=2)
    url = process.wait_for("ready")["url"]
    victim = workers_of(process)[0]
    time.sleep(1.5)  # it has told the master at least once that it lives
    victim.suspend()
    wait_until(lambda: victim.pid not in {worker.pid for worker in workers_of(process)})
    wait_until(lambda: len(workers_of(process)) == 2)
    assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_model_that_cannot_be_opened_ends_the_start_with_its_reason(launch: Launch) -> None:
    process = launch(workers=3, models=[{"name": "mini", "path": "dummy:nothing"}])
    assert process.child.wait(20) == 1
    assert process.status["state"] == "failed"
    assert "dummy:nothing" in process.status["error"]
    assert process.status["pid"] == process.child.pid


def test_a_worker_that_dies_before_all_are_ready_ends_the_start(launch: Launch) -> None:
    models = [{"name": "mini", "path": "dummy:embeddings?load=30"}]
    process = launch(workers=2, models=models)
    wait_until(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    workers[0].kill()
    assert process.child.wait(10) == 1
    assert process.status["state"] == "failed"
    assert not any(worker.is_running() for worker in workers)


def test_a_replacement_that_cannot_start_is_tried_again_and_the_others_go_on(
    launch: Launch, tmp_path: Path
) -> None:
    # The engine cannot be opened as long as the file is there.
    wall = tmp_path / "wall"
    prelude = f"""
import pathlib, sixways_server.serving as s, sixways_server.workers as w
from sixways_bundle import BundleError
w._RETRY_SECONDS = 1.5
real = s.open_model
def open_model(model, config):
    if pathlib.Path({str(wall)!r}).exists():
        raise BundleError("there is a wall")
    return real(model, config)
s.open_model = open_model
"""
    process = launch(prelude, workers=2)
    url = process.wait_for("ready")["url"]
    wall.touch()
    workers_of(process)[0].kill()
    wait_until(lambda: "there is a wall" in process.log.read_text())
    wait_until(lambda: len(workers_of(process)) == 1)
    time.sleep(0.5)
    assert len(workers_of(process)) == 1, "tried again at once"
    assert httpx.get(f"{url}/readyz").status_code == 200
    wall.unlink()
    wait_until(lambda: len(workers_of(process)) == 2)
    wait_until(lambda: process.log.read_text().count('"message":"ready"') == 3)
    assert process.status["state"] == "ready"


def test_a_changed_keys_file_counts_in_every_worker(launch: Launch, tmp_path: Path) -> None:
    process = launch(workers=2)
    url = process.wait_for("ready")["url"]
    fresh = add_key(tmp_path / "keys.json", "second")
    time.sleep(1.1)
    with several_clients(8) as clients:
        for client in clients:
            client.get(f"{url}/healthz")
        assert [ask(url, fresh, client).status_code for client in clients] == [200] * 8
    assert len(served_by(process)) == 2


def test_while_another_worker_loads_the_server_is_not_ready(launch: Launch, tmp_path: Path) -> None:
    # The first that comes to open its model is done at once, the other takes its time.
    prelude = f"""
import os, time, sixways_server.serving as s
real = s.open_model
def open_model(model, config):
    try:
        os.close(os.open({str(tmp_path / "first")!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(3)
    return real(model, config)
s.open_model = open_model
"""
    models = [{"name": "mini", "path": "dummy:embeddings"}]
    port = free_port()
    process = launch(prelude, workers=2, port=port, models=models)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: '"message":"ready"' in process.log.read_text())
    assert process.status["state"] == "starting"
    answers = {httpx.get(f"{url}/readyz").text for _ in range(10)}
    assert answers == {"loading\n"}
    process.wait_for("ready")
    assert httpx.get(f"{url}/readyz").status_code == 200
