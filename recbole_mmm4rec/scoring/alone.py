"""Neighbours as a model of their own: no network, no training, items ranked by what was taken together."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor


class Neighbours(SequentialRecommender):
    """Scores that are 0 but for what :mod:`.beside` adds to those of every sequential model.

    Its trainer is :class:`~recbole_mmm4rec.training.counting.NeighboursTrainer`.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        """Note the training data set; counted is at the first score.

        Args:
            config: RecBole's configuration; its ``neighbour_weight`` is 1.
            dataset: the training data set.
        """
        super().__init__(config, dataset)
        self.has_trained = True  # what others learn in epochs it finds by counting

    def sides(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """A user side (B, 1) and an item side (I+1, 1) whose products are 0."""
        device = interaction[self.ITEM_SEQ].device
        return torch.zeros(len(interaction), 1, device=device), torch.zeros(self.n_items, 1, device=device)

    def predict(self, interaction: Interaction) -> Tensor:
        """(B,) zeros."""
        return self.sides(interaction)[0].squeeze(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """(B, I+1) zeros."""
        users, items = self.sides(interaction)
        return users @ items.T
