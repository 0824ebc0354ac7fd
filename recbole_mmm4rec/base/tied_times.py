"""How many interactions share their time with the one before, and what stands between those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.json_lines import read_line

FILE, ITEM_ID, EITHER = "file", "item id", "file or item id"
"""What orders interactions of one user at the same time, the last in merged sets; every sort here is stable."""
ORDER_KEY = "order_inside_a_tie"
"""Where ``NAME.prep.json`` says which."""
MANY = 0.05
"""From this share on it is told."""
_WORDS = {
    FILE: "the order of the file",
    ITEM_ID: "the order of item ids",
    EITHER: "in one merged set the order of the file, in another that of item ids",
}
_BEFORE = {"table": ITEM_ID, "amazon": ITEM_ID, "merge": EITHER}


def tied_share(users: np.ndarray, times: np.ndarray) -> float:
    """The share of interactions at the very time of the same user's interaction before.

    Args:
        users: integers (R,), of interactions in any order.
        times: numbers (R,), in whatever unit they are ordered by.

    Returns:
        From 0 to 1, of all R; 0 of none.
    """
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return float(tied.sum() / len(users)) if len(users) else 0.0


def told(share: float, order: str = FILE) -> str:
    """The share in words, with what orders equal times.

    Args:
        share: from 0 to 1.
        order: ``FILE``, ``ITEM_ID`` or ``EITHER``.
    """
    percent = f"{share:.0%}".replace("%", " %") if share >= 0.01 or not share else "less than 1 %"
    return f"{percent} of the interactions share their time with the one before of their user: {_WORDS[order]} decides"


def order_of_ties(record: Path) -> str:
    """What ``NAME.prep.json`` says, ``FILE`` where there is none.

    Sets of before it said so were sorted by item id where they came from tables or reviews; of what is merged of them
    it is not known.
    """
    try:
        said: Any = read_line(record.read_bytes())
        order = said.get(ORDER_KEY, _BEFORE.get(said.get("source"), FILE))
    except (OSError, ValueError, AttributeError, TypeError):
        return FILE
    return order if order in (FILE, ITEM_ID, EITHER) else FILE
