"""Parameters that stay as they are, for a whole training or for its first epochs."""

from __future__ import annotations

import logging
from collections.abc import Collection

from torch import nn

from recbole_mmm4rec.training.observers import Observer, Training

logger = logging.getLogger(__name__)


class Freezing(Observer):
    """Keeps parameters as they are until ``unfreeze_after``; the optimiser knows all of them."""

    place = "unfreezing"

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        """Let these parameters stay as they are, and all others move.

        Args:
            model: what trains.
            names: as ``model.named_parameters()`` gives them.
        """
        self._model = model
        self._freeze(names)

    def epoch_begins(self, training: Training, epoch: int) -> None:
        """Let all move once their time has come."""
        trainer = training.trainer
        if self._frozen and 0 < (trainer.config["unfreeze_after"] or 0) <= epoch:
            self._freeze(())
            trainer.graphed = None  # a recorded step has no gradients of what was frozen
            logger.info("all parameters are trained from here on (unfreeze_after)")

    def _freeze(self, names: Collection[str]) -> None:
        self._frozen = bool(names)
        for name, weight in self._model.named_parameters():
            weight.requires_grad_(name not in names)
