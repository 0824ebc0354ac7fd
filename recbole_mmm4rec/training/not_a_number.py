"""What happens when a loss is not a number (``nan_policy``)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import ENDING, write
from recbole_mmm4rec.distributed import group

logger = logging.getLogger(__name__)

_NAMED = 5


def leaves_out(trainer: Any, loss: Any, batch: Any, epoch: int, number: int) -> bool:
    """Whether a batch is to be left out.

    Args:
        trainer: of the training.
        loss: () of the batch.
        batch: RecBole's interaction.
        epoch: the one that is trained, from 0.
        number: of the batch in it, from 0.

    Returns:
        False for a loss that is a number; True, on all processes, where ``nan_policy`` is skip.

    Raises:
        UserError: it is none and ``nan_policy`` is stop: names batch, parameters, and the file that holds the batch.
    """
    skips = trainer.config["nan_policy"] == "skip"
    bad = bool(torch.isnan(loss))
    if not (group.total(float(bad)) if skips else bad):
        return False
    if not bad:
        return True  # another process of several has it
    kind = "" if group.world() == 1 else f"-process{group.rank()}"
    name = f"{trainer.config['model']}-{trainer.config['dataset']}-nan-epoch{epoch + 1}-batch{number + 1}{kind}{ENDING}"
    file = Path(trainer.config["checkpoint_dir"]) / name
    write(file, {"epoch": epoch, "batch": number, "interaction": dict(batch.interaction)})
    wrong = [name for name, weight in trainer.model.named_parameters() if not torch.isfinite(weight).all()]
    named = ", ".join(wrong[:_NAMED]) + (f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")
    those = f"neither are parameters: {named}" if wrong else "all parameters are numbers"
    told = (
        f"the loss of batch {number + 1} of epoch {epoch + 1} is not a number; {those}; the batch is in {str(file)!r}"
    )
    if not skips:
        raise UserError(f"{told}; lower learning_rate, set clip_grad_norm, or leave such batches out: nan_policy=skip")
    logger.warning("%s; it is left out (nan_policy: skip)", told)
    return True
