"""One thread that takes what waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from recbole_mmm4rec.serve.batching import Batcher, Deliver
from recbole_mmm4rec.serve.limits import RefusedError


class Worker:
    """Doubles numbers; begins with the second batch when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def run(self, jobs: Sequence[int], deliver: Deliver) -> None:
        self.batches.append(list(jobs))
        self.began.set()
        assert self.go.wait(20)
        for place, job in enumerate(jobs):
            if job == 13:
                deliver([place], [ValueError("unlucky")])
            elif job != 99:
                deliver([place], [2 * job])
        if 99 in jobs:
            raise RuntimeError("all that is left")


async def asked(batcher: Batcher[int, int], worker: Worker, jobs: list[int]) -> list[Any]:
    """The first job alone, the others while it is worked on."""
    first = asyncio.create_task(batcher.ask(jobs[0]))
    while not worker.began.is_set():
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(batcher.ask(job)) for job in jobs[1:]]
    await asyncio.sleep(0)
    worker.go.set()
    return list(await asyncio.gather(first, *rest, return_exceptions=True))


def test_what_comes_alone_is_done_alone_and_what_waits_together() -> None:
    worker = Worker()
    batcher = Batcher[int, int](worker.run, 4, 100, "numbers")
    assert asyncio.run(asked(batcher, worker, [1, 2, 3, 4, 5, 6])) == [2, 4, 6, 8, 10, 12]
    assert worker.batches == [[1], [2, 3, 4, 5], [6]]
    assert batcher.waiting == 0
    batcher.close()


def test_a_mistake_is_its_own_and_a_failure_is_of_those_that_have_no_answer_yet() -> None:
    worker = Worker()
    batcher = Batcher[int, int](worker.run, 4, 100, "numbers")
    found = asyncio.run(asked(batcher, worker, [1, 2, 13, 99, 3]))
    assert [one for one in found if isinstance(one, int)] == [2, 4, 6]
    assert [repr(one) for one in found[2:4]] == ["ValueError('unlucky')", "RuntimeError('all that is left')"]
    batcher.close()


def test_too_many_are_told_to_come_again() -> None:
    worker = Worker()
    batcher = Batcher[int, int](worker.run, 4, 3, "numbers")
    found = asyncio.run(asked(batcher, worker, [1, 2, 3, 4, 5]))
    assert found[:3] == [2, 4, 6]
    for one in found[3:]:
        assert isinstance(one, RefusedError)
        assert (one.status, one.line) == (503, "3 requests are waiting; come again in a second")
    batcher.close()


def test_who_has_gone_does_not_hold_up_the_others() -> None:
    async def leave() -> int:
        first = asyncio.create_task(batcher.ask(1))
        second = asyncio.create_task(batcher.ask(2))
        while not worker.began.is_set():
            await asyncio.sleep(0.001)
        first.cancel()
        worker.go.set()
        return await second

    worker = Worker()
    batcher = Batcher[int, int](worker.run, 4, 100, "numbers")
    assert asyncio.run(leave()) == 4
    assert batcher.waiting == 0
    batcher.close()


def test_closing_does_what_waits_first() -> None:
    async def close() -> list[int]:
        jobs = [asyncio.create_task(batcher.ask(job)) for job in (1, 2, 3)]
        await asyncio.sleep(0)
        worker.go.set()
        await asyncio.to_thread(batcher.close)
        return list(await asyncio.gather(*jobs))

    worker = Worker()
    batcher = Batcher[int, int](worker.run, 2, 100, "numbers")
    assert asyncio.run(close()) == [2, 4, 6]
    with pytest.raises(RuntimeError, match="ended"):
        asyncio.run(batcher.ask(4))
