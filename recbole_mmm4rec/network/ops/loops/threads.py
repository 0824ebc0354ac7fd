"""Running a function on the threads that PyTorch's own operations run on.

Threads beside those would share their cores with them: between two operations, OpenMP's threads go on turning for some
milliseconds, on some processors for many, in case another one comes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def _team() -> Any:
    """libgomp's entry to its team of threads, of the very library that PyTorch brings; None where it brings none."""
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            entry = ctypes.CDLL(str(file)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        entry.restype = None
        return entry
    return None


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of one process: those of its parent are not there after a fork."""
    return ThreadPoolExecutor(threads, "mmm4rec")


def run_on_threads(work: Callable[[], None], threads: int) -> None:
    """Call a function once on each of some threads, of which this one is the first, and wait for all.

    Args:
        work: takes what is to be done from where all take it; gains by leaving Python's lock.
        threads: how many, at least 1.

    Raises:
        Exception: the first that a call has raised.
    """
    if threads == 1:
        work()
        return
    team = _team()
    if team is None:
        others = [_pool(threads - 1, os.getpid()).submit(work) for _ in range(threads - 1)]
        work()
        wait(others)
        for other in others:
            other.result()
        return
    failed: list[BaseException] = []

    def guarded(_: Any) -> None:  # nothing may be raised through OpenMP
        try:
            work()
        except BaseException as error:
            failed.append(error)

    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(guarded)
    team(ctypes.cast(entry, ctypes.c_void_p), None, threads, 0)
    if failed:
        raise failed[0]
