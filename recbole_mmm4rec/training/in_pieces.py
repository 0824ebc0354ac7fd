"""An evaluation that ranks piece by piece, so that the scores of all items need not stand in memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from recbole.trainer import Trainer
from torch import Tensor

from recbole_mmm4rec.scoring.ranking import RankingCollector, TopItems
from recbole_mmm4rec.scoring.recommend import best_items


class RanksInPieces(Trainer):
    """A trainer of models that have ``sides``: user vectors and an item side, whose products are their scores."""

    eval_collector: RankingCollector
    _told = False

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, Any, Tensor, Tensor]:
        """The scores of a batch of users: the best items alone where the metrics need no more, else all of them."""
        if not self.eval_collector.top_alone:
            if not self._told:
                self._told = True
                self.logger.info(
                    "a metric needs the scores of all items (GAUC): evaluation holds users × items numbers, "
                    "lower eval_batch_size if they do not fit"
                )
            return cast(tuple[Any, Any, Tensor, Tensor], super()._full_sort_batch_eval(batched_data))
        interaction, history, positive_u, positive_i = batched_data
        batch = interaction.to(self.device)
        users, fused = self.model.sides(batch)
        if history is not None:
            history = tuple(part.to(users.device) for part in history)
        with torch.autocast(users.device.type, enabled=False):
            added = self.model.addition(batch)
            _, items = best_items(users, fused, max(self.config["topk"]), history=history, addition=added)
        return interaction, TopItems(items, fused.shape[0]), positive_u, positive_i
