"""At which rank each target stood, from the very evaluation that RecBole reports."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recbole_mmm4rec.training.observers import Observer, Training

METRIC = re.compile(r"(hit|ndcg|mrr)@[1-9]\d*")
"""Metrics of one target's rank."""


class RankWatch(Observer):
    """Notes users and ranks during evaluations.

    Args:
        field: of users, ``USER_ID_FIELD``.

    Attributes:
        users: (T,) int64 user numbers of the last evaluation, one a target; a user may have several.
        targets: (T,) int64 item numbers.
        ranks: (T,) int64 from 1; 0 where the target is not among the best max(topk).
        items: (T, max(topk)) int64 the best items, where the evaluation collects them, else None.
    """

    place = "ranks"
    items: np.ndarray | None

    def __init__(self, field: str) -> None:
        self._field = field
        self._users: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def ranked(self, training: Training, interaction: Any, users: Any, items: Any) -> None:
        """Note whose targets are ranked."""
        self._users.append(interaction[self._field].cpu().numpy()[users.cpu().numpy()])
        self._targets.append(items.cpu().numpy())

    def evaluated(self, training: Training, found: Any) -> None:
        """Note the ranks.

        Raises:
            ValueError: several targets were ranked at once.
        """
        best = found.get("rec.topk").cpu().numpy()
        self.users, self.targets = np.concatenate(self._users), np.concatenate(self._targets)
        self._users, self._targets = [], []
        self.items = found.get("rec.items").cpu().numpy() if "rec.items" in found else None
        hits = best[:, :-1].astype(bool)
        self.ranks = np.where(hits.any(1), hits.argmax(1) + 1, 0).astype(np.int64)
        if len(self.ranks) != len(self.users) or (best[:, -1] != 1).any():
            raise ValueError("several targets ranked at once; a rank needs one")


def user_metric(ranks: ArrayLike, metric: str) -> np.ndarray:
    """A metric of each target.

    Args:
        ranks: (T,) int, 0 for a target that was not found.
        metric: for example ``ndcg@10``; of hit, ndcg, mrr.

    Returns:
        (T,) float64: for rank r ≤ k 1, 1 / log₂(r + 1) or 1 / r, else 0.
    """
    name, _, cut = metric.partition("@")
    found = np.asarray(ranks, dtype=np.float64)
    within = (found > 0) & (found <= int(cut))
    safe = np.where(within, found, 1.0)
    values = {"hit": np.ones_like(safe), "ndcg": 1 / np.log2(safe + 1), "mrr": 1 / safe}[name]
    return np.where(within, values, 0.0)


def mean_by_user(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The mean over each user's targets.

    Args:
        values: (T,) float64, one a target.
        users: (T,) of any kind that can be sorted.

    Returns:
        (U,) float64, in the order of users.
    """
    _, place, count = np.unique(users, return_inverse=True, return_counts=True)
    mean: np.ndarray = np.bincount(place, weights=values) / count
    return mean
