"""A process that trains trials one after the other: what kills it costs one trial, not the search."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any


class Worker:
    """Trains in a process of its own, which is started when it is needed and again when it has died.

    Args:
        logs: folder of the trials' logs, one file each.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._process: Any = None
        self._pipe: Any = None

    def run(self, name: str, settings: Mapping[str, Any], checkpoint_dir: str | None = None) -> dict[str, Any]:
        """Train once.

        Args:
            name: of the log file, without ending.
            settings: see :func:`~recbole_mmm4rec.tune.trial.attempt`.
            checkpoint_dir: where given, keep the model there and evaluate it on the test set.

        Returns:
            what :func:`~recbole_mmm4rec.tune.trial.attempt` returns, or
            :func:`~recbole_mmm4rec.tune.trial.retrain_and_test` where ``checkpoint_dir`` is given; ``status`` is
            ``failed`` and ``error`` says so when the process died.
        """
        start = perf_counter()
        self.logs.mkdir(parents=True, exist_ok=True)
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._pipe.send((str(self.logs / f"{name}.log"), dict(settings), checkpoint_dir))
            found: dict[str, Any] = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            found = {
                "status": "failed",
                "error": f"the process ended with {_exit(self._process.exitcode)}",
                "seconds": round(perf_counter() - start, 3),
            }
            self.close()
        return found

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process could not use a GPU
        self._pipe, theirs = context.Pipe()
        # no daemon, which could not start processes that load data (RecBole's key `worker`)
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """End the process, also in the middle of a trial."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Any) -> None:
    """The process: trains what comes through the pipe, and ends with it, as after a kill of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    sys.argv = sys.argv[:1]  # RecBole would read it as settings
    # processes that load data start as they do anywhere else, not as this one was started
    multiprocessing.set_start_method(None, force=True)
    orders: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    while True:
        log, settings, checkpoint_dir = orders.get()
        _write_output_to(log)
        pipe.send(_train(settings, checkpoint_dir))


def _train(settings: dict[str, Any], checkpoint_dir: str | None) -> dict[str, Any]:
    from recbole_mmm4rec.tune import trial

    if checkpoint_dir is None:
        return trial.attempt(settings)
    try:
        return {"status": "done", **trial.retrain_and_test(settings, checkpoint_dir)}
    except Exception as error:  # the search itself is finished and must be told of
        return {"status": "failed", "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _listen(pipe: Any, orders: SimpleQueue[Any]) -> None:
    try:
        while True:
            orders.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


def _write_output_to(log: str) -> None:
    """Everything that is printed from here on, by C libraries as well, goes to this file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"status {code}"
    return f"signal {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
