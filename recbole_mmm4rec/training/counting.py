"""The trainer of the model that only counts."""

from __future__ import annotations

from typing import Any

import torch

from recbole_mmm4rec.training.in_pieces import RanksInPieces


class NeighboursTrainer(RanksInPieces):
    """Validates once and keeps the model; there is nothing to train, whatever ``epochs`` says."""

    def __init__(self, config: Any, model: Any) -> None:
        """Set ``epochs`` to 0, which makes RecBole save without training, and us validate before that."""
        config["epochs"] = 0
        super().__init__(config, model)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """An optimiser, which RecBole saves, of nothing: PyTorch's take no empty list."""
        return torch.optim.SGD([torch.zeros(0)], lr=0.0)
