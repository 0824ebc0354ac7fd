"""How many interactions share their time with the one before, so that the file alone says which came first."""

from __future__ import annotations

import numpy as np

ORDER = "the order of the file"
"""What stands between interactions of one user at the same time; every sort here is stable."""
MANY = 0.05
"""From this share on it is told."""


def tied_share(users: np.ndarray, times: np.ndarray) -> float:
    """The share of interactions at the very time of the same user's interaction before.

    Args:
        users: integers (R,), the interactions in the order of (user, time).
        times: numbers (R,), in whatever unit they are ordered by.

    Returns:
        From 0 to 1, of all R; 0 of none.
    """
    tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return float(tied.sum() / len(users)) if len(users) else 0.0


def told(share: float, order: str = ORDER) -> str:
    """The share in words, with what orders equal times."""
    percent = f"{share:.0%}".replace("%", " %") if share >= 0.01 or not share else "less than 1 %"
    return f"{percent} of the interactions share their time with the one before of their user: {order} decides"
