"""Training steps and scoring at the paper's sizes: ours against another implementation, in turn, on the same batches.

python -m benchmarks --only steps                     against tests/reference/padded.py
python -m benchmarks --only steps --against PATH      against your own; --contract says what it has to offer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import contract, figures, shop_batches
from benchmarks.ours import Ours
from benchmarks.suite import Options, say
from benchmarks.turns import Contestant, enter
from recbole_mmm4rec.base.errors import UserError
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
PyTorch with the dual form of the scan; "tuned" is the same with its convolutions laid out as PyTorch runs them
fastest. Another one: `--against PATH`. On a processor each runs in a process of its own."""
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
    "training step, B = 256": Task(256, True, 8),
    "training step, B = 1024": Task(1024, True, 5),
    "training step, B = 1024, text alone": Task(1024, True, 5, ("text",)),
    "scoring 1024 users": Task(1024, False, 6),
}


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
    weights, agreement = _agreement(path, setups["float32"])
    contestants: list[Contestant] = []
    try:
        for setup in setups.values():
            contestants.append(enter("ours", "ours", setup, task.users, task.training))
        for name, source in [(path.stem, str(path)), *_tuned(path)]:
            for precision, setup in setups.items():
                if "tuned" in name and precision != "float32":
                    continue
                try:
                    contestants.append(enter(name, source, setup, task.users, task.training, weights))
                except UserError:
                    raise
                except ValueError as error:
                    say(f"{name} does not run in {precision}: {error}")
        if all(contestant.name == "ours" for contestant in contestants):
            raise UserError(f"--against {path}: it runs in none of {', '.join(PRECISIONS)}")
        _run(task, contestants)
    finally:
        for contestant in contestants:
            contestant.stop()
    keep = ("name", "precision", "seconds", "item_side", "memory")
    rows = [{key: getattr(contestant, key) for key in keep} for contestant in contestants]
    return {"contestants": rows, "agreement": agreement, "threads": torch.get_num_threads()}


def _tuned(path: Path) -> list[tuple[str, str]]:
    """The baseline once more with what makes it faster, where its file offers that as ``make_tuned``."""
    offered = "def make_tuned(" in path.read_text(encoding="utf-8") if path.is_file() else False
    return [(f"{path.stem}, tuned", f"{path}::make_tuned")] if offered else []


def make_setup(task: Task, options: Options, precision: str) -> contract.Setup:
    """What an implementation is made from: the paper's settings and features, the same for all."""
    settings = asdict(NetworkConfig())
    features = shop_batches.make_features(task.modalities)
    return contract.Setup(settings, features, options.device, precision, seed=2020, weights=None, **PAPER)


def _agreement(path: Path, setup: contract.Setup) -> tuple[dict[str, Tensor], float | None]:
    """Our weights under published names, and how far the other's scores with them are from ours, in float32."""
    ours = Ours(setup)
    weights = contract.published_weights(ours.network)
    try:
        other = contract.load(path)(replace(setup, weights=weights))
    except ValueError:
        return weights, None  # said once more where it is entered
    if not getattr(other, "loads_weights", False):
        return weights, None
    batch = shop_batches.make_batch(64, shop_batches.TEST, 0, setup)
    for made in (ours, other):
        getattr(made, "begin_evaluation", lambda: None)()
    return weights, contract.compare_scores(other.score(batch), ours.score(batch), path)


def _run(task: Task, contestants: list[Contestant]) -> None:
    """Let the contestants take turns; who begins changes with every repetition."""
    for repeat in range(-1, task.repeats):  # the first round warms up
        first = repeat % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            answer = contestant.play(repeat)
            if repeat < 0:
                continue
            contestant.seconds.append(answer["seconds"])
            if not task.training:
                contestant.item_side.append(answer["item_side"])
            contestant.memory = max(contestant.memory, answer["memory"])
        say(f"repetition {repeat + 1} of {task.repeats}" if repeat >= 0 else "warm")


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown table of all tasks."""
    rows = []
    cuda = any(row["memory"] for result in found.values() for row in result["contestants"])
    for cell, result in found.items():
        contestants = result["contestants"]
        others = [row for row in contestants if row["name"] != "ours"]
        base = {row["precision"]: row["seconds"] for row in reversed(others)}  # the first of a precision
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
