"""Checkpoints of a pre-training by epoch, and going on from the newest after it was killed."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.history import restore_history
from recbole_mmm4rec.checkpoints.reading import read_checkpoint
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.settings.defaults import default_settings
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.settings.stage import is_pretraining

logger = logging.getLogger(__name__)

NO_MATTER = frozenset(names(Counts.RESUMED))
"""Keys that may differ between a run and the one that goes on with it."""


def run_id(config: Any) -> str:
    """Eight characters that are the same for the same data files and settings.

    Args:
        config: RecBole's configuration, after its data set was made. ``epochs`` counts only where the learning rate
            depends on it, so that a finished run can be made longer.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if key not in NO_MATTER}
    if config["lr_schedule"] in (None, "constant"):
        settings.pop("epochs", None)
    text = "\n".join(f"{key}={settings[key]!r}" for key in sorted(settings))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def next_command(config: Any, checkpoint: str) -> str:
    """The command that fine-tunes from a checkpoint, with the settings that must be as they were.

    Args:
        config: RecBole's configuration of the pre-training.
        checkpoint: the file to start from.
    """
    defaults = default_settings(config["model"])
    keys = [key for key in names(Counts.SHAPE) if key in config and config[key] != defaults.get(key)]
    settings = [f"--{key}={str(config[key]).replace(' ', '')}" for key in keys]
    words = [f"--model={config['model']}", "--dataset=NAME", f"--pretrained={checkpoint}", *settings]
    return shlex.join(["python", "run_recbole.py", *words])


def after_pretraining(trainer: Any, saved: bool) -> dict[str, Any]:
    """What a result says of a pre-training; nothing of another training.

    Args:
        trainer: any trainer, after it has trained.
        saved: whether it wrote checkpoints.
    """
    pretraining = getattr(trainer, "pretraining", None)
    if pretraining is None or not saved:
        return {}
    command = next_command(trainer.config, trainer.saved_model_file)
    return {"epoch_checkpoints": pretraining.checkpoints(), "next_command": command}


class Pretraining:
    """Names and writes the checkpoints of one pre-training.

    ``STEM.pth`` holds the best model, or without validation the last; ``STEM-epochNNNN.pth`` the model after so many
    epochs; ``STEM-last.pth`` the state after the last finished epoch. Each is a checkpoint of RecBole's kind.

    Attributes:
        every: epochs between two checkpoints that stay, 0 for none.
        saved: whether anything is written.
    """

    def __init__(self, trainer: Any) -> None:
        """Give the trainer's checkpoint its name; go on from the newest one of the same run, if that is wanted.

        Args:
            trainer: a trainer that is otherwise complete.
        """
        config = trainer.config
        self.trainer = trainer
        self.every = int(config["pretrain_checkpoint_every"] or 0)
        self.saved = True
        self.stem = Path(config["checkpoint_dir"]) / f"{config['model']}-pretrain-{config['dataset']}-{run_id(config)}"
        self._written = -1
        # processes that torchrun has started again go on with what they wrote
        self._anew = config["resume"] is False and not group.restarted()
        self._begun = False
        trainer.saved_model_file = str(self._file(""))
        newest = group.same(self._newest() if group.is_main() else None) if not self._anew else None
        if newest is not None:
            if not newest.is_file():
                raise UserError(
                    f"process 0 goes on with {str(newest)!r}, which this machine does not have: checkpoint_dir must be "
                    "one folder for all machines"
                )
            trainer.resume_checkpoint(newest)
            restore_history(trainer, read_checkpoint(newest)["valid_history"])
            trainer.saved_model_file = str(self._file(""))
            self._written = trainer.start_epoch - 1
            if trainer.cur_step > trainer.stopping_step:
                trainer.epochs = trainer.start_epoch  # it had ended by itself
            logger.info("pre-training goes on after epoch %d (resume: False starts anew)", trainer.start_epoch)

    @classmethod
    def of(cls, trainer: Any) -> Pretraining | None:
        """The pre-training that a trainer's configuration asks for, if any."""
        return cls(trainer) if is_pretraining(trainer.config) else None

    def checkpoints(self) -> list[str]:
        """The files named by epoch, in the order of the epochs, which may have more digits than others."""
        files = self.stem.parent.glob(f"{self.stem.name}-epoch*.pth")
        return sorted((str(file) for file in files), key=lambda name: (len(name), name))

    def begin(self, saved: bool) -> None:
        """Make room for a training that starts anew: what another one has left would be gone on with after a kill.

        Args:
            saved: whether anything is to be written.
        """
        self.saved = saved
        begun, self._begun = self._begun, True
        if saved and self._anew and not begun and group.is_main():
            for file in (*map(Path, self.checkpoints()), self._file("-last"), self._file("")):
                file.unlink(missing_ok=True)

    def finished(self, epoch: int) -> None:
        """Write what belongs to an epoch, once both its training and its validation are done.

        Args:
            epoch: RecBole's number, 0 for the first.
        """
        if not self.saved or epoch <= self._written:
            return
        self._written = epoch
        kept = self.every and (epoch + 1) % self.every == 0
        name = f"-epoch{epoch + 1:04d}" if kept else "-last"
        self.trainer._save_checkpoint(epoch, verbose=bool(kept), saved_model_file=str(self._file(name)))

    def _file(self, ending: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}{ending}.pth")

    def _newest(self) -> Path | None:
        """The checkpoint of this run with most epochs behind it."""
        candidates = [file for file in (self._file(""), self._file("-last")) if file.is_file()]
        epochs = {file: int(read_checkpoint(file)["epoch"]) for file in candidates}
        for name in self.checkpoints()[-1:]:
            number = re.search(r"-epoch(\d+)\.pth$", name)
            if number:
                epochs[Path(name)] = int(number[1]) - 1
        return max(epochs, key=lambda file: epochs[file], default=None)
