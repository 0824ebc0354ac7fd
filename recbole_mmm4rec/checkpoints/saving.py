"""RecBole's Trainer with checkpoints that hold all that a training needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.checkpoints.reading import read_checkpoint
from recbole_mmm4rec.distributed import group as processes
from recbole_mmm4rec.training.averaging import Averaging


class CheckpointingTrainer(Trainer):
    """Adds to a checkpoint of RecBole the validations so far and, where weights are averaged, those that train."""

    averaging: Averaging | None = None

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """RecBole's checkpoint with the validations so far."""
        if epoch == -1 and self.start_epoch > 0:
            return  # a training with nothing left to do would write its last state over its best model
        if not processes.is_main():
            return
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        state = {
            "config": self.config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "valid_history": [tuple(entry) for entry in self.valid_history],
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
            **self.more_state(),
        }
        with whole_file(file) as whole:
            torch.save(state, whole, pickle_protocol=4)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")

    def more_state(self) -> dict[str, Any]:
        """What this trainer needs beside model and optimiser to go on after an epoch."""
        return {} if self.averaging is None else {"averaging": self.averaging.state_dict()}

    def load_more_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what :meth:`more_state` gave, once the model has its weights."""
        if self.averaging is not None:
            self.averaging.load_state_dict(state.get("averaging") or {})

    def resume_checkpoint(self, resume_file: Any) -> None:
        """RecBole's, and what more this trainer has written."""
        super().resume_checkpoint(resume_file)
        if self.averaging is not None:
            self.load_more_state(read_checkpoint(resume_file))
