"""What recommendations are like beside being right: coverage, popularity, concentration, share of the tail.

The definitions are those of RecBole's metrics ItemCoverage, AveragePopularity, GiniIndex and TailPercentage
(``recbole/evaluator/metrics.py``), without its loops over all users and items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def beyond_accuracy(
    items: np.ndarray, popularity: np.ndarray, cuts: Sequence[int], tail: float | None = None
) -> dict[str, float]:
    """The four metrics at each cut.

    Args:
        items: int64 (T, K), the best items of each target, best first.
        popularity: int64 (I+1,), interactions of each item in training; row 0 is the padding, which RecBole counts as
            an item, too.
        cuts: places, at most K.
        tail: which items are the tail: a share of those with interactions, the rarest, up to 1; or above 1 the most
            interactions that one of them has. None or 0: a tenth.

    Returns:
        ``itemcoverage@k`` and ``giniindex@k`` from 0 to 1, ``averagepopularity@k`` in interactions,
        ``tailpercentage@k`` from 0 to 1.
    """
    is_tail = np.zeros(len(popularity), dtype=bool)
    is_tail[_tail(popularity, tail or 0.1)] = True
    found = {}
    for k in cuts:
        shown = items[:, :k]
        counts = np.bincount(shown.ravel(), minlength=len(popularity))
        found[f"itemcoverage@{k}"] = float((counts > 0).sum() / len(counts))
        found[f"averagepopularity@{k}"] = float(popularity[shown].mean())
        found[f"giniindex@{k}"] = _gini(counts)
        found[f"tailpercentage@{k}"] = float(is_tail[shown].mean())
    return found


def _gini(counts: np.ndarray) -> float:
    """Gini's index of how often each item was shown: 0 where all were equally often, near 1 where one alone was."""
    ordered, rows = np.sort(counts), len(counts)
    weights = 2 * np.arange(1, rows + 1) - rows - 1
    return float((weights * ordered).sum() / ordered.sum() / rows)


def _tail(popularity: np.ndarray, tail: float) -> np.ndarray:
    """Numbers of the items of the tail, of those that have interactions."""
    known = np.flatnonzero(popularity)
    if tail > 1:
        return known[popularity[known] <= tail]
    order = np.lexsort((known, popularity[known]))
    return known[order[: max(int(len(known) * tail), 1)]]


def training_popularity(part: Any, asked: Iterable[Any] = ()) -> np.ndarray:
    """Interactions of each item in a training data set, of sequential models each user's first one, too.

    A user's only interaction counts for none: sequential models make no sample of it.

    Args:
        part: RecBole's data set, or ours.
        asked: the data sets of validation and test.

    Returns:
        int64 (I+1,).
    """
    counted: np.ndarray | None = getattr(part, "popularity", None)  # by a split of ours
    if counted is not None:
        return counted
    users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    history = getattr(part, "item_id_list_field", None)
    if history is not None:  # a first interaction is the target of no sample and begins the user's first history
        _, first = np.unique(users, return_index=True)
        rows = part.inter_feat[first]
        alone = rows[part.item_list_length_field].numpy() == 1
        items = np.concatenate([items, rows[history].numpy()[alone, 0]])
    else:
        every = [users, *(other.inter_feat[other.uid_field].numpy() for other in asked)]
        items = items[np.bincount(np.concatenate(every))[users] > 1]
    return np.bincount(items, minlength=part.item_num)
