"""What pre-training brought, in words and tables: by source, by variant, and what the trend predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import figures
from benchmarks.transfer.sets import Source

METRIC = "hit@10"
EFFECTS = (("without training", "zero-shot", 0), ("after epoch 1", "train", 1))
"""What the effect of a source is measured by: in words, the kind of run, the epoch on the target."""


@dataclass(frozen=True)
class Found:
    """A finished run.

    Attributes:
        run: its kind, source, after, seed, ids and rate.
        history: epoch, result and seconds of each validation; epoch 0 is before training.
        best_epoch: the epoch that validated best.
        valid, test: metric to value, of that epoch; ``test`` is empty after a pre-training.
    """

    run: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int
    valid: dict[str, float]
    test: dict[str, float]

    def curve(self) -> dict[int, float]:
        """Validation Hit@10 by epoch."""
        return {entry["epoch"]: entry["result"][METRIC] for entry in self.history}

    def reached(self, value: float) -> int | None:
        """The first epoch whose validation Hit@10 is at least ``value``, None where none is."""
        return next((epoch for epoch, found in sorted(self.curve().items()) if found >= value), None)


@dataclass(frozen=True)
class Trend:
    """A straight line through values against the decimal logarithm of interactions.

    Attributes:
        points: number of points.
        slope: growth of the value by tenfold data.
        margin: half the width of the slope's 95 % interval (Student's t).
        middle: mean logarithm and mean value, which the line goes through.
    """

    points: int
    slope: float
    margin: float
    middle: tuple[float, float]

    def at(self, interactions: float) -> float:
        """The line's value."""
        return self.middle[1] + self.slope * (math.log10(interactions) - self.middle[0])

    def decades(self, value: float, slope: float) -> float | None:
        """Logarithm of the interactions at which a line of some slope through the middle reaches a higher value.

        Args:
            value: above the middle's.
            slope: the line's own, or an end of its interval.

        Returns:
            None where that line does not rise.
        """
        return self.middle[0] + (value - self.middle[1]) / slope if slope > 0 else None


def fit(interactions: Sequence[float], values: Sequence[float]) -> Trend:
    """Least squares.

    Args:
        interactions: at least three, not all equal.
        values: as many.
    """
    logarithms = np.log10(interactions)
    line = stats.linregress(logarithms, values)
    margin = float(stats.t.ppf(0.975, len(values) - 2)) * float(line.stderr)
    return Trend(len(values), float(line.slope), margin, (float(logarithms.mean()), float(np.mean(values))))


def report(found: Sequence[Found], sources: Sequence[Source], users: int, where: str) -> str:
    """The page.

    Args:
        found: what is finished.
        sources: growing.
        users: of the target.
        where: machine and versions.
    """
    parts = ["## Without training", zero_shot(found, sources), "## Fine-tuned", fine_tuned(found, sources)]
    parts += ["## Trend", trends(found, sources, users), where]
    return "\n\n".join(parts) + "\n"


def zero_shot(found: Sequence[Found], sources: Sequence[Source]) -> str:
    """A row a source and checkpoint: validation and test of the target as they are before any training."""
    sizes = {source.name: source.interactions for source in sources}
    rows = []
    for one in sorted(found, key=lambda one: sizes.get(one.run["source"], 0)):
        if one.run["kind"] == "zero-shot":
            name = one.run["source"]
            size = f"{sizes.get(name, 0):,}"
            rows.append([name, size, one.run["after"], one.run["seed"], *_metrics(one.valid), *_metrics(one.test)])
    head = ["source", "interactions", "epochs of pre-training", "seed", "validation Hit@10", "NDCG@10"]
    return figures.table([*head, "test Hit@10", "NDCG@10"], rows)


