"""User-item-time triples in columns, sorted by user and time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from recbole_mmm4rec.base.tied_times import FILE

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


@dataclass(frozen=True)
class Interactions:
    """Distinct interactions sorted by (user id, time), ids by code point.

    Attributes:
        users: all user ids, sorted.
        items: all item ids that occur, sorted.
        user: (n,) integers, positions in ``users``.
        item: (n,) integers, positions in ``items``.
        time: (n,) int64, by which they are in order: parts of a second, or positions.
        duplicates: exact repetitions that were dropped; the highest rating stays, in the place of the first.
        rating: (n,) float64, NaN for none; None when nobody asked for ratings.
        per_second: what ``time`` counts in a second; 1 of positions.
        order_of_ties: what orders interactions of one user at the same time: as they came, or by item id.
    """

    users: list[str]
    items: list[str]
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    duplicates: int
    rating: np.ndarray | None = None
    per_second: int = 1
    order_of_ties: str = FILE

    def lines(self) -> Iterator[str]:
        """The lines of RecBole's ``.inter`` file in blocks, header first; times are written as whole seconds.

        Within a second the order of the lines tells what came first.
        """
        yield HEADER
        users, items = self.users, self.items
        for start in range(0, len(self.user), 65_536):
            block = slice(start, start + 65_536)
            seconds = self.time[block] // self.per_second
            rows = zip(self.user[block].tolist(), self.item[block].tolist(), seconds.tolist(), strict=True)
            yield "".join([f"{users[user]}\t{items[item]}\t{time}\n" for user, item, time in rows])

    def select(self, kept: np.ndarray) -> Interactions:
        """The interactions where ``kept`` is True, with the users and items that they still have.

        Args:
            kept: (n,) bool.
        """
        if kept.all():
            return self
        users, user = _still_there(self.users, self.user[kept])
        items, item = _still_there(self.items, self.item[kept])
        rating = None if self.rating is None else self.rating[kept]
        return replace(self, users=users, items=items, user=user, item=item, time=self.time[kept], rating=rating)


class InteractionLog:
    """Collects interactions one by one, 32 bytes each besides the distinct ids.

    Args:
        with_rating: ratings are wanted.
        per_second: what times count in a second; 1 of positions.
    """

    def __init__(self, with_rating: bool = False, per_second: int = 1) -> None:
        self._per_second = per_second
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._columns = (array("q"), array("q"), array("q"))
        self._rating = array("d") if with_rating else None

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, user: str, item: str, time: int, rating: float = np.nan) -> None:
        """Adds an interaction; ``time`` is in parts of a second, or a position."""
        values = (self._users.setdefault(user, len(self._users)), self._items.setdefault(item, len(self._items)), time)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if self._rating is not None:
            self._rating.append(rating)

    def finish(self) -> Interactions:
        """The collected interactions without exact repetitions, those of one user at the same time as they came."""
        users, user_rank = _ranks(self._users)
        items, item_rank = _ranks(self._items)
        user, item, time = (np.array(column, dtype=np.int64) for column in self._columns)
        user, item = user_rank[user], item_rank[item]
        rating = None if self._rating is None else np.array(self._rating, dtype=np.float64)
        # Of exact repetitions the highest rating comes first, a missing one (NaN) last.
        order = np.lexsort((item, time, user) if rating is None else (-rating, item, time, user))
        (starts,) = np.nonzero(firsts(user[order], item[order], time[order]))
        kept = order[starts]
        came = np.minimum.reduceat(order, starts) if len(starts) else kept
        kept = kept[np.lexsort((came, time[kept], user[kept]))]
        rating = None if rating is None else rating[kept]
        repeated = len(order) - len(kept)
        return Interactions(users, items, user[kept], item[kept], time[kept], repeated, rating, self._per_second)


def firsts(*columns: np.ndarray) -> np.ndarray:
    """Which rows are the first of a run of equal ones.

    Args:
        columns: (n,) each; equal rows stand beside each other.

    Returns:
        (n,) bool.
    """
    first = np.zeros(len(columns[0]), dtype=bool)
    first[:1] = True
    for column in columns:
        first[1:] |= column[1:] != column[:-1]
    return first


def _ranks(codes: dict[str, int]) -> tuple[list[str], np.ndarray]:
    ordered = sorted(codes)
    rank = np.empty(len(ordered), dtype=np.int64)
    rank[[codes[token] for token in ordered]] = np.arange(len(ordered))
    return ordered, rank


def _still_there(tokens: list[str], position: np.ndarray) -> tuple[list[str], np.ndarray]:
    there = np.bincount(position, minlength=len(tokens)) > 0
    return list(compress(tokens, there.tolist())), (np.cumsum(there) - 1)[position]
