"""What happens when a loss is not a number, or infinite (``nan_policy``)."""

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
        False for a loss that is a finite number on all processes; True, on all, where it is none on one and
        ``nan_policy`` is skip.

    Raises:
        UserError: it is none and ``nan_policy`` is stop, or some parameters are none either, so that no batch will have
            a finite loss any more; on all processes: names batch, parameters, and the file that holds the batch.
    """
    bad = not bool(torch.isfinite(loss))
    if not group.total(float(bad)):
        return False
    wrong = (
        [name for name, weight in trainer.model.named_parameters() if not torch.isfinite(weight).all()] if bad else []
    )
    told = _told(trainer, loss, batch, epoch, number, wrong) if bad else ""
    if trainer.config["nan_policy"] != "skip" or group.total(float(bool(wrong))):
        (first, *_) = filter(None, group.of_all(told))  # all processes end by the same line
        way_out = "" if wrong else ", or leave such batches out: nan_policy=skip"
        raise UserError(f"{first}; lower learning_rate, set clip_grad_norm{way_out}")
    if bad:
        logger.warning("%s; it is left out (nan_policy: skip)", told)
    return True


def _told(trainer: Any, loss: Any, batch: Any, epoch: int, number: int, wrong: list[str]) -> str:
    """Write a batch to a file; what there is to say of it."""
    kind = "" if group.world() == 1 else f"-process{group.rank()}"
    name = f"{trainer.config['model']}-{trainer.config['dataset']}-nan-epoch{epoch + 1}-batch{number + 1}{kind}{ENDING}"
    file = Path(trainer.config["checkpoint_dir"]) / name
    write(file, {"epoch": epoch, "batch": number, "interaction": dict(batch.interaction)})
    named = ", ".join(wrong[:_NAMED]) + (f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")
    those = f"neither are parameters: {named}" if wrong else "all parameters are numbers"
    what = "not a number" if torch.isnan(loss) else "infinite"
    return f"the loss of batch {number + 1} of epoch {epoch + 1} is {what}; {those}; the batch is in {str(file)!r}"
