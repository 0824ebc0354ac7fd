"""Going on after the last finished epoch of a training that was broken off, for any trainer that is RecBole's own."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from recbole.utils import set_color
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.distributed import group

logger = logging.getLogger(__name__)

_NOTED = ("cur_step", "best_valid_score", "best_valid_result", "train_loss_dict", "saved_model_file", "optimizer_step")


def keep_last_epoch(module: ModuleType) -> None:
    """Let ``Trainer.fit`` note each finished epoch, and begin after the one that was noted last.

    Noted on several processes, and with ``resume: True``; begun after, with ``resume: True`` and where ``torchrun`` has
    started the processes again. A pre-training has checkpoints of its own for that; models that only count, such as Pop
    and EASE, begin anew, and so does what a note cannot hold, with a warning.
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
        train, save = self._train_epoch, self._save_checkpoint
        self._train_epoch, self._save_checkpoint = last.noting(train), last.setting_aside(save)
        found = original(self, train_data, valid_data, verbose, saved, show_progress, callback_fn)
        self._train_epoch, self._save_checkpoint = train, save
        last.write(max(self.train_loss_dict, default=-1), finished=True)
        group.barrier()  # all load the best model, which has its name only now
        return found

    module.Trainer.fit = fit


def _is_wanted_again(config: Any) -> bool:
    return config["resume"] is True or group.restarted()


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

    The file holds tensors and plain values and is read without running anything that it might hold besides. The best
    model belongs to it: what an epoch has found to be the best waits beside its file until that epoch is noted, so
    that a kill between the two leaves the best one of the epochs that are noted.
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
        if not _is_noted(trainer.config):
            return None
        reason = _no_note(trainer)
        if reason and group.is_main():
            logger.warning("a training of %s that is broken off begins anew: %s", trainer.config["model"], reason)
        return None if reason else cls(trainer, train_data)

    def noting(self, train: Callable[..., Any]) -> Callable[..., Any]:
        """A trainer's ``_train_epoch``; when it begins, the epoch before is finished and validated."""
        begun = self.trainer.start_epoch

        @wraps(train)
        def epoch(train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
            if epoch_idx > begun:
                self.write(epoch_idx - 1)
            return train(train_data, epoch_idx, *args, **kwargs)

        return epoch

    def setting_aside(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """A trainer's ``_save_checkpoint``; the best model waits until its epoch is noted."""
        trainer = self.trainer

        @wraps(save)
        def aside(epoch: int, verbose: bool = True, **kwargs: Any) -> Any:
            if epoch < 0 or "saved_model_file" in kwargs:
                return save(epoch, verbose=verbose, **kwargs)
            found = save(epoch, verbose=False, saved_model_file=str(self._waiting(epoch)), **kwargs)
            if verbose:
                trainer.logger.info(set_color("Saving current", "blue") + f": {trainer.saved_model_file}")
            return found

        return aside

    def _waiting(self, epoch: int) -> Path:
        return Path(f"{self.trainer.saved_model_file}.epoch{epoch}")

    def _take_best(self, epoch: int) -> None:
        """Let the best model of a noted epoch take its place, and forget one of an epoch that is not."""
        best = Path(self.trainer.saved_model_file)
        for file in best.parent.glob(f"{glob.escape(best.name)}.epoch*"):
            if file == self._waiting(epoch):
                os.replace(file, best)
            else:
                file.unlink()

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
            "other_parameter": _other_parameters(trainer.model),
            "optimizer": trainer.optimizer.state_dict(),
            "more": trainer.more_state() if hasattr(trainer, "more_state") else None,
            "scaler": trainer.scaler.state_dict() if hasattr(trainer, "scaler") else None,
            "order": None if self.order is None else self.order.get_state(),
        }
        with whole_file(self.file) as file:
            torch.save(state, file)
        self._take_best(epoch)

    def go_on(self) -> bool:
        """Take over what was noted, from process 0's file, if there is one.

        Returns:
            whether nothing is left to train: it had ended by itself, or has as many epochs as are wanted now.
        """
        state = None
        if group.is_main() and self.file.is_file():
            try:
                state = torch.load(self.file, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
                raise UserError(f"{self.file} is damaged; remove it to begin anew") from error
        state = group.same(state)
        trainer = self.trainer
        if state is None:
            trainer.logger.info("resume: there is no %s, the training begins anew", self.file)
            return False
        for name, value in state["noted"].items():
            setattr(trainer, name, value)
        trainer.start_epoch = state["epoch"] + 1
        from recbole_mmm4rec.checkpoints.history import restore_history  # which needs RecBole's trainers to be there

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
        if group.is_main():
            self._take_best(state["epoch"])
        group.barrier()
        trainer.logger.info("goes on after epoch %d, from %s", trainer.start_epoch, self.file)
        ended = state["finished"] and trainer.cur_step > trainer.stopping_step
        return bool(ended or trainer.start_epoch >= trainer.epochs)


def last_file(config: Any) -> Path:
    """Where a training's last epoch is noted: one file for the same data and settings, on any number of processes."""
    from recbole_mmm4rec.checkpoints.by_epoch import run_id

    return Path(config["checkpoint_dir"]) / f"{config['model']}-{config['dataset']}-{run_id(config)}-last.pth"


def forget(config: Any) -> None:
    """Remove the note of a training whose result is known."""
    if group.is_main() and _is_noted(config):
        last_file(config).unlink(missing_ok=True)


def _other_parameters(model: Any) -> dict[str, Any]:
    """RecBole's ``other_parameter`` without modules, whose weights are in the state of the model."""
    return {name: value for name, value in (model.other_parameter() or {}).items() if not isinstance(value, nn.Module)}


def _no_note(trainer: Any) -> str:
    """Why the state of a training cannot be noted; empty where it can."""
    optimizers = {id(value) for value in vars(trainer).values() if isinstance(value, torch.optim.Optimizer)}
    if len(optimizers) > 1:
        return "it has several optimisers, of which a trainer of RecBole keeps one"
    strange = [name for name, value in _other_parameters(trainer.model).items() if not _is_plain(value)]
    return f"{strange[0]} is no tensor and no plain value" if strange else ""


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, in any nesting of dictionaries and sequences."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value.item() if hasattr(value, "item") else value
