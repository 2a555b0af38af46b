"""What tests with Pulumi's mocks share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

_LOOP = asyncio.new_event_loop()
"""It stays open: closing it ends its threads, and Pulumi leaves an open loop in each."""


@pytest.fixture
def open_loop() -> Iterator[None]:
    """A loop for a program that is no coroutine; tests that ran before may have left none."""
    asyncio.set_event_loop(_LOOP)
    yield
    asyncio.set_event_loop(None)
