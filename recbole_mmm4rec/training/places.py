"""Parts of a checkpoint that is written in the middle of an epoch: the place, and what each process has for itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from recbole_mmm4rec.checkpoints.parts import Part, RandomNumbers, register
from recbole_mmm4rec.distributed import group


def place_of(training: Any) -> dict[str, Any]:
    """The place in an epoch: batches behind it, the order, the sum of their losses, and the seconds of training."""
    return {**training.steps.state_dict(), "seconds": training.seconds}


class Place:
    """Where the next epoch begins."""

    def __init__(self, training: Any) -> None:
        self.training = training

    def state_dict(self) -> dict[str, Any]:
        """At its first batch; whoever writes in the middle of an epoch says :func:`place_of` instead."""
        return {"batches": 0, "order": None, "loss": None, "seconds": self.training.seconds}

    def load_state_dict(self, state: Any) -> None:
        """Begin there."""
        self.training.steps.load_state_dict(state)
        self.training.seconds = float(state["seconds"])


class Processes:
    """What each of several processes has for itself: random numbers and the sum of its losses.

    Where their number has changed, all begin with equal shares of what the losses of those of before come to.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def state_dict(self) -> None:
        """Nothing; whoever has all of them together says :func:`of_processes` instead."""

    def load_state_dict(self, state: Any) -> None:
        """Take over this process's own; with another number of processes each one draws anew."""
        steps = self.trainer.training.steps
        then = [steps.loss()] if state is None else [own["loss"] for own in state]
        if len(then) != group.world():
            parts = len(then) if getattr(self.trainer, "reports_mean_loss", False) else group.world()
            steps.take_loss(_share([loss for loss in then if loss is not None], parts))
        elif state is not None:
            own = state[group.rank()]
            RandomNumbers(self.trainer.device).load_state_dict(own["random"])
            steps.take_loss(own["loss"])


def _share(losses: list[Any], parts: int) -> Any:
    """One of ``parts`` equal parts of a sum of losses, or of each of several; None of none."""
    if losses and isinstance(losses[0], tuple):
        return tuple(sum(found) / parts for found in zip(*losses, strict=True))
    return sum(losses) / parts if losses else None


@register("steps")
def _steps(trainer: Any) -> Part:
    return Place(trainer.training)


@register("processes")
def _processes(trainer: Any) -> Part:
    return Processes(trainer)


def of_processes(training: Any) -> list[dict[str, Any]] | None:
    """What each process has for itself, on process 0; None on the others, and where there is one."""
    if not group.active():
        return None
    numbers = RandomNumbers(training.trainer.device).state_dict()
    return group.gathered({"random": numbers, "loss": training.steps.loss()})


def any_of_all(*flags: bool) -> list[bool]:
    """Each flag, set on all processes where it is on any."""
    if not group.active():
        return list(flags)
    found = torch.tensor([float(flag) for flag in flags])
    dist.all_reduce(found)
    return [bool(flag) for flag in found]
