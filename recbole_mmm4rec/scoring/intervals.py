"""How sure a mean over users is: percentile bootstrap (Efron, Annals of Statistics 7 (1979), 1–26)."""

from __future__ import annotations

import numpy as np

_CHUNK = 2**22
"""Numbers that stand in memory at a time."""


def bootstrap_interval(
    values: np.ndarray, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of a mean over users, who are drawn with replacement.

    Args:
        values: (U,) float64, one a user.
        samples: how many draws of U users.
        seed: of the draws.
        level: of the interval.
    """
    draw = np.random.default_rng(seed)
    users = len(values)
    # of equal values only their number matters
    distinct, counts = np.unique(values, return_counts=True)
    step = max(1, _CHUNK // len(distinct))
    means = [
        draw.multinomial(users, counts / users, size=min(step, samples - start)) @ distinct / users
        for start in range(0, samples, step)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
