"""Outputs need an event loop, and Pulumi's mocks leave some behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def event_loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current loop for the test. Pulumi makes one more in each thread that registers something
    and closes none: all that the test made are closed after it."""
    if inspect.iscoroutinefunction(request.function):
        yield  # it has a loop
        return
    policy = type(asyncio.get_event_loop_policy())
    new = policy.new_event_loop
    made: list[asyncio.AbstractEventLoop] = []

    def remembered(self: Any) -> asyncio.AbstractEventLoop:
        made.append(new(self))
        return made[-1]

    monkeypatch.setattr(policy, "new_event_loop", remembered)
    asyncio.set_event_loop(asyncio.new_event_loop())
    yield
    asyncio.set_event_loop(None)
    for loop in made:
        if not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            loop.close()