def fine_tuned(found: Sequence[Found], sources: Sequence[Source]) -> str:
    """A row a fine-tuning, compared with the training from scratch of the same seed and the same ID tables."""
    sizes = {source.name: source.interactions for source in sources}
    rows = []
    for one in sorted(found, key=lambda one: sizes.get(one.run["source"], 0)):
        if one.run["kind"] != "train":
            continue
        run, base = one.run, _from_scratch(found, one)
        size, ids = f"{sizes.get(run['source'], 0):,}", "with" if run["ids"] else "without"
        start = [_short(one.curve().get(epoch)) for epoch in (0, 1)]
        row = [run["source"], size, run["after"], ids, f"{run['rate']:g}", run["seed"], *start]
        row += [_short(one.valid[METRIC]), one.best_epoch, _reach(one, base), *_metrics(one.test)]
        rows.append(row)
    head = ["source", "interactions", "pre-training epochs", "IDs", "rate", "seed", "epoch 0", "epoch 1"]
    return figures.table([*head, "best", "at epoch", "scratch's best at", "test Hit@10", "NDCG@10"], rows)


def trends(found: Sequence[Found], sources: Sequence[Source], users: int) -> str:
    """The lines through what growing sources gave, and where they reach the best of a training from scratch."""
    scratch = [one for one in found if _is(one, "train", "none", ids=True)]
    if not scratch:
        return "Nothing was trained from scratch yet."
    goal = float(np.mean([one.valid[METRIC] for one in scratch]))
    rows = []
    for label, kind, epoch in EFFECTS:
        points = effect(found, sources, kind, epoch)
        alone = [point for point in points if not point[0].merged]
        for which, chosen in (("shares of the first", alone), ("all", points)):
            if len(chosen) < 3 or (which == "all" and chosen == alone):
                continue
            line = fit([source.interactions for source, _ in chosen], [value for _, value in chosen])
            largest = math.log10(max(source.interactions for source, _ in chosen))
            row = [label, which, line.points, f"{line.slope:+.4f} ± {line.margin:.4f}"]
            for slope in (line.slope, line.slope + line.margin):
                needed = line.decades(goal, slope)
                row.append("never" if needed is None else f"{needed - largest:+.1f}")
            rows.append(row)
    error = math.sqrt(goal * (1 - goal) / users)
    head = ["validation Hit@10", "sources", "points", "by tenfold data (95 %)"]
    head += [f"decades from the largest to {_short(goal)}", "at the interval's upper end"]
    note = f"One standard error of a Hit@10 of {_short(goal)} over {users:,} users is {_short(error)}."
    return figures.table(head, rows) + "\n\n" + note


def effect(found: Sequence[Found], sources: Sequence[Source], kind: str, epoch: int) -> list[tuple[Source, float]]:
    """Mean validation Hit@10 over seeds of each source's longest pre-training.

    Args:
        found: what is finished.
        sources: growing.
        kind: "zero-shot", or "train" for the fine-tunings with ID tables at the full rate.
        epoch: on the target.
    """
    points = []
    for source in sources:
        values = [one.curve()[epoch] for one in longest(found, source.name, kind)]
        if values:
            points.append((source, float(np.mean(values))))
    return points


def longest(found: Sequence[Found], source: str, kind: str) -> list[Found]:
    """A source's runs from its longest pre-training, one a seed.

    Args:
        found: what is finished.
        source: its name.
        kind: "zero-shot", or "train" for the fine-tunings with ID tables at the full rate.
    """
    mine = [one for one in found if _is(one, kind, source, ids=kind == "train")]
    last = max((one.run["after"] for one in mine), default=0)
    return [one for one in mine if one.run["after"] == last]


def _is(one: Found, kind: str, source: str, ids: bool) -> bool:
    wanted = {"kind": kind, "source": source, "ids": ids, "rate": 1.0}
    return all(one.run[key] == value for key, value in wanted.items())


def _from_scratch(found: Sequence[Found], one: Found) -> Found | None:
    same = [other for other in found if _is(other, "train", "none", one.run["ids"])]
    return next((other for other in same if other.run["seed"] == one.run["seed"]), None)


def _reach(one: Found, base: Found | None) -> str:
    if base is None:
        return "?"
    epoch = one.reached(base.valid[METRIC])
    return "never" if epoch is None else str(epoch)


def _metrics(result: dict[str, float]) -> list[str]:
    return [_short(result.get(name)) for name in (METRIC, "ndcg@10")]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".removeprefix("0")
