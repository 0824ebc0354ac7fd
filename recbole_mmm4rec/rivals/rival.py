"""What all rivals share: user vectors times item vectors, and the cross-entropy over all items."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.losses.objectives import refuse_drawn_negatives


class Rival(SequentialRecommender):
    """A model whose scores are products; its trainer is :class:`~recbole_mmm4rec.training.in_pieces.RanksInPieces`."""

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        """Note where the items that are trained on end, see ``number_held_out_last`` of ``data/protocols.py``.

        Raises:
            UserError: sampled negatives, which would count as targets.
        """
        super().__init__(config, dataset)
        refuse_drawn_negatives(config, type(self).__name__)
        self.trained_rows: int | None = getattr(dataset, "trained_rows", None)

    @abstractmethod
    def both(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D) of a batch's histories and the vectors of all items (I+1, D); row 0 is padding."""

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """The mean cross-entropy of a batch over all items, the padding row not among them."""
        users, items = self.both(interaction)
        return full_cross_entropy(users, items, interaction[self.POS_ITEM_ID], 0.0, self.trained_rows)

    def sides(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D) of a batch and the item side (I+1, D), whose products are the scores."""
        users, items = self.both(interaction)
        return _at_least_float32(users), _at_least_float32(items)

    def predict(self, interaction: Interaction) -> Tensor:
        """(B,) score of each row's own item: the matching column of :meth:`full_sort_predict`."""
        users, items = self.sides(interaction)
        return (users * items.index_select(0, interaction[self.ITEM_ID])).sum(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """(B, I+1) scores of all items, the padding column −inf."""
        users, items = self.sides(interaction)
        with torch.autocast(users.device.type, enabled=False):  # bfloat16 scores tie, and ties decide ranks
            scores = users @ items.T
        scores[:, 0] = -torch.inf
        return scores


def begin_like_bert(model: nn.Module, deviation: float = 0.02) -> None:
    """Initial values of the rivals' programs: Linears and tables normal, their biases 0, LayerNorms 1 and 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, 0.0, deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def histories_of(model: Any, interaction: Interaction) -> tuple[Tensor, Tensor]:
    """Item numbers (B, L), oldest first, right-padded with 0, and lengths (B,)."""
    return interaction[model.ITEM_SEQ], interaction[model.ITEM_SEQ_LEN]


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype.itemsize >= 4 else values.float()
