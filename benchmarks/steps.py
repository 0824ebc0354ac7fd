"""Training steps and scoring at the paper's sizes: ours against another implementation, in turn, on the same batches.

python -m benchmarks --only steps                     against tests/reference/padded.py
python -m benchmarks --only steps --against PATH      against your own; --contract says what it has to offer
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import contract, figures, shop_batches
from benchmarks.ours import Ours
from benchmarks.suite import Options, say
from recbole_mmm4rec.errors import UserError
from recbole_mmm4rec.network import NetworkConfig

TITLE = "Training steps and scoring"
ABOUT = f"""\
`python -m benchmarks --only steps`: the paper's sizes (D 256, N 64, G 8, P 64, L 20, one layer, dropout 0.4, ID
tables), {shop_batches.ITEMS:,} items, 768-d features; histories as long as those of Amazon Scientific (mean 3.8
in training, 6.0 in the test). A step is forward pass, cross-entropy over all items, backward pass and NAdam;
scoring gives every user the scores of all items, from the item side that an evaluation computes once. Both run in
turn on the same batches, another batch each repetition, so that the number of tokens varies. Times: median
(quartiles) in ms. Ratios: the time of the baseline, in the same precision and in float32, over ours, median
(smallest–largest) of the repetitions. Baseline: `tests/reference/padded.py`, an implementation in plain padded
PyTorch with the dual form of the scan and the fastest of PyTorch's convolutions; another one: `--against PATH`."""
PAPER = {"learning_rate": 1e-4, "weight_decay": 5e-3}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Task:
    """What is measured: B users, training or scoring, the modalities, how many repetitions."""

    users: int
    training: bool
    repeats: int
    modalities: tuple[str, ...] = ("text", "image")


TASKS = {
    "training step, B = 256": Task(256, True, 12),
    "training step, B = 1024": Task(1024, True, 7),
    "training step, B = 1024, text alone": Task(1024, True, 7, ("text",)),
    "scoring 1024 users": Task(1024, False, 10),
}


@dataclass
class Contestant:
    """One implementation in one precision, and its times in seconds."""

    name: str
    precision: str
    made: Any
    seconds: list[float] = field(default_factory=list)
    item_side: list[float] = field(default_factory=list)
    memory: int = 0


def cells(options: Options) -> list[str]:
    """The names of the measurements."""
    return list(TASKS)


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Measure one task.

    Args:
        options: ``device``, ``against`` and ``quick`` (3 repetitions) count.
        cell: one of :data:`TASKS`.

    Returns:
        for every contestant its ``seconds`` (one a repetition), ``item_side`` seconds and, on a GPU, ``memory``, bytes
        at the peak above what stood before;
        ``agreement``, the largest relative difference of the scores, None where the other did not take our weights.

    Raises:
        UserError: an implementation that does not keep the contract.
    """
    task = TASKS[cell]
    if options.quick:
        task = replace(task, repeats=3)
    path = Path(options.against)
    setups = {precision: make_setup(task, options, precision) for precision in PRECISIONS}
    ours = {precision: Contestant("ours", precision, Ours(setup)) for precision, setup in setups.items()}
    weights = contract.published_weights(ours["float32"].made.network)
    make = contract.load(path)
    contestants = [*ours.values()]
    for precision, setup in setups.items():
        try:
            made = make(replace(setup, weights=weights))
        except UserError:
            raise
        except ValueError as error:
            say(f"{path.name} does not run in {precision}: {error}")
            continue
        contestants.append(Contestant(path.stem, precision, made))
    if len(contestants) == len(ours):
        raise UserError(f"--against {path}: it runs in none of {', '.join(PRECISIONS)}")
    agreement = _agreement(contestants, path, setups["float32"])
    _run(task, contestants, setups["float32"])
    keep = ("name", "precision", "seconds", "item_side", "memory")
    rows = [{key: getattr(contestant, key) for key in keep} for contestant in contestants]
    return {"contestants": rows, "agreement": agreement, "threads": torch.get_num_threads()}


def make_setup(task: Task, options: Options, precision: str) -> contract.Setup:
    """What an implementation is made from: the paper's settings and features, the same for all."""
    settings = asdict(NetworkConfig())
    features = shop_batches.make_features(task.modalities)
    return contract.Setup(settings, features, options.device, precision, seed=2020, weights=None, **PAPER)


def _agreement(contestants: list[Contestant], path: Path, setup: contract.Setup) -> float | None:
    """Compare the scores before any training, in float32."""
    single = [contestant.made for contestant in contestants if contestant.precision == "float32"]
    if len(single) < 2 or not getattr(single[1], "loads_weights", False):
        return None
    batch = shop_batches.make_batch(64, shop_batches.TEST, 0, setup)
    for made in single:
        getattr(made, "begin_evaluation", lambda: None)()
    return contract.compare_scores(single[1].score(batch), single[0].score(batch), path)


def _run(task: Task, contestants: list[Contestant], setup: contract.Setup) -> None:
    """Let the contestants take turns; who begins changes with every repetition."""
    counts = shop_batches.TRAINING if task.training else shop_batches.TEST
    cuda = setup.device == "cuda"
    for repeat in range(-1, task.repeats):  # the first round warms up
        batch = shop_batches.make_batch(task.users, counts, 100 + repeat, setup)
        first = repeat % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            before = 0
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            if not task.training:
                once = getattr(contestant.made, "begin_evaluation", lambda: None)
                side = timed(once, cuda)
            call = contestant.made.train_step if task.training else contestant.made.score
            seconds = timed(partial(call, batch), cuda)
            if repeat < 0:
                continue
            contestant.seconds.append(seconds)
            if not task.training:
                contestant.item_side.append(side)
            if cuda:
                contestant.memory = max(contestant.memory, torch.cuda.max_memory_allocated() - before)
        say(f"repetition {repeat + 1} of {task.repeats}" if repeat >= 0 else "warm")


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


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown table of all tasks."""
    rows = []
    cuda = any(row["memory"] for result in found.values() for row in result["contestants"])
    for cell, result in found.items():
        contestants = result["contestants"]
        base = {row["precision"]: row["seconds"] for row in contestants if row["name"] != "ours"}
        for row in contestants:
            line = [cell, row["name"], row["precision"], figures.milliseconds(row["seconds"])]
            for seconds in (base.get(row["precision"]), base.get("float32")):
                comparable = seconds is not None and row["name"] == "ours"
                line.append(figures.spread(figures.ratios(seconds or [], row["seconds"])) if comparable else "")
            line.append(figures.milliseconds(row["item_side"]) if row["item_side"] else "")
            rows.append([*line, f"{row['memory'] / 2**30:.2f}"] if cuda else line)
    head = ["", "", "precision", "ms", "ratio, same precision", "ratio to float32", "item side, once, ms"]
    text = figures.table([*head, "GiB, peak above before"] if cuda else head, rows)
    agreements = [result["agreement"] for result in found.values() if result["agreement"] is not None]
    if agreements:
        text += f"\n\nWith the same weights the scores of both differ by at most {max(agreements):.1e} of the largest."
    threads = {result["threads"] for result in found.values()}
    return text + f" Threads: {', '.join(str(count) for count in sorted(threads))}."
