"""User-item-time triples in columns, sorted the same way whatever their order was."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


@dataclass(frozen=True)
class Interactions:
    """Distinct interactions sorted by (user id, time, item id), ids by code point.

    Attributes:
        users: all user ids, sorted.
        items: all item ids that occur, sorted.
        user: (n,) int64 positions in ``users``.
        item: (n,) int64 positions in ``items``.
        time: (n,) int64, seconds or positions.
        duplicates: exact repetitions that were dropped.
    """

    users: list[str]
    items: list[str]
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    duplicates: int

    def lines(self) -> Iterator[str]:
        """The lines of RecBole's ``.inter`` file, header first; times are written as integers."""
        yield HEADER
        for start in range(0, len(self.user), 65_536):
            block = slice(start, start + 65_536)
            columns = (self.user[block].tolist(), self.item[block].tolist(), self.time[block].tolist())
            for user, item, time in zip(*columns, strict=True):
                yield f"{self.users[user]}\t{self.items[item]}\t{time}\n"


class InteractionLog:
    """Collects interactions one by one, 24 bytes each besides the distinct ids."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._columns = (array("q"), array("q"), array("q"))

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, user: str, item: str, time: int) -> None:
        """Adds an interaction; ``time`` is in seconds, or a position."""
        values = (self._users.setdefault(user, len(self._users)), self._items.setdefault(item, len(self._items)), time)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def finish(self) -> Interactions:
        """The collected interactions, sorted and without exact repetitions."""
        users, user_rank = _ranks(self._users)
        items, item_rank = _ranks(self._items)
        user, item, time = (np.array(column, dtype=np.int64) for column in self._columns)
        user, item = user_rank[user], item_rank[item]
        order = np.lexsort((item, time, user))
        user, item, time = user[order], item[order], time[order]
        keep = np.ones(len(user), dtype=bool)
        keep[1:] = (np.diff(user) != 0) | (np.diff(time) != 0) | (np.diff(item) != 0)
        return Interactions(users, items, user[keep], item[keep], time[keep], int((~keep).sum()))


def _ranks(codes: dict[str, int]) -> tuple[list[str], np.ndarray]:
    ordered = sorted(codes)
    rank = np.empty(len(ordered), dtype=np.int64)
    rank[[codes[token] for token in ordered]] = np.arange(len(ordered))
    return ordered, rank
