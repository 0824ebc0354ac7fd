"""Going on after the last finished epoch of a training that was broken off, for any trainer that is RecBole's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from recbole_mmm4rec.compat.tools import whole_file
from recbole_mmm4rec.distributed import group

_NOTED = ("cur_step", "best_valid_score", "best_valid_result", "train_loss_dict", "saved_model_file", "optimizer_step")


def keep_last_epoch(module: ModuleType) -> None:
    """Let ``Trainer.fit`` note each finished epoch, and begin after the one that was noted last.

    Noted on several processes, and with ``resume: True``; begun after, with ``resume: True`` and where ``torchrun`` has
    started the processes again. A pre-training has checkpoints of its own for that; models that only count, such as Pop
    and EASE, begin anew.
    """
    original = module.Trainer.fit

    @wraps(original)
    def fit(
        self: Any,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Any = None,
    ) -> tuple[float, Any]:
        last = LastEpoch.of(self, train_data) if saved else None
        if last is None:
            found: tuple[float, Any] = original(
                self, train_data, valid_data, verbose, saved, show_progress, callback_fn
            )
            return found
        if _is_wanted_again(self.config) and last.go_on():
            self.eval_collector.data_collect(train_data)
            return self.best_valid_score, self.best_valid_result
        with_notes = self._train_epoch
        self._train_epoch = last.noting(with_notes)
        found = original(self, train_data, valid_data, verbose, saved, show_progress, callback_fn)
        self._train_epoch = with_notes
        last.write(max(self.train_loss_dict, default=-1), finished=True)
        return found

    module.Trainer.fit = fit


def _is_wanted_again(config: Any) -> bool:
    return config["resume"] is True or int(os.environ.get(group.RESTARTS, "0")) > 0


def _is_noted(config: Any) -> bool:
    if config["stage"] == "pretrain" or config["MODEL_TYPE"].name == "TRADITIONAL":
        return False  # the one has checkpoints of its own, the other a single epoch and matrices of SciPy
    return bool(group.active() or config["resume"] is True)


def waits_for(config: Any) -> bool:
    """Whether a training will go on with what was noted; the same on every process, which all have to ask."""
    wanted = _is_noted(config) and _is_wanted_again(config)
    return bool(wanted and group.same(last_file(config).is_file()))


class LastEpoch:
    """The state after the last finished epoch of one training, in a file of ``checkpoint_dir``.

    The file holds tensors and plain values and is read without running anything that it might hold besides.
    """

    def __init__(self, trainer: Any, train_data: Any) -> None:
        """Find the file's name.

        Args:
            trainer: one that has not begun.
            train_data: its training loader.
        """
        self.trainer = trainer
        self.order: torch.Generator | None = getattr(train_data, "generator", None)
        self.file = last_file(trainer.config)

    @classmethod
    def of(cls, trainer: Any, train_data: Any) -> LastEpoch | None:
        """What a trainer's epochs are to be noted with; None where they are not."""
        return cls(trainer, train_data) if _is_noted(trainer.config) else None

    def noting(self, train: Callable[..., Any]) -> Callable[..., Any]:
        """A trainer's ``_train_epoch``; when it begins, the epoch before is finished and validated."""
        begun = self.trainer.start_epoch

        @wraps(train)
        def epoch(train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
            if epoch_idx > begun:
                self.write(epoch_idx - 1)
            return train(train_data, epoch_idx, *args, **kwargs)

        return epoch

    def write(self, epoch: int, finished: bool = False) -> None:
        """Note the state after an epoch.

        Args:
            epoch: RecBole's number, 0 for the first.
            finished: whether it was the last one of the training.
        """
        if not group.is_main():
            return
        trainer = self.trainer
        state = {
            "epoch": epoch,
            "finished": finished,
            "noted": {name: _plain(getattr(trainer, name)) for name in _NOTED if hasattr(trainer, name)},
            "valid_history": [_plain(tuple(entry)) for entry in trainer.valid_history],
            "state_dict": trainer.model.state_dict(),
            "other_parameter": trainer.model.other_parameter(),
            "optimizer": trainer.optimizer.state_dict(),
            "more": trainer.more_state() if hasattr(trainer, "more_state") else None,
            "scaler": trainer.scaler.state_dict() if hasattr(trainer, "scaler") else None,
            "order": None if self.order is None else self.order.get_state(),
        }
        with whole_file(self.file) as file:
            torch.save(state, file)

    def go_on(self) -> bool:
        """Take over what was noted, from process 0's file, if there is one.

        Returns:
            whether the training was finished.
        """
        state = None
        if group.is_main() and self.file.is_file():
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        state = group.same(state)
        trainer = self.trainer
        if state is None:
            trainer.logger.info("resume: there is no %s, the training begins anew", self.file)
            return False
        for name, value in state["noted"].items():
            setattr(trainer, name, value)
        trainer.start_epoch = state["epoch"] + 1
        from recbole_mmm4rec.history import restore_history  # which needs RecBole's trainers to be there

        restore_history(trainer, state["valid_history"])
        trainer.model.load_state_dict(state["state_dict"])
        trainer.model.load_other_parameter(state["other_parameter"])
        if state.get("more"):
            trainer.load_more_state(state["more"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] is not None:
            trainer.scaler.load_state_dict(state["scaler"])
        if self.order is not None and state["order"] is not None:
            self.order.set_state(state["order"])
        trainer.logger.info("goes on after epoch %d, from %s", trainer.start_epoch, self.file)
        return bool(state["finished"])


def last_file(config: Any) -> Path:
    """Where a training's last epoch is noted: one file for the same data and settings, on any number of processes."""
    from recbole_mmm4rec.pretraining import run_id

    return Path(config["checkpoint_dir"]) / f"{config['model']}-{config['dataset']}-{run_id(config)}-last.pth"


def forget(config: Any) -> None:
    """Remove the note of a training whose result is known."""
    if group.is_main() and _is_noted(config):
        last_file(config).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, in any nesting of dictionaries and sequences."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value.item() if hasattr(value, "item") else value
