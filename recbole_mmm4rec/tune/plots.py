"""Pictures of a search: every trial as a line through its settings, and which settings matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.tune.importance import Importance
from recbole_mmm4rec.tune.space import Parameter, Space
from recbole_mmm4rec.tune.trials import Record

TICKS = 6


def plot_parallel(space: Space, records: Sequence[Record], metric: str, out: Path) -> None:
    """Write ``parallel.png`` and ``.svg``: one axis a setting and one for the score, one line a trial.

    Args:
        space: what was searched.
        records: trials that have a score, at least one.
        metric: what the score is.
        out: the folder.
    """
    scores = np.array([record["score"] for record in records])
    columns = [np.array([_height(one, record["params"][one.key]) for record in records]) for one in space]
    low, high = float(scores.min()), float(scores.max())
    columns.append((scores - low) / (high - low) if high > low else np.full(len(scores), 0.5))
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1e-9), "viridis")
    figure = Figure(figsize=(1.5 * len(columns) + 2, 4.5), layout="constrained")
    axes = figure.subplots()
    for number in np.argsort(scores if records[0]["bigger"] else -scores):  # the best are drawn last, above the others
        heights = [column[number] for column in columns]
        axes.plot(range(len(columns)), heights, color=colours.to_rgba(scores[number]), alpha=0.8, lw=1.2)
    for place, one in enumerate(space):
        axes.axvline(place, color="0.6", lw=0.8)
        for value in _ticks(one):
            axes.text(place + 0.03, _height(one, value), _short(value), fontsize=7, va="center")
    axes.axvline(len(space), color="0.6", lw=0.8)
    axes.set_xticks(range(len(columns)), [*(one.key for one in space), metric], rotation=20, ha="right")
    axes.set_yticks([])
    axes.margins(x=0.05)
    figure.colorbar(colours, ax=axes, label=f"validation {metric}")
    _save(figure, out / "parallel")


def plot_importance(found: Importance, metric: str, out: Path) -> None:
    """Write ``importance.png`` and ``.svg``: a bar a setting.

    Args:
        found: see :func:`~recbole_mmm4rec.tune.importance.importance`.
        metric: what the score is.
        out: the folder.
    """
    order = sorted(found.share, key=lambda key: found.share[key])
    figure = Figure(figsize=(6, 0.4 * len(order) + 1.5), layout="constrained")
    axes = figure.subplots()
    axes.barh(order, [found.share[key] for key in order], color="#4477aa")
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of all importance for {metric}")
    _save(figure, out / "importance")


def _height(one: Parameter, value: Any) -> float:
    """Where a value lies on its axis, 0 to 1."""
    if one.values:
        return 0.5 if len(one.values) == 1 else one.position(value) / (len(one.values) - 1)
    ends = one.position(one.low), one.position(one.high)
    return (one.position(value) - ends[0]) / (ends[1] - ends[0])


def _ticks(one: Parameter) -> list[Any]:
    if one.values:
        return list(one.values[:: math.ceil(len(one.values) / TICKS)])
    ends = one.position(one.low), one.position(one.high)
    return [one.value(ends[0] + (ends[1] - ends[0]) * number / (TICKS - 1)) for number in range(TICKS)]


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 14 else text[:13] + "…"


def _save(figure: Figure, path: Path) -> None:
    with rc_context({"svg.hashsalt": "tune"}):  # the same trials give the same bytes
        for ending, details in (("png", {"Software": None}), ("svg", {"Date": None})):
            with whole_file(path.with_suffix(f".{ending}")) as file:
                figure.savefig(file, format=ending, dpi=150, metadata=details)
