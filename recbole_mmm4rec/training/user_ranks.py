"""At which rank each user's target stood, from the very evaluation that RecBole reports."""

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
        users: (U,) int64 user numbers of the last evaluation.
        targets: (U,) int64 item numbers.
        ranks: (U,) int64 from 1; 0 where the target is not among the best max(topk).
    """

    place = "ranks"

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
            ValueError: a user has several targets.
        """
        best = found.get("rec.topk").cpu().numpy()
        self.users, self.targets = np.concatenate(self._users), np.concatenate(self._targets)
        self._users, self._targets = [], []
        hits = best[:, :-1].astype(bool)
        self.ranks = np.where(hits.any(1), hits.argmax(1) + 1, 0).astype(np.int64)
        if len(self.ranks) != len(self.users) or (best[:, -1] != 1).any():
            raise ValueError("evaluation of several targets a user; ranks need exactly one")


def user_metric(ranks: ArrayLike, metric: str) -> np.ndarray:
    """A metric of each user.

    Args:
        ranks: (U,) int, 0 for a target that was not found.
        metric: for example ``ndcg@10``; of hit, ndcg, mrr.

    Returns:
        (U,) float64: for rank r ≤ k 1, 1 / log₂(r + 1) or 1 / r, else 0.
    """
    name, _, cut = metric.partition("@")
    found = np.asarray(ranks, dtype=np.float64)
    within = (found > 0) & (found <= int(cut))
    safe = np.where(within, found, 1.0)
    values = {"hit": np.ones_like(safe), "ndcg": 1 / np.log2(safe + 1), "mrr": 1 / safe}[name]
    return np.where(within, values, 0.0)
