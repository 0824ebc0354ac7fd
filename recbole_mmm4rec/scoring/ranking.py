"""The best items of each user of an evaluation, handed to RecBole's metrics in the order of :mod:`.recommend`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

from recbole_mmm4rec.scoring.recommend import best_of

WHOLE_ROWS = ("rec.meanrank", "rec.score", "data.label")
"""What metrics may need of the scores of all items."""


@dataclass(frozen=True)
class TopItems:
    """The K best items of each user of a batch.

    Attributes:
        items: (B, K) int64 item numbers, best first.
        rows: I+1.
    """

    items: Tensor
    rows: int


class RankingCollector(Collector):
    """RecBole's collector, which also takes the best items alone, and orders equal scores the same way in both."""

    register: Any

    def __init__(self, config: Any) -> None:
        """Read from the configured metrics what has to be collected."""
        super().__init__(config)
        self._others = copy.copy(self.register)
        for name in ("rec.topk", "rec.items"):
            vars(self._others).pop(name, None)

    @property
    def top_alone(self) -> bool:
        """Whether the metrics need nothing but the best items."""
        return not any(self.register.need(name) for name in WHOLE_ROWS)

    def eval_batch_collect(
        self, scores_tensor: Tensor | TopItems, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect a batch.

        Args:
            scores_tensor: (B, I+1) scores of all items, or the best items alone.
            interaction: the batch.
            positive_u: (n,) int64 row of each positive item in the batch.
            positive_i: (n,) int64 positive items.
        """
        if isinstance(scores_tensor, TopItems):
            self._collect_top(scores_tensor, positive_u, positive_i)
            return
        if self.register.need("rec.topk") or self.register.need("rec.items"):
            _, items = best_of(scores_tensor, max(self.topk))
            self._collect_top(TopItems(items, scores_tensor.shape[1]), positive_u, positive_i)
        complete, self.register = self.register, self._others
        try:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        finally:
            self.register = complete

    def _collect_top(self, top: TopItems, positive_u: Tensor, positive_i: Tensor) -> None:
        """What RecBole's metrics read: the best items, and which of them are positive with the number of positives."""
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top.items)
        if self.register.need("rec.topk"):
            users, device = len(top.items), top.items.device
            keys = torch.unique(positive_u.to(device) * top.rows + positive_i.to(device))
            found = torch.arange(users, device=device).unsqueeze(1) * top.rows + top.items
            hits = torch.isin(found, keys).int()
            counts = torch.bincount(keys // top.rows, minlength=users).int().unsqueeze(1)
            self.data_struct.update_tensor("rec.topk", torch.cat([hits, counts], 1))
