"""At which rank each user's target stood, from the very evaluation that RecBole reports."""

from __future__ import annotations

import re
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

METRIC = re.compile(r"(hit|ndcg|mrr)@[1-9]\d*")
"""Metrics of one target's rank."""


class RankWatch:
    """Notes users and ranks during the evaluations of one trainer.

    Args:
        trainer: a RecBole trainer; its collector and evaluator are wrapped, for that one object.

    Attributes:
        users: (U,) int64 user numbers of the last evaluation.
        targets: (U,) int64 item numbers.
        ranks: (U,) int64 from 1; 0 where the target is not among the best max(topk).
    """

    def __init__(self, trainer: Any) -> None:
        self._field = trainer.config["USER_ID_FIELD"]
        self._users: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        collector, evaluator = trainer.eval_collector, trainer.evaluator
        collector.eval_batch_collect = self._noting_users(collector.eval_batch_collect)
        evaluator.evaluate = self._noting_ranks(evaluator.evaluate)

    def _noting_users(self, collect: Any) -> Any:
        @wraps(collect)
        def noted(scores: Any, interaction: Any, positive_u: Any, positive_i: Any) -> Any:
            self._users.append(interaction[self._field].cpu().numpy()[positive_u.cpu().numpy()])
            self._targets.append(positive_i.cpu().numpy())
            return collect(scores, interaction, positive_u, positive_i)

        return noted

    def _noting_ranks(self, evaluate: Any) -> Any:
        @wraps(evaluate)
        def noted(struct: Any) -> Any:
            found = struct.get("rec.topk").cpu().numpy()
            self.users, self.targets = np.concatenate(self._users), np.concatenate(self._targets)
            self._users, self._targets = [], []
            hits = found[:, :-1].astype(bool)
            self.ranks = np.where(hits.any(1), hits.argmax(1) + 1, 0).astype(np.int64)
            if len(self.ranks) != len(self.users) or (found[:, -1] != 1).any():
                raise ValueError("evaluation of several targets a user; ranks need exactly one")
            return evaluate(struct)

        return noted


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
