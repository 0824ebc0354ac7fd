"""What every validation of a training found, for any RecBole trainer; and a validation before the first epoch."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import wraps
from time import perf_counter
from types import ModuleType
from typing import Any, NamedTuple

from recbole.utils import calculate_valid_score, dict2str, set_color

from recbole_mmm4rec.checkpoints.last_epoch import waits_for


class Validation(NamedTuple):
    """One validation.

    Attributes:
        epoch: epochs of training behind it, 0 for the one before training.
        seconds: seconds of training behind it, since this process began to train; validations do not count.
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


class _Watch:
    """Notes what a trainer does, by wrapping the methods of that one object."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.epoch, self.seconds, self.seen = 0, 0.0, 0.0
        self.loss: float | None = None
        trainer.valid_history = []
        trainer.history_watch = self
        for name in ("_train_epoch", "_train_at_once"):
            if hasattr(trainer, name):
                setattr(trainer, name, self._timed(getattr(trainer, name)))
        if hasattr(trainer, "_valid_epoch"):
            trainer._valid_epoch = self._noted(trainer._valid_epoch)

    def _timed(self, train: Any) -> Any:
        @wraps(train)
        def epoch(train_data: Any, epoch_idx: Any, *args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            loss = train(train_data, epoch_idx, *args, **kwargs)
            self.seconds += perf_counter() - start
            self.epoch = epoch_idx + 1 if isinstance(epoch_idx, int) else self.epoch + 1  # tree models count no epochs
            self.loss = sum(loss) if isinstance(loss, tuple) else loss
            return loss

        return epoch

    def _noted(self, validate: Any) -> Any:
        @wraps(validate)
        def epoch(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            score, result = validate(*args, **kwargs)
            found = {metric: float(value) for metric, value in result.items()}  # RecBole's are NumPy's
            entry = Validation(
                self.epoch, self.seconds, found, self.loss, self.seconds - self.seen, perf_counter() - start
            )
            self.seen = self.seconds
            self.trainer.valid_history.append(entry)
            return score, result

        return epoch


def restore_history(trainer: Any, entries: Iterable[Iterable[Any]]) -> None:
    """Go on with the validations of a training that was broken off, the best result among them.

    Args:
        trainer: a trainer that has not begun.
        entries: the earlier ``valid_history``, as tuples.
    """
    trainer.valid_history = [Validation(*entry) for entry in entries]
    watch: _Watch = trainer.history_watch
    if trainer.valid_history:
        watch.seconds = watch.seen = trainer.valid_history[-1].seconds
        best = best_epoch(trainer)
        trainer.best_valid_result = next(entry.result for entry in trainer.valid_history if entry.epoch == best)


def keep_history(module: ModuleType) -> None:
    """Let every trainer of RecBole keep ``valid_history`` and, where it is wanted, validate before it trains."""
    original = module.AbstractTrainer.__init__

    @wraps(original)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, config, model)
        _Watch(self)
        if isinstance(self, module.Trainer) and _validates_first(config):
            self.fit = _with_validation_first(self, self.fit)

    module.AbstractTrainer.__init__ = __init__


def _validates_first(config: Any) -> bool:
    """The key ``evaluate_first``; ``auto`` says so where there is something to see before training, or no training."""
    wanted = config["evaluate_first"]
    if wanted is None or wanted == "auto":
        return bool(config["pretrained"]) or config["epochs"] == 0
    return bool(wanted)


def _with_validation_first(trainer: Any, fit: Any) -> Any:
    signature = inspect.signature(fit)

    @wraps(fit)
    def first(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        begins = trainer.start_epoch == 0 and not trainer.valid_history  # no checkpoint of it, not even of epoch 0
        goes_on = given.arguments.get("saved") and waits_for(trainer.config)
        if begins and getattr(trainer, "pretraining", None) is not None:
            trainer.pretraining.begin(bool(given.arguments.get("saved")))  # which removes what was there before
        if begins and not goes_on and given.arguments.get("valid_data"):
            _validate_first(trainer, **{name: given.arguments[name] for name in _USED})
        return fit(*args, **kwargs)

    return first


_USED = ("train_data", "valid_data", "verbose", "saved", "show_progress")


def _validate_first(
    trainer: Any, train_data: Any, valid_data: Any, verbose: bool, saved: bool, show_progress: bool
) -> None:
    """Validate the model as it is; it counts as the best one until an epoch is as good."""
    trainer.eval_collector.data_collect(train_data)
    trainer.best_valid_score, trainer.best_valid_result = trainer._valid_epoch(valid_data, show_progress=show_progress)
    if verbose:
        score = set_color("valid_score", "blue") + f": {trainer.best_valid_score:f}"
        trainer.logger.info(set_color("before the first epoch", "green") + f" [{score}]")
        trainer.logger.info(set_color("valid result", "blue") + ": \n" + dict2str(trainer.best_valid_result))
    if saved and trainer.epochs > 0:  # without epochs RecBole saves by itself
        trainer._save_checkpoint(-1, verbose=verbose)


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
