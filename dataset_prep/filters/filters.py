"""Which interactions stay: ratings, dates, repeats, the latest, texts, the k-core, as pure functions over columns."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dataset_prep.filters.interactions import Interactions

REPEATS = ("all", "first", "last")


@dataclass(frozen=True)
class Filters:
    """What is asked of interactions; the defaults keep everything.

    Attributes:
        k_core: interactions that each user and each item must have, until nothing changes any more; 0 for any number.
        min_rating: lowest rating that stays; an interaction without one goes. None keeps all.
        since: first second that stays, UNIX time. None for no bound.
        until: first second that goes, UNIX time. None for no bound.
        repeats: of a user's interactions with one item keep "all", the "first" or the "last".
        require_text: items without text go.
        latest: of each user's interactions only so many stay, the last ones; 0 for all.
    """

    k_core: int = 0
    min_rating: float | None = None
    since: int | None = None
    until: int | None = None
    repeats: str = "all"
    require_text: bool = False
    latest: int = 0

    def __bool__(self) -> bool:
        """Whether anything can be removed."""
        return self != KEEP_ALL

    def record(self) -> dict[str, Any]:
        """The part of ``NAME.prep.json`` that says what was asked; empty when nothing was."""
        return {"filters": asdict(self)} if self else {}


KEEP_ALL = Filters()


@dataclass(frozen=True)
class Step:
    """What one filter removed.

    Attributes:
        what: the filter.
        interactions, users, items: how many went.
    """

    what: str
    interactions: int
    users: int
    items: int


def apply_filters(table: Interactions, filters: Filters, texts: Mapping[str, str]) -> tuple[Interactions, list[Step]]:
    """Applies all filters.

    Args:
        table: sorted, distinct interactions.
        filters: what is asked.
        texts: by item id, empty for none.

    Returns:
        The interactions that stay, and what each filter that was asked for removed.
    """
    table, steps = filter_interactions(table, filters)
    if filters.require_text:
        with_text = {item for item, text in texts.items() if text}
        table, more = require_text(table, with_text, filters.k_core)
        steps += more
    return table, steps


def filter_interactions(table: Interactions, filters: Filters) -> tuple[Interactions, list[Step]]:
    """Applies everything but the wish for texts: rating, dates, repeats, the latest, k-core, in this order.

    Args:
        table: sorted, distinct interactions.
        filters: what is asked.

    Returns:
        The interactions that stay, and what each filter that was asked for removed.
    """
    steps: list[Step] = []
    if filters.min_rating is not None:
        assert table.rating is not None  # the sources read it when a least rating is asked for
        # A missing rating is NaN, and not at least anything.
        table = _keep(table, table.rating >= filters.min_rating, f"rating below {filters.min_rating:g}", steps)
    if filters.since is not None:
        table = _keep(table, table.time >= filters.since * table.per_second, "before --since", steps)
    if filters.until is not None:
        table = _keep(table, table.time < filters.until * table.per_second, "from --until on", steps)
    if filters.repeats != "all":
        kept = repeats(table.user, table.item, filters.repeats)
        table = _keep(table, kept, f"repeats, all but the {filters.repeats}", steps)
    if filters.latest:
        table = _keep(table, latest(table.user, filters.latest), f"before each user's last {filters.latest}", steps)
    if filters.k_core:
        table = _keep(table, k_core(table.user, table.item, filters.k_core), f"{filters.k_core}-core", steps)
    return table, steps


def require_text(
    table: Interactions, with_text: Container[str], k: int, what: str = "text"
) -> tuple[Interactions, list[Step]]:
    """Drops items without text, then takes the k-core again.

    A k-core before this step changes nothing of the result, it only spares reading the texts of items that go anyway:
    the largest k-core of a part lies within that of the whole.

    Args:
        table: sorted, distinct interactions.
        with_text: ids of the items that have text.
        k: of the k-core; 0 for none.
        what: an item must have, for the steps, where that is not a text.

    Returns:
        The interactions that stay, and what each step removed.
    """
    steps: list[Step] = []
    has_text = np.array([item in with_text for item in table.items], dtype=bool)
    table = _keep(table, has_text[table.item], f"items without {what}", steps)
    if k:
        table = _keep(table, k_core(table.user, table.item, k), f"{k}-core of what has {what}", steps)
    return table, steps


def k_core(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """The largest part of the interactions in which every user and every item has at least ``k``.

    Args:
        user: (n,) integers from 0.
        item: (n,) integers from 0.
        k: least number of interactions.

    Returns:
        (n,) bool, True for what stays; the same whatever the order of the interactions.
    """
    rows = np.arange(len(user))
    while len(rows):
        users, items = user[rows], item[rows]
        keep = (np.bincount(users) >= k)[users] & (np.bincount(items) >= k)[items]
        if keep.all():
            break
        rows = rows[keep]
    kept = np.zeros(len(user), dtype=bool)
    kept[rows] = True
    return kept


def repeats(user: np.ndarray, item: np.ndarray, keep: str) -> np.ndarray:
    """One interaction for each pair of user and item.

    Args:
        user: (n,) integers from 0, each user's interactions oldest first.
        item: (n,) integers from 0.
        keep: "first" or "last".

    Returns:
        (n,) bool, True for what stays.
    """
    kept = np.zeros(len(user), dtype=bool)
    if len(user):
        pair = user.astype(np.int64) * (int(item.max()) + 1) + item
        if keep == "first":
            kept[np.unique(pair, return_index=True)[1]] = True
        else:
            kept[len(pair) - 1 - np.unique(pair[::-1], return_index=True)[1]] = True
    return kept


def latest(user: np.ndarray, count: int) -> np.ndarray:
    """Each user's last interactions.

    Args:
        user: (n,) integers from 0, each user's interactions together and oldest first.
        count: how many of a user stay, at least 1.

    Returns:
        (n,) bool, True for what stays.
    """
    ends = np.cumsum(np.bincount(user)) if len(user) else user
    kept: np.ndarray = np.arange(len(user)) >= ends[user] - count
    return kept


def _keep(table: Interactions, kept: np.ndarray, what: str, steps: list[Step]) -> Interactions:
    rest = table.select(kept)
    steps.append(
        Step(
            what,
            len(table.user) - len(rest.user),
            len(table.users) - len(rest.users),
            len(table.items) - len(rest.items),
        )
    )
    return rest
