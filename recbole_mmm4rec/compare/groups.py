"""The metric of each row by how long a history is and by how popular the target is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_mmm4rec.compare.results import Table, target_values

KINDS = {"history": "items of history", "popularity": "interactions of the target in training"}
"""What targets are grouped by, and how an axis says it."""
PARTS = 5
"""Groups of about the same number of targets; fewer where many are equal."""


@dataclass(frozen=True)
class Groups:
    """A table's targets in groups, and the rows' means there.

    Attributes:
        kind: of :data:`KINDS`.
        metric: lower case.
        labels: of the groups, lowest first, such as ``2–5``.
        counts: targets of each.
        means: row to its mean over the targets of each group.
    """

    kind: str
    metric: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    means: Mapping[str, tuple[float, ...]]


def grouped(table: Table, out: Path) -> list[Groups]:
    """The table by each of :data:`KINDS`; nothing where the runs' targets are not those that the data set has now.

    Args:
        table: with its runs.
        out: the comparison's folder, with the ranks.
    """
    targets, metric = table.shop.targets, table.shop.valid_metric
    cells = table.ranked(metric)
    if targets is None or not cells or any(r["targets"] != targets.mark for cell in cells for r in cell.records):
        return []
    values = {cell.row.name: target_values(out, cell, metric) for cell in cells}
    found = []
    for kind in KINDS:
        of_each: np.ndarray = vars(targets)[kind]
        bounds = _bounds(of_each)
        group = np.searchsorted(bounds, of_each, side="left")
        counts = np.bincount(group, minlength=len(bounds))
        means = {
            name: tuple(map(float, np.bincount(group, weights=value, minlength=len(bounds)) / counts))
            for name, value in values.items()
        }
        found.append(Groups(kind, metric, _labels(of_each, bounds), tuple(map(int, counts)), means))
    return found


def _bounds(values: np.ndarray) -> np.ndarray:
    """The highest value of each group, different ones, about as many values in each."""
    ordered = np.sort(values)
    places = [-(-len(ordered) * (at + 1) // PARTS) - 1 for at in range(PARTS)]
    bounds: np.ndarray = np.unique(ordered[places])
    return bounds


def _labels(values: np.ndarray, bounds: np.ndarray) -> tuple[str, ...]:
    lowest = [int(values[values > below].min()) for below in (-1, *bounds[:-1])]
    return tuple(f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in zip(lowest, bounds, strict=True))
