"""A training step beside other work: how much longer it takes while one or two other programs keep the cores busy.

python -m benchmarks --only busy
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks import figures
from benchmarks.steps import Task, make_setup
from benchmarks.suite import Options, say
from benchmarks.turns import Contestant, enter

TITLE = "Beside other work"
ABOUT = """\
`python -m benchmarks --only busy`: the training step of B = 1024 above, in float32, alone and beside one and two
programs that never rest, with several settings of the OpenMP threads. Each setting has a process of its own; they take
turns on the same batches. "as shipped" is what every command of ours sets by itself. Times: median of the repetitions
in ms; in brackets how many times as long as the same setting alone. Last column: the padded implementation over ours,
both beside two programs."""
LOADS = (0, 1, 2)
SETTINGS: dict[str, dict[str, str]] = {
    "as shipped": {},
    "OpenMP's own": {"GOMP_SPINCOUNT": "300000"},
    "sleeping at once": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": ""},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""What the environment has of it while PyTorch is loaded; an empty value takes the variable away."""
PADDED = "padded"
TASK = Task(1024, True, 5)


def cells(options: Options) -> list[str]:
    """One measurement: loads are compared with each other."""
    return ["training step, B = 1024"]


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Measure every setting under every load.

    Args:
        options: ``device`` ("cpu") and ``quick`` (2 repetitions) count.
        cell: the one of :func:`cells`.

    Returns:
        ``seconds``: setting → load → one time a repetition; ``threads`` that PyTorch takes alone.
    """
    setup = make_setup(TASK, options, "float32")
    contestants: list[Contestant] = []
    found: dict[str, dict[str, list[float]]] = {}
    try:
        for name, settings in SETTINGS.items():
            with environment(settings):
                contestants.append(enter(name, "ours", setup, TASK.users, True))
        with environment(SETTINGS["OpenMP's own"]):
            contestants.append(enter(PADDED, options.against, setup, TASK.users, True))
        for contestant in contestants:
            contestant.play(-1)
        for load in LOADS:
            with beside(load):
                for repeat in range(2 if options.quick else TASK.repeats):
                    for contestant in contestants:
                        if contestant.name == PADDED and repeat > 1:
                            continue
                        seconds = contestant.play(repeat)["seconds"]
                        found.setdefault(contestant.name, {}).setdefault(str(load), []).append(seconds)
                    say(f"beside {load}: repetition {repeat + 1}")
    finally:
        for contestant in contestants:
            contestant.stop()
    return {"seconds": found, "threads": torch.get_num_threads()}


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables that processes begun meanwhile find."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in settings.items() if value})
    for name in [name for name, value in settings.items() if not value]:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def beside(programs: int) -> Iterator[None]:
    """Programs that turn in a circle meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown table."""
    (result,) = found.values()
    seconds = result["seconds"]
    padded = {load: float(np.median(times)) for load, times in seconds[PADDED].items()}
    rows = []
    for name, loads in seconds.items():
        middle = {load: float(np.median(times)) for load, times in loads.items()}
        row = [name] + [f"{1e3 * value:,.0f} ({value / middle['0']:.1f})" for value in middle.values()]
        rows.append([*row, "" if name == PADDED else f"{padded['2'] / middle['2']:.1f}"])
    head = ["", "alone", "beside one", "beside two", "padded / ours beside two"]
    return figures.table(head, rows) + f"\n\nThreads: {result['threads']}."
