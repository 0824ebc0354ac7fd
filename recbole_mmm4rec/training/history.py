"""What every validation of a training found, for any RecBole trainer; and a validation before the first epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

from recbole.utils import calculate_valid_score, dict2str, set_color

from recbole_mmm4rec.checkpoints.parts import plain, register
from recbole_mmm4rec.training.observers import Observer, Training


class Validation(NamedTuple):
    """One validation.

    Attributes:
        epoch: epochs of training behind it, 0 for the one before training.
        seconds: seconds of training behind it, those before a kill among them; validations do not count.
        result: metric to value.
        loss: the training loss of the epoch as RecBole reports it, of several parts their sum; None before training.
        train_seconds: seconds of training since the validation before.
        valid_seconds: seconds that the validation took.
    """

    epoch: int
    seconds: float
    result: dict[str, float]
    loss: float | None
    train_seconds: float
    valid_seconds: float


class History(Observer):
    """Keeps a trainer's ``valid_history``, which is a part of its checkpoints."""

    place = "history"

    def __init__(self, trainer: Any) -> None:
        """Begin with no validation."""
        self.trainer = trainer
        trainer.valid_history = []

    def validated(self, training: Training, score: float, result: dict[str, Any]) -> None:
        """Note it."""
        history = self.trainer.valid_history
        found = {metric: float(value) for metric, value in result.items()}  # RecBole's are NumPy's
        since = training.seconds - (history[-1].seconds if history else 0.0)
        history.append(
            Validation(training.epoch, training.seconds, found, training.loss, since, training.valid_seconds)
        )

    def state_dict(self) -> list[tuple[Any, ...]]:
        """The validations as tuples."""
        return [plain(tuple(entry)) for entry in self.trainer.valid_history]

    def load_state_dict(self, state: Any) -> None:
        """Go on with the validations of a training that was broken off, the best result among them.

        Raises:
            TypeError: an entry is no validation.
        """
        entries = [Validation(*entry) for entry in state]
        for entry in entries:
            numbers = (entry.epoch, entry.seconds, *entry.result.values())
            if not all(isinstance(number, (int, float)) for number in numbers):
                raise TypeError(f"{entry} is no validation")
        trainer = self.trainer
        trainer.valid_history = entries
        if entries:
            trainer.training.seconds = entries[-1].seconds
            best = best_epoch(trainer)
            trainer.best_valid_result = next(entry.result for entry in entries if entry.epoch == best)


@register("valid_history")
def _history(trainer: Any) -> History:
    history: History = trainer.training.at(History.place)
    return history


class FirstValidation(Observer):
    """Validates the model before it is trained; it counts as the best one until an epoch is as good."""

    place = "first validation"

    def training_begins(self, training: Training) -> bool:
        """Validate, where that is wanted and the training does not go on from a checkpoint, not even of epoch 0."""
        trainer = training.trainer
        begins = getattr(trainer, "start_epoch", None) == 0 and not trainer.valid_history  # tree models have no such
        if not begins or not training.valid_data or not _is_wanted(trainer.config):
            return False
        if trainer.epochs > 0 and trainer.eval_step <= 0:  # no epoch would stand beside it; the last model is kept
            return False
        trainer.eval_collector.data_collect(training.train_data)
        trainer.best_valid_score, trainer.best_valid_result = training.validate()
        if training.verbose:
            score = set_color("valid_score", "blue") + f": {trainer.best_valid_score:f}"
            trainer.logger.info(set_color("before the first epoch", "green") + f" [{score}]")
            trainer.logger.info(set_color("valid result", "blue") + ": \n" + dict2str(trainer.best_valid_result))
        if training.saves and trainer.epochs > 0:  # without epochs RecBole saves by itself
            trainer._save_checkpoint(-1, verbose=training.verbose)
        return False


def _is_wanted(config: Any) -> bool:
    """The key ``evaluate_first``; ``auto`` says so where there is something to see before training, or no training."""
    wanted = config["evaluate_first"]
    if wanted is None or wanted == "auto":
        return bool(config["pretrained"]) or config["epochs"] == 0
    return bool(wanted)


def best_epoch(trainer: Any) -> int:
    """Epochs of training behind the best model, which is the one that RecBole keeps.

    Returns:
        0 for the model before training; without any validation the number of epochs trained.
    """
    history: list[Validation] = trainer.valid_history
    if not history:
        return len(getattr(trainer, "train_loss_dict", ()))
    sign = 1 if trainer.valid_metric_bigger else -1
    # of equal scores the last one, as RecBole's early stopping has it
    return max((sign * calculate_valid_score(entry.result, trainer.valid_metric), entry.epoch) for entry in history)[1]
