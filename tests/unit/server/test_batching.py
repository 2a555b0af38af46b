"""Batches: order, fairness, limits, errors. The model is a function that a test can hold up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sixways_server.batching import Batcher
from sixways_server.errors import NotReady, TooBusy


class Model:
    """Answers each input with its first token; waits for `gate` before a batch while closed."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.poison: int | None = None
        self.rows_lost = 0

    def __call__(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.started.set()
        assert self.gate.wait(10)
        self.batches.append([list(row) for row in rows])
        if any(row[0] == self.poison for row in rows):
            raise ValueError(f"token {self.poison} is poison")
        answers = np.array([[row[0]] for row in rows], np.float32)
        return answers[: len(answers) - self.rows_lost]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def batcher(model: Model) -> AsyncIterator[Batcher]:
    batcher = Batcher(model, queue_limit=100, max_batch=8)
    yield batcher
    model.gate.set()
    await batcher.close()


async def ask(batcher: Batcher, *inputs: Sequence[int]) -> list[int]:
    with batcher.admit(len(inputs)):
        return [int(row[0]) for row in await batcher.run(inputs)]


async def busy(batcher: Batcher, model: Model) -> asyncio.Task[list[int]]:
    """Sends one input and holds the model up while it computes it."""
    model.gate.clear()
    model.started.clear()
    task = asyncio.create_task(ask(batcher, [0]))
    await asyncio.to_thread(model.started.wait, 10)
    return task


async def test_rows_come_back_in_the_order_of_the_request(batcher: Batcher) -> None:
    inputs = [[number] * (1 + number * 37 % 50) for number in range(60)]
    assert await ask(batcher, *inputs) == list(range(60))


async def test_callers_at_the_same_time_each_get_their_own_rows(batcher: Batcher) -> None:
    asked = [[[10 * caller + place] for place in range(3)] for caller in range(9)]
    answers = await asyncio.gather(*(ask(batcher, *inputs) for inputs in asked))
    assert answers == [[10 * caller + place for place in range(3)] for caller in range(9)]


async def test_an_idle_model_starts_without_waiting(batcher: Batcher) -> None:
    times = []
    for _ in range(20):
        start = time.perf_counter()
        await ask(batcher, [1])
        times.append(time.perf_counter() - start)
    assert sorted(times)[10] < 0.01


async def test_what_arrives_while_the_model_is_busy_makes_one_batch(
    batcher: Batcher, model: Model
) -> None:
    first = await busy(batcher, model)
    others = [asyncio.create_task(ask(batcher, [number])) for number in range(1, 6)]
    await asyncio.sleep(0)
    model.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in model.batches] == [1, 5]


async def test_a_batch_is_never_larger_than_the_limit(batcher: Batcher, model: Model) -> None:
    await ask(batcher, *[[number] for number in range(30)])
    assert max(len(batch) for batch in model.batches) == 8


async def test_a_batch_stays_below_its_limit_of_tokens_unless_one_input_is_longer(
    model: Model,
) -> None:
    batcher = Batcher(model, max_batch=8, max_batch_tokens=100)
    await ask(batcher, [1] * 150, *[[number] * 30 for number in range(6)])
    await batcher.close()
    sizes = [len(batch) * max(map(len, batch)) for batch in model.batches]
    assert sorted(sizes) == [90, 90, 150]


async def test_short_inputs_are_not_padded_to_the_length_of_a_long_one(
    batcher: Batcher, model: Model
) -> None:
    inputs = [[number] * (250 if number % 4 == 0 else 20) for number in range(8)]
    assert await ask(batcher, *inputs) == list(range(8))
    for batch in model.batches:
        assert len({len(row) for row in batch}) == 1
    assert len(model.batches) == 2


async def test_a_batch_grows_until_its_padding_costs_as_much_as_another_batch(
    batcher: Batcher, model: Model
) -> None:
    # Beside six of 100 tokens one of 94 costs 6, and one of 60 would cost 40.
    lengths = [100] * 6 + [94, 60]
    await ask(batcher, *[[number] * length for number, length in enumerate(lengths)])
    assert [[len(row) for row in batch] for batch in model.batches] == [[94] + [100] * 6, [60]]


async def test_the_input_that_waits_longest_is_in_the_next_batch(
    batcher: Batcher, model: Model
) -> None:
    first = await busy(batcher, model)
    long = asyncio.create_task(ask(batcher, [99] * 250))
    await asyncio.sleep(0)
    many = asyncio.create_task(ask(batcher, *[[number] for number in range(40)]))
    await asyncio.sleep(0)
    model.gate.set()
    await asyncio.gather(first, long, many)
    assert model.batches[1] == [[99] * 250]


