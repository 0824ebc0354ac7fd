"""The end of the service while something is under way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import children, command_running, until

from recbole_mmm4rec.serve.batching import Batcher, Deliver
from recbole_mmm4rec.serve.current import Kept
from recbole_mmm4rec.serve.desk import Job, Result

pytestmark = pytest.mark.usefixtures("forked")


def test_what_ends_after_the_loop_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()
    batches: list[list[int]] = []
    failed: list[Any] = []

    def run(jobs: Sequence[int], deliver: Deliver) -> None:
        batches.append([*jobs])
        began.set()
        assert go.wait(20)
        deliver(range(len(jobs)), jobs)

    async def leave() -> None:
        asking = [asyncio.create_task(batcher.ask(number)) for number in (1, 2)]
        while not began.is_set():
            await asyncio.sleep(0.001)
        assert [task.done() for task in asking] == [False, False]

    monkeypatch.setattr(threading, "excepthook", failed.append)
    batcher = Batcher[int, int](run, 1, 100, "numbers")
    asyncio.run(leave())
    batcher.close(0.01)
    assert batcher._thread.is_alive()
    go.set()
    batcher._thread.join(20)
    assert not batcher._thread.is_alive()
    assert (batches, failed, batcher.waiting) == ([[1]], [], 0)


def test_what_is_ended_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    class Busy:
        """Answers nothing until it is ended."""

        alive = True

        def __init__(self) -> None:
            started.append(self)
            self.asked, self.ended = threading.Event(), threading.Event()

        def about(self) -> dict[str, Any]:
            return {}

        def ask(self, jobs: Sequence[Job]) -> list[Result]:
            self.asked.set()
            assert self.ended.wait(20)
            raise EOFError

        def close(self) -> None:
            self.ended.set()

    started: list[Busy] = []
    kept = Kept(Busy, "model")
    asking = threading.Thread(target=kept.ask, args=([("about", None)],))
    asking.start()
    until(lambda: started and started[0].asked.is_set())
    kept.close()
    asking.join(20)
    assert not asking.is_alive()
    assert (len(started), caplog.text) == (1, "")


def test_a_second_signal_ends_what_is_under_way(model_folder: Path) -> None:
    with command_running(model_folder) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split()[0]
        (child,) = children(process)
        os.kill(child, signal.SIGSTOP)  # it answers no more
        answers: list[int] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/recommend", json={"history": ["k01"]}, timeout=60).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: "mmm4rec_waiting 1.0" in httpx.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=20)
        asking.join()
        assert (process.returncode, *told, answers) == (0, "", "", [503])
        assert not Path(f"/proc/{child}").exists()
