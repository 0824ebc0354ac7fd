"""Repeated measurements in few numbers, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def ratios(base: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times as long ``base`` took, repetition by repetition: both measured on the same batch, in turn.

    Raises:
        ValueError: series of different lengths.
    """
    return [slow / fast for slow, fast in zip(base, ours, strict=True)]


def milliseconds(seconds: Sequence[float]) -> str:
    """The median and the quartiles of times, in milliseconds."""
    low, middle, high = (1e3 * float(value) for value in np.percentile(seconds, (25, 50, 75)))
    return f"{middle:,.0f} ({low:,.0f}–{high:,.0f})"


def spread(values: Sequence[float]) -> str:
    """The median of ratios with the smallest and the largest."""
    return f"{float(np.median(values)):.2f} ({min(values):.2f}–{max(values):.2f})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