async def test_a_full_queue_is_refused_with_the_time_to_wait(
    batcher: Batcher, model: Model
) -> None:
    first = await busy(batcher, model)
    waiting = asyncio.create_task(ask(batcher, *[[1]] * 99))
    await asyncio.sleep(0)
    assert batcher.queue_depth == 99
    with pytest.raises(TooBusy, match="limit of 100") as refused:
        await ask(batcher, [2])
    assert refused.value.status == 429
    assert refused.value.retry_after is not None
    assert 0.1 <= refused.value.retry_after <= 60
    model.gate.set()
    await asyncio.gather(first, waiting)
    assert batcher.queue_depth == 0
    assert await ask(batcher, [2]) == [2]


async def test_an_input_that_would_wait_too_long_is_refused_and_an_idle_model_takes_any(
    model: Model,
) -> None:
    def slow(rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        time.sleep(0.01 * len(rows))
        return model(rows)

    batcher = Batcher(slow, queue_limit=100, queue_seconds=0.2, max_batch=4)
    # It is idle: these may be many, and the first of all, of which no throughput is known.
    assert len(await ask(batcher, *[[1]] * 40)) == 40
    many = asyncio.create_task(ask(batcher, *[[1]] * 40))
    await asyncio.sleep(0)
    with pytest.raises(TooBusy, match=r"longer than the 0\.2 s") as refused:
        await ask(batcher, [2])
    # 40 inputs take 0.4 s, so half of them have to be done before the next may come.
    assert refused.value.retry_after == pytest.approx(0.2, rel=0.5)
    await many
    few = asyncio.create_task(ask(batcher, *[[1]] * 8))
    await asyncio.sleep(0)
    assert await ask(batcher, [2]) == [2]
    await few
    await batcher.close()


async def test_the_time_to_wait_follows_the_throughput(model: Model) -> None:
    def slow(rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        time.sleep(0.05 * len(rows))
        return model(rows)

    batcher = Batcher(slow, queue_limit=40, max_batch=4)
    await ask(batcher, *[[1]] * 4)
    with pytest.raises(TooBusy) as refused, batcher.admit(40), batcher.admit(40):
        raise AssertionError("admitted")
    await batcher.close()
    assert refused.value.retry_after == pytest.approx(40 * 0.05, rel=0.3)


async def test_inputs_of_a_cancelled_request_are_not_computed(
    batcher: Batcher, model: Model
) -> None:
    first = await busy(batcher, model)
    gone = asyncio.create_task(ask(batcher, [66], [66]))
    stays = asyncio.create_task(ask(batcher, [7]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert batcher.queue_depth == 1
    model.gate.set()
    assert await stays == [7]
    await first
    assert [66] not in [row for batch in model.batches for row in batch]


async def test_an_error_reaches_only_the_request_that_causes_it(
    batcher: Batcher, model: Model
) -> None:
    first = await busy(batcher, model)
    model.poison = 13
    tasks = [asyncio.create_task(ask(batcher, [n], [n + 100])) for n in (11, 13, 12)]
    await asyncio.sleep(0)
    model.gate.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert results[1] == [11, 111]
    assert isinstance(results[2], ValueError)
    assert results[3] == [12, 112]
    assert await ask(batcher, [14]) == [14]


async def test_rows_that_are_missing_are_an_error_and_not_a_hang(
    batcher: Batcher, model: Model
) -> None:
    model.rows_lost = 1
    with pytest.raises(RuntimeError, match="2 inputs with 1 rows"):
        await asyncio.wait_for(ask(batcher, [1], [2]), 5)


async def test_each_batch_is_told_with_its_size_and_seconds(batcher: Batcher) -> None:
    told: list[tuple[int, float]] = []
    batcher.on_batch = lambda size, seconds: told.append((size, seconds))
    await ask(batcher, *[[1]] * 11)
    await asyncio.sleep(0)
    assert [size for size, _ in told] == [8, 3]
    assert all(seconds > 0 for _, seconds in told)


async def test_close_answers_what_was_accepted_and_refuses_the_rest(model: Model) -> None:
    batcher = Batcher(model, max_batch=2)
    first = await busy(batcher, model)
    waiting = asyncio.create_task(ask(batcher, [1], [2], [3]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await ask(batcher, [4])
    assert not closing.done()
    model.gate.set()
    await closing
    assert await first == [0]
    assert await waiting == [1, 2, 3]
