"""Implementations that take turns, each in a process of its own, so that none runs with the other's memory settings."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import contract, shop_batches
from benchmarks.ours import Ours
from recbole_mmm4rec.base.errors import UserError


@dataclass
class Contestant:
    """One implementation in one precision, and its times in seconds."""

    name: str
    precision: str
    play: Callable[[int], dict[str, Any]]
    stop: Callable[[], None] = lambda: None
    seconds: list[float] = field(default_factory=list)
    item_side: list[float] = field(default_factory=list)
    memory: int = 0


def timed(call: Callable[[], Any], cuda: bool) -> float:
    """Wall seconds of a call, the GPU's work included; nothing is collected or freed in between."""
    gc.collect()
    gc.disable()
    try:
        if cuda:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        result = call()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        del result
    finally:
        gc.enable()
    return seconds


def make(source: str, setup: contract.Setup) -> Any:
    """The implementation of ``source``: "ours", a file, or a file and the name of a function in it, ``file::name``."""
    if source == "ours":
        return Ours(setup)
    path, _, function = source.partition("::")
    return contract.load(Path(path), function or "make")(setup)


def play(made: Any, setup: contract.Setup, users: int, training: bool, repeat: int) -> dict[str, Any]:
    """One repetition: ``seconds`` of it, of the item side before a scoring, and a GPU's peak memory above before."""
    counts, cuda = shop_batches.TRAINING if training else shop_batches.TEST, setup.device == "cuda"
    batch = shop_batches.make_batch(users, counts, 100 + repeat, setup)
    before, side = 0, 0.0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    if not training:
        side = timed(getattr(made, "begin_evaluation", lambda: None), cuda)
    seconds = timed(partial(made.train_step if training else made.score, batch), cuda)
    memory = torch.cuda.max_memory_allocated() - before if cuda else 0
    return {"seconds": seconds, "item_side": side, "memory": memory}


def _serve(pipe: Any, source: str, setup: contract.Setup, users: int, training: bool) -> None:
    """The child: makes the implementation and plays when told to."""
    try:
        made = make(source, setup)
        pipe.send(None)
        while (repeat := pipe.recv()) is not None:
            pipe.send(play(made, setup, users, training, repeat))
    except EOFError:
        pass
    except (UserError, ValueError) as error:
        pipe.send(error)


def enter(name: str, source: str, setup: contract.Setup, users: int, training: bool, weights: Any = None) -> Contestant:
    """Start an implementation: in a child on a processor; on a GPU, which one process at a time should have, here.

    Args:
        name: in the table; source: see :func:`make`.
        setup: what it is made from; users: B; training: steps or scoring.
        weights: of published names, for an implementation that takes them.

    Raises:
        UserError, ValueError: what the implementation raised while it was made.
    """
    setup = replace(setup, weights=weights)
    if setup.device == "cuda":
        made = make(source, setup)
        return Contestant(name, setup.precision, partial(play, made, setup, users, training))
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, source, setup, users, training), daemon=True)
    child.start()
    theirs.close()

    def ask(repeat: int | None) -> Any:
        if repeat is not None or child.is_alive():
            pipe.send(repeat)
        answer = pipe.recv() if repeat is not None else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    failed = pipe.recv()
    if isinstance(failed, Exception):
        raise failed

    def stop() -> None:
        ask(None)
        child.join(10)

    return Contestant(name, setup.precision, ask, stop)
