"""Requests that come at the same time are answered together: one thread that takes what waits."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from recbole_mmm4rec.serve.limits import RefusedError

Job = TypeVar("Job")
Done = TypeVar("Done")


Deliver = Callable[[Sequence[int], Sequence[Any]], None]
"""Hands over results, or exceptions, of the jobs at some places of a batch."""


class Batcher(Generic[Job, Done]):
    """A thread that works on all that waits, up to a size, and then on what has come meanwhile.

    Nothing is waited for: a request that comes alone is worked on alone and at once. Batches grow by themselves when
    requests come faster than they are answered.

    Args:
        run: what is done with a batch, in the thread; hands over what it has found, all at once or part by part. What
            it raises is the result of all jobs that it has not handed over.
        size: the most jobs of a batch.
        waiting: the most jobs that wait or are worked on; more are refused.
        name: of the thread.
    """

    def __init__(self, run: Callable[[Sequence[Job], Deliver], None], size: int, waiting: int, name: str) -> None:
        self._run, self._size, self._most = run, size, waiting
        self._queue: queue.SimpleQueue[tuple[Job, asyncio.Future[Done]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._closed = False
        self.waiting = 0
        """Jobs that wait or are worked on."""

    async def ask(self, job: Job) -> Done:
        """The result of a job.

        Raises:
            RefusedError: too many wait.
            Exception: what ``run`` handed over for it.
        """
        if self._closed:
            raise RuntimeError("the thread has ended")
        if self.waiting >= self._most:
            raise RefusedError(503, f"{self.waiting:,} requests are waiting; come again in a second")
        if self._thread.ident is None:
            self._thread.start()
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        future.add_done_callback(self._less)
        self._queue.put((job, future))
        return await future

    def _less(self, future: asyncio.Future[Done]) -> None:
        self.waiting -= 1

    def close(self, seconds: float | None = None) -> None:
        """End the thread once what waits is done.

        Args:
            seconds: that it is waited for at most; None: without end.
        """
        self._closed = True
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join(seconds)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            taken, last = [first], False
            while len(taken) < self._size:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                taken.append(more)
            wanted = [one for one in taken if not one[1].done()]  # for the others nobody waits any more
            if wanted:
                self._answer(wanted)
            if last:
                return

    def _answer(self, taken: list[tuple[Job, asyncio.Future[Done]]]) -> None:
        loop = taken[0][1].get_loop()
        left = set(range(len(taken)))

        def deliver(places: Sequence[int], results: Sequence[Any]) -> None:
            left.difference_update(places)
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(_deliver, [taken[place][1] for place in places], results)

        try:
            self._run([job for job, _ in taken], deliver)
            assert not left, "a batch was left without its results"
        except Exception as error:
            places = sorted(left)
            deliver(places, [error] * len(places))


def _deliver(futures: list[asyncio.Future[Any]], results: Sequence[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # cancelled: nobody waits any more
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
