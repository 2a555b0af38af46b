"""Stack `server` as a user deploys it: the project's own program on two hosts over ssh.

One long life, since each host costs time: up, a release under load, one that fails, a host that
loses its power, destroy.
"""

from __future__ import annotations

import contextlib
import copy
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.engine.checkout import checkout_stack, tracked_settings, use
from tests.engine.pulumi_stack import Stack
from tests.host.machine import Machine, own_machine

pytestmark = [pytest.mark.host, pytest.mark.engine]
_SSH_KEY = "sixways:sshPrivateKey"
# What belongs to nobody, or is everybody's log.
_CHANGING = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/cache", "/var/lib/apt",  # noqa: S108
             "/var/lib/systemd", "/var/log", "/var/tmp")  # noqa: S108  # fmt: skip


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that one key lets in."""
    folder = tmp_path_factory.mktemp("hosts")
    with own_machine(folder / "one") as one, own_machine(folder / "two") as two:
        public = (folder / "one" / "login_key.pub").read_text()
        for home in ("root", "home/deploy", "home/guest"):
            with (two.root / home / ".ssh/authorized_keys").open("a") as keys:
                keys.write(public)
        yield one, two


def _entry(name: str, machine: Machine, user: str = "root", **changes: Any) -> dict[str, Any]:
    key = machine.access()["host_key"]
    return {"name": name, "address": machine.address, "user": user, "hostKey": key, **changes}


def settings(
    entries: list[dict[str, Any]], wheelhouse: Path, threshold: float = 0.9, **changes: Any
) -> dict[str, Any]:
    """The tracked settings for these hosts, with changes to `sixways:server`."""
    config = copy.deepcopy(tracked_settings("server"))
    config["sixways:models"][0]["qualityThreshold"] = threshold
    config["sixways:server"] |= {
        "hosts": entries,
        "packages": {"wheelhouse": str(wheelhouse)},
        "limits": {"requestsPerMinute": 60000, "burst": 1000},
        "firewall": {},
        **changes,
    }
    return config


def _use(stack: Stack, config: dict[str, Any]) -> None:
    """These settings, and the key that lets in."""
    own = yaml.safe_load((stack.project / f"Pulumi.{stack.name}.yaml").read_text())["config"]
    use(stack, {**config, _SSH_KEY: own[_SSH_KEY]})


@contextlib.contextmanager
def _stack(folder: Path, env: dict[str, str], one: Machine) -> Iterator[Stack]:
    with checkout_stack(folder, env, "server") as stack:
        private = one.access()["private_key"]
        stack.run("config", "set", "--stack", "server", "--secret", _SSH_KEY, "--", str(private))
        yield stack


class Caller:
    """Asks one host for an embedding, again and again, and counts what comes of it."""

    def __init__(self, url: str, key: str, certificate: str) -> None:
        self._url, self._key = url, key
        self._trust = ssl.create_default_context(cadata=certificate)
        self.seen: Counter[str] = Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def ask(self) -> httpx.Response:
        """Once, over a connection of its own."""
        with self._client() as client:
            return _ask(client)

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}"}
        return httpx.Client(base_url=self._url, headers=headers, verify=self._trust, timeout=60)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(70)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with self._client() as client:
            while not self._end.wait(0.05):
                try:
                    answer = _ask(client)
                    good = answer.status_code == 200
                    self.seen["answered" if good else f"{answer.status_code} {answer.text}"] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1

    def more(self, requests: int = 20) -> None:
        """Waits until so many more were answered."""
        until = self.seen["answered"] + requests
        Machine.wait_until(lambda: self.seen["answered"] >= until, 60, f"{dict(self.seen)}")

    def none_failed(self) -> bool:
        return set(self.seen) == {"answered"} and self.seen["answered"] > 20


def _ask(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": "minilm", "input": "Moin."})


def _callers(outputs: dict[str, Any]) -> list[Caller]:
    return [
        Caller(url, outputs["api_key"], outputs["certificate"])
        for _, url in sorted(outputs["urls"].items())
    ]


def _listing(machine: Machine) -> set[str]:
    """Every file of a machine, its users, units and rules."""
    skipped = [word for path in _CHANGING for word in ("-path", path, "-o")][:-1]
    files = machine.run("find", "/", "-xdev", "(", *skipped, ")", "-prune", "-o",
                        "-printf", "%p %M %u %g\n")  # fmt: skip
    others = (
        machine.run("getent", "passwd") + machine.run("getent", "group")
        + machine.run("systemctl", "list-unit-files", "--no-legend", "--plain")
        + machine.run("nft", "list", "ruleset")
    )  # fmt: skip
    return {*files.splitlines(), *others.splitlines()}


def test_a_life_on_two_hosts(
    hosts: tuple[Machine, Machine], wheelhouse: Path, pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    one, two = hosts
    before = [_listing(machine) for machine in hosts]
    entries = [_entry("one", one), _entry("two", two, "deploy")]
    with _stack(tmp_path / "checkout", pulumi_env, one) as stack:
        _use(stack, settings(entries, wheelhouse))
        stack.up("--skip-preview")
        outputs = stack.outputs()
        assert "PRIVATE KEY" not in json.dumps(stack.resources())
        first, second = callers = _callers(outputs)
        for caller in callers:
            (vector,) = caller.ask().json()["data"]
            assert len(vector["embedding"]) == 384
        assert outputs["slots"] == {"one": "blue", "two": "blue"}
        trust = ssl.create_default_context(cadata=outputs["certificate"])
        assert httpx.get(outputs["health_url"], verify=trust).status_code == 200
        assert httpx.get(f"{outputs['url']}/v1/models", verify=trust).status_code == 401
        for machine in hosts:
            assert "5001" not in machine.run("ss", "-ltnH", "src", machine.address)
        stack.up("--expect-no-changes", "--skip-preview")

        _released(stack, settings(entries, wheelhouse, 0.91), callers)
        after = stack.outputs()
        assert after["bundle_digest"] != outputs["bundle_digest"]
        assert after["slots"] == {"one": "green", "two": "green"}

        # A server that needs what is not installed never gets ready.
        bad = settings(entries, wheelhouse, 0.91, server={"graphql": True})
        first, second = callers = _callers(after)
        with first, second:
            _use(stack, bad)
            done = stack.up("--skip-preview", check=False)
            first.more()
        assert done.returncode != 0
        assert "graphql" in done.stdout.partition("Diagnostics:")[2], done.stdout
        assert first.none_failed(), first.seen
        assert second.none_failed(), second.seen
        assert stack.outputs()["slots"] == after["slots"]
        for machine in hosts:
            units = machine.run("systemctl", "list-units", "--plain", "--no-legend", "sixways-*")
            assert "sixways-server@blue" not in units

        with _callers(after)[0] as first:
            first.more()
            # Without a word: no connection is closed, it is just not there any more.
            two.kill()
            first.more(100)
        assert first.none_failed(), first.seen
        two.start()
        second = _callers(after)[1]
        Machine.wait_until(lambda: _answers(second), 60, "the host does not serve again")

        _use(stack, settings(entries, wheelhouse, 0.91))
        stack.up("--skip-preview", "--refresh")
    for machine, was in zip(hosts, before, strict=True):
        assert _listing(machine) ^ was == set()


def _released(stack: Stack, config: dict[str, Any], callers: list[Caller]) -> None:
    """Updates the stack while every host is asked; no request fails."""
    with contextlib.ExitStack() as load:
        for caller in callers:
            load.enter_context(caller)
        for caller in callers:
            caller.more()
        _use(stack, config)
        stack.up("--skip-preview")
        for caller in callers:
            caller.more()
    for caller in callers:
        assert caller.none_failed(), caller.seen


def _answers(caller: Caller) -> bool:
    try:
        return caller.ask().status_code == 200
    except httpx.HTTPError:
        time.sleep(0.2)
        return False


def test_what_is_wrong_with_a_host_is_named_and_nothing_is_left_there(
    hosts: tuple[Machine, Machine], wheelhouse: Path, pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    one, two = hosts
    before = [_listing(machine) for machine in hosts]
    release = two.read("/etc/os-release")
    nobody = one.address.rpartition(".")[0] + ".77"
    with _stack(tmp_path / "checkout", pulumi_env, one) as stack:
        entries = [
            _entry("away", one, address=nobody),
            _entry("other", one, hostKey=two.access()["host_key"]),
            _entry("strange", two),
        ]
        _use(stack, settings(entries, wheelhouse))
        two.write("/usr/lib/os-release", 'ID=plan9\nPRETTY_NAME="Plan 9"\n')
        try:
            said = stack.up("--skip-preview", check=False).stdout
        finally:
            two.write("/usr/lib/os-release", release)
        for word in (f"{nobody} does not answer", f"{one.address}: this is not the host",
                     f"{two.address} is of a distribution that is not supported"):  # fmt: skip
            assert word in said, said
        assert "Traceback" not in said

        _use(stack, settings([_entry("one", one, "guest")], wheelhouse))
        said = stack.up("--skip-preview", check=False).stdout
        assert "cannot become root" in said, said
        assert [_listing(machine) for machine in hosts] == before

        _use(stack, settings([_entry("one", one)], wheelhouse))
        listens = one.run("systemd-run", "-q", "--unit=taken", "python3", "-c",
                          "import socket, time; s = socket.create_server(('127.0.0.1', 5001)); "
                          "time.sleep(600)")  # fmt: skip
        try:
            said = stack.up("--skip-preview", check=False).stdout
        finally:
            one.run("systemctl", "stop", "taken")
        assert "5001" in said, f"{listens} {said}"
        assert "listens on it" in said, said
        assert not one.read("/etc/nginx/conf.d/sixways.conf")
        assert "Traceback" not in said
    assert [_listing(machine) ^ was for machine, was in zip(hosts, before, strict=True)] == [
        set(),
        set(),
    ]
