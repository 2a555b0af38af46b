"""Asks the server in a slot whether it is ready, and for an answer of each model.

The questions are asked on the host, since the server listens on loopback alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from sixways.plugin.api_key import sha256
from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways.server.supervisors import Supervisor
from sixways.server.work import Work

_READY = """
import http.client, sys
link = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
try:
    link.request("GET", "/readyz")
    answer = link.getresponse()
    print(answer.status, answer.read(200).decode())
except (OSError, http.client.HTTPException) as error:
    print(0, error)
"""
_ASK = """
import http.client, json, sys
asked = json.load(sys.stdin)
link = http.client.HTTPConnection("127.0.0.1", asked["port"], timeout=asked["seconds"])
headers = {"Authorization": "Bearer " + asked["key"], "Content-Type": "application/json"}
try:
    link.request("POST", asked["path"], json.dumps(asked["body"]), headers)
    answer = link.getresponse()
    print(answer.status, answer.read(500).decode(errors="replace"))
except (OSError, http.client.HTTPException) as error:
    print(0, error)
"""
_PAUSE_SECONDS = 0.3
_SMOKE_SECONDS = 120.0


class NotServing(HostError):
    """A server that was started does not serve; says why."""


def is_ready(remote: Remote, slot: str, python: str) -> tuple[bool, str]:
    """Whether the server in the slot answers requests, and what it says."""
    port = str(layout.PORTS[slot])
    said = remote.run(python, "-I", "-c", _READY, port, check=False).stdout.strip()
    status, _, text = said.partition(" ")
    return status == "200", text or "no answer"


def wait_until_ready(
    remote: Remote, slot: str, python: str, supervisor: Supervisor, seconds: float, work: Work
) -> str:
    """Waits for a server that was just started; returns which run of it is ready.

    Raises:
        NotServing: it ended, or is not ready in time.
    """
    begun = time.monotonic()
    run = supervisor.state(slot).run
    while True:
        ready, said = is_ready(remote, slot, python)
        state = supervisor.state(slot)
        if ready and state.run == run:
            return run
        if not state.alive or state.run != run:
            raise NotServing(f"the server ended before it was ready ({state.why})")
        waited = time.monotonic() - begun
        if waited > seconds:
            raise NotServing(
                f"the server was not ready within {seconds:g} s (readySeconds): {said}"
            )
        work.say("start", f"slot {slot}: {said} ({waited:.0f} s)")
        time.sleep(_PAUSE_SECONDS)


def watch(
    remote: Remote,
    slot: str,
    python: str,
    supervisor: Supervisor,
    run: str,
    seconds: float,
    work: Work,
) -> None:
    """Looks at a server for some seconds after it got the requests.

    `run` is the one that was ready.

    Raises:
        NotServing: it ended or is not ready any more.
    """
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < seconds:
        state = supervisor.state(slot)
        if not state.alive or state.run != run:
            raise NotServing(f"the server ended after it got the requests ({state.why})")
        ready, said = is_ready(remote, slot, python)
        if not ready:
            raise NotServing(f"the server was not ready any more after it got the requests: {said}")
        work.say("watch", f"slot {slot} serves ({waited:.0f} of {seconds:.0f} s)")
        time.sleep(_PAUSE_SECONDS)


def passing_key() -> tuple[str, dict[str, str]]:
    """A key for the questions of one release, and its entry in the keys file."""
    key = f"sk-{secrets.token_urlsafe(32)}"
    return key, {"name": "sixways-release", "sha256": sha256(key)}


def ask_each(
    remote: Remote, slot: str, python: str, models: Iterable[tuple[str, str]], key: str
) -> None:
    """One small request to each model, by name and task; those over tensors are warm by now.

    Raises:
        NotServing: a model does not answer.
    """
    for name, task in models:
        question = _question(name, task)
        if question is None:
            continue
        asked = {"port": layout.PORTS[slot], "seconds": _SMOKE_SECONDS, "key": key, **question}
        given = msgspec.json.encode(asked)
        said = remote.run(python, "-I", "-c", _ASK, given=given, check=False,
                          seconds=_SMOKE_SECONDS + 30).stdout.strip()  # fmt: skip
        status, _, text = said.partition(" ")
        if status != "200":
            raise NotServing(f"model {name} does not answer a request: status {status}: {text}")


def _question(name: str, task: str) -> dict[str, Any] | None:
    if task == "embeddings":
        return {"path": "/v1/embeddings", "body": {"model": name, "input": "hello"}}
    if task == "chat":
        messages = [{"role": "user", "content": "hello"}]
        return {"path": "/v1/chat/completions",
                "body": {"model": name, "messages": messages, "max_tokens": 1}}  # fmt: skip
    if task == "completion":
        return {"path": "/v1/completions",
                "body": {"model": name, "prompt": "hello", "max_tokens": 1}}  # fmt: skip
    return None
