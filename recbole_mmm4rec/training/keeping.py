"""Noting each finished epoch and going on after it, for trainers that RecBole's loop drives; pre-training's files."""

from __future__ import annotations

import logging
import math
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import set_color
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import ENDING, STOCK, read
from recbole_mmm4rec.checkpoints.parts import OtherParameters, parts_of, register
from recbole_mmm4rec.checkpoints.run_files import RunFiles
from recbole_mmm4rec.checkpoints.saving import load, save, save_stock
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.settings.stage import is_pretraining
from recbole_mmm4rec.training.observers import Observer, Training
from recbole_mmm4rec.training.places import any_of_all, of_processes, place_of
from recbole_mmm4rec.transfer.next_command import next_command

logger = logging.getLogger(__name__)

noted: Path | None = None
"""The last checkpoint that a signal or the clock has had written in this process."""

trained: str | None = None
"""The best model's file of the last training of this process that ended by itself."""

COUNTED = ("TRADITIONAL", "DECISIONTREE")
"""Kinds of models with a single epoch, and matrices of SciPy, or trees."""
_CHANGED = ("cur_step", "best_valid_score", "best_valid_result", "valid_history", "random", "order")
"""Parts that a validation changes."""
_MINUTES = 5


class Keeping(Observer):
    """Writes the state after each epoch and some times within one, and lets a training begin where it was written last.

    Written are: pre-trainings, whose checkpoints by epoch stay; trainings on several processes; and all with
    ``resume: True``; of every other training the state when Ctrl-C or SIGTERM ends it. Gone on is with ``resume:
    True``, where ``torchrun`` has started the processes again, and with a pre-training or several processes unless
    ``resume`` is False.
    Models that only count, such as Pop and EASE, begin anew, and so does what a file cannot hold, with a warning.

    Attributes:
        files: of the run, None where nothing is written unasked.
    """

    place = "keeping"

    def __init__(self, loop: Callable[..., Any]) -> None:
        """Note nothing yet.

        Args:
            loop: RecBole's ``Trainer.fit``, whose loop begins with ``start_epoch``.
        """
        self.files: RunFiles | None = None
        self._loop = loop
        self._next = math.inf
        self._trained: dict[str, Any] | None = None  # what a validation changes, as it was before

    def training_begins(self, training: Training) -> bool:
        """Take over what was written, or make room for a training that starts anew."""
        global trained
        trained = None
        self.files, self._trained = None, None
        training.steps.counts = False
        trainer = training.trainer
        trainer.train_loader = training.train_data
        kept = _is_kept(trainer.config)
        counted = trainer.config["MODEL_TYPE"].name in COUNTED
        if not training.saves or counted or not hasattr(trainer, "start_epoch"):
            return False
        reason = self._obstacle(trainer)
        training.steps.counts = not reason and training.steps.can_count(training.train_data)
        if not kept:
            return False
        if reason:
            if group.is_main():
                logger.warning("a training of %s that is broken off begins anew: %s", trainer.config["model"], reason)
            return False
        self.files = files = RunFiles(trainer.config)
        if group.is_main():
            training.left.enter_context(files.claimed())
        if files.pretraining:
            trainer.saved_model_file = str(files.best)
        self._set_clock(trainer.config)
        return self._goes_on(training, files)

    def saving(self, training: Training, epoch: int, file: str) -> str:
        """Let the best model wait until its epoch is noted; the one before the first epoch has nothing to wait for."""
        if self.files is None or epoch < 0:
            return file
        return str(self.files.waiting(epoch))

    def epoch_ends(self, training: Training, epoch: int) -> None:
        """Write the state, of a pre-training also under the number of the epoch where that is wanted."""
        self._trained = None
        if self.files is None:
            if group.active():  # where a signal does not end a process by itself
                self._end_if(training, *any_of_all(bool(training.stopping.asked)))
            return
        with training.stopping.put_off():
            own = {"processes": of_processes(training)}
            if group.is_main():
                self._note_epoch(training, self.files, epoch, own)
        self._set_clock(training.trainer.config)
        self._end_if(training, *any_of_all(bool(training.stopping.asked)))

    def _end_if(self, training: Training, asked: bool) -> None:
        """End a training that was asked to on any process, once what goes on is written."""
        if asked:
            group.barrier()
            training.stopping.tell(0 if training.stopping.asked else signal.SIGTERM)

    def _note_epoch(self, training: Training, files: RunFiles, epoch: int, own: Mapping[str, Any]) -> None:
        trainer = training.trainer
        every = int(trainer.config["pretrain_checkpoint_every"] or 0) if files.pretraining else 0
        if every and (epoch + 1) % every == 0:
            kept = files.of_epoch(epoch + 1)
            save(trainer, epoch, kept, own)  # before the note: a kill meanwhile trains the epoch once more
            if training.verbose:
                trainer.logger.info(set_color("Saving current", "blue") + f": {kept}")
        save(trainer, epoch, files.last, own)
        files.take_best(epoch, trainer.saved_model_file)

    def stepped(self, training: Training) -> None:
        """Write the state in the middle of an epoch, where it is time or the training is to end."""
        due = self.files is not None and group.is_main() and time.monotonic() >= self._next
        due, asked = any_of_all(due, bool(training.stopping.asked))
        if not due and not asked:
            return
        for observer in training.observers:
            observer.pausing(training)
        self._note(training, training.epoch - 1, {"steps": place_of(training), "processes": of_processes(training)})
        for observer in training.observers:
            observer.going_on(training)
        self._set_clock(training.trainer.config)
        self._end_if(training, asked)

    def epoch_trained(self, training: Training, epoch: int) -> None:
        """Remember what the validation will change, for a signal that breaks it off."""
        self._trained = None
        if training.steps.counts and not group.active():
            parts = dict(parts_of(training.trainer))
            changed = {name: deepcopy(parts[name].state_dict()) for name in _CHANGED if name in parts}
            self._trained = {**changed, "steps": place_of(training)}

    def broken_off(self, training: Training) -> None:
        """Write the epoch that was trained, before its validation."""
        if self._trained is not None:
            self._note(training, training.epoch - 2, self._trained)

    def _note(self, training: Training, epoch: int, instead: Mapping[str, Any]) -> None:
        """Write the newest state; of a training that is not kept only where no other process is at the same run."""
        global noted
        if not group.is_main():
            return
        files = self.files or RunFiles(training.trainer.config)
        try:
            with nullcontext() if self.files else files.claimed():
                save(training.trainer, epoch, files.last, instead)
        except UserError as error:
            if self.files:
                raise
            logger.warning("no checkpoint is written: %s", error)
        else:
            noted = files.last

    def _set_clock(self, config: Any) -> None:
        minutes = config["checkpoint_every_minutes"]
        minutes = _MINUTES if minutes is None else minutes
        self._next = time.monotonic() + 60 * minutes if minutes else math.inf

    def training_ends(self, training: Training) -> None:
        """Wait for process 0: all load the best model, which has its name only now."""
        global trained
        trainer = training.trainer
        trained = trainer.saved_model_file if training.saves else None
        if training.saves and trainer.config["save_pth"] and group.is_main():
            told = save_stock(trainer)
            if told and training.verbose:
                trainer.logger.info(set_color("Saving for RecBole alone", "blue") + f": {told}")
        if self.files is not None:
            group.barrier()

    def forget(self) -> None:
        """Remove the note of a training whose result is known; a pre-training's stays."""
        if self.files is not None and not self.files.pretraining and group.is_main():
            self.files.last.unlink(missing_ok=True)

    def results(self, config: Any) -> dict[str, Any]:
        """What a result says of a pre-training; nothing of another training."""
        if self.files is None or not self.files.pretraining:
            return {}
        command = next_command(config, str(self.files.best))
        return {"epoch_checkpoints": self.files.by_epoch(), "next_command": command}

    def _goes_on(self, training: Training, files: RunFiles) -> bool:
        """Take over process 0's newest state, if one is wanted and there; whether nothing is left to train."""
        trainer = training.trainer
        found: tuple[dict[str, Any], str] | None = None
        if group.is_main():
            newest = files.newest() if _is_wanted_again(trainer.config) else None
            if newest is None:
                files.begin_anew()
            else:
                state = read(newest)
                state.pop("config", None)  # what counts in it is in the file's name
                found = state, str(newest)
        found = group.same(found)
        if found is None:
            others = files.of_others() if group.is_main() and _is_wanted_again(trainer.config) else []
            if others:
                told = "the training begins anew, for there is no %s: %s is of other settings or data files"
                trainer.logger.warning(told, files.last, others[0])
            elif trainer.config["resume"] is True:
                trainer.logger.info("resume: there is no %s, the training begins anew", files.last)
            return False
        load(trainer, *found)
        training.epoch = trainer.start_epoch
        if group.is_main():
            files.take_best(trainer.start_epoch - 1, trainer.saved_model_file)
            if trainer.best_valid_result and not Path(trainer.saved_model_file).is_file():
                raise UserError(
                    f"{found[1]}: {trainer.saved_model_file}, the best model of that training, is not there; put it "
                    "there, or begin anew with resume=False"
                )
        group.barrier()
        steps = training.steps
        within = f" and {steps.done} of {len(training.train_data)} batches" if steps.done else ""
        trainer.logger.info("goes on after epoch %d%s, from %s", trainer.start_epoch, within, found[1])
        return bool(trainer.cur_step > trainer.stopping_step or trainer.start_epoch >= trainer.epochs)

    def _obstacle(self, trainer: Any) -> str:
        """Why the state of a training cannot be noted; empty where it can."""
        fit = type(trainer).fit
        if fit is not self._loop and "super" not in fit.__code__.co_names:  # nor one that goes on to RecBole's
            return "its trainer has a loop of its own"
        if "pretrain" in str(getattr(trainer.model, "train_stage", "")):
            return "its own pre-training has another loop"
        optimizers = {id(value) for value in vars(trainer).values() if isinstance(value, torch.optim.Optimizer)}
        if len(optimizers) > 1:
            return "it has several optimisers, of which a trainer of RecBole keeps one"
        held = OtherParameters(trainer.model).state_dict()
        strange = [name for name, value in held.items() if not _is_plain(value)]
        return f"{strange[0]} is no tensor and no plain value" if strange else ""


class BestFile:
    """The name of the best model's file, which lies beside the note."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def state_dict(self) -> str:
        """Its name without a folder."""
        return Path(self.trainer.saved_model_file).name

    def load_state_dict(self, state: Any) -> None:
        """Write to that file from now on, in this run's folder, whatever folder is named.

        Raises:
            ValueError: a name that no best model of this model has.
        """
        config = self.trainer.config
        name = re.split(r"[\\/]", str(state))[-1]
        right = re.fullmatch(
            rf"{re.escape(config['model'])}-.*(?<!-last)({re.escape(ENDING)}|{re.escape(STOCK)})", name
        )
        if not isinstance(state, str) or not right:
            raise ValueError(f"{state!r} is no best model's file")
        self.trainer.saved_model_file = str(Path(config["checkpoint_dir"]) / name)


@register("saved_model_file")
def _best_file(trainer: Any) -> BestFile:
    return BestFile(trainer)


def _is_wanted_again(config: Any) -> bool:
    unasked = is_pretraining(config) or group.active()
    return config["resume"] is True or (unasked and config["resume"] is not False) or group.restarted()


def _is_kept(config: Any) -> bool:
    return bool(is_pretraining(config) or group.active() or config["resume"] is True)


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)
