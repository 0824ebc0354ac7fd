"""What stands in a set's file of interactions, counted in one pass."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from dataset_prep.files.set_files import SetFiles, are_ids
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.tied_times import tied_share


@dataclass(frozen=True)
class Activity:
    """Who did how much, and when.

    Attributes:
        by_user: (users,) interactions of each, ascending.
        by_item: interactions of each item, by token.
        first, last: lowest and highest time stamp; NaN without interactions.
        tied: share of the interactions at the time of the one before of the same user.
        left_out: lines without a user or an item, which are no interactions.
    """

    by_user: np.ndarray
    by_item: Counter[str]
    first: float
    last: float
    tied: float = 0.0
    left_out: int = 0

    @property
    def interactions(self) -> int:
        """How many there are."""
        return int(self.by_user.sum())


def read_activity(files: SetFiles) -> Activity:
    """Counts a set's interactions line by line.

    Raises:
        UserError: the file cannot be used, or a time stamp is no finite number.
    """
    users: Counter[str] = Counter()
    items: Counter[str] = Counter()
    first, last = math.inf, -math.inf
    numbers: dict[str, int] = {}
    who, when = array("q"), array("d")
    left_out = 0
    for line, (user, item, text) in files.lines():
        if not are_ids(user, item):
            left_out += 1
            continue
        users[user] += 1
        items[item] += 1
        try:
            time = float(text)
        except ValueError:
            time = math.nan
        if not math.isfinite(time):
            raise UserError(f"{files.file('inter')} line {line}: timestamp {text!r} is no finite number; correct it")
        first, last = min(first, time), max(last, time)
        who.append(numbers.setdefault(user, len(numbers)))
        when.append(time)
    by_user = np.sort(np.fromiter(users.values(), dtype=np.int64, count=len(users)))
    if not users:
        return Activity(by_user, items, math.nan, math.nan, left_out=left_out)
    return Activity(by_user, items, first, last, tied_share(np.array(who), np.array(when)), left_out)
