"""What happens in a training, told to a list of observers: for our trainer and for all of RecBole's.

RecBole's training is a loop that calls methods of its trainer: ``fit`` trains an epoch, validates it and saves the best
model. This module, and no other, puts itself around those methods of a trainer and tells its observers what happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from time import perf_counter
from typing import Any, ClassVar

from recbole.utils import set_color

from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.token_order import KEY, check_token_order
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.training.not_a_number import leaves_out
from recbole_mmm4rec.training.steps import Steps
from recbole_mmm4rec.training.stopping import Stopping

ORDER = {
    "history": "a validation stands in the history before anybody else speaks of it",
    "keeping": "a state is taken over before anything looks at the model; an epoch is noted before the next one begins",
    "first validation": "after keeping, which knows whether the training begins at all",
    "unfreezing": "before averaging only for the log's sake: neither looks at the other's work",
    "averaging": "after keeping: what is noted is the average, and what trains comes back when the epoch begins",
    "time limit": "after keeping: what is ended has been noted",
    "reports": "after history: they name the epoch of the validation",
    "held out": "changes what a loss is given, not the loop; its place does not matter",
    "ranks": "looks at evaluations alone; its place does not matter",
    "watching": "the last, for whoever wants to see what the others have done",
}
"""The places of observers, in the order in which they are told, each with the reason."""


class EndTraining(Exception):  # noqa: N818  no error: an observer ends the training, which then is a finished one
    """Raised by an observer when an epoch begins: the training ends as if it had no more epochs."""


class Observer:
    """Is told what happens; what a kind of observer does not override is not its concern.

    Epochs are RecBole's numbers, 0 for the first; ``training.trainer`` is the trainer.
    """

    place: ClassVar[str] = "watching"
    """Where in :data:`ORDER` it stands."""

    def training_begins(self, training: Training) -> bool:
        """``fit`` was called.

        Returns:
            True where nothing is left to train.
        """
        return False

    def epoch_begins(self, training: Training, epoch: int) -> None:
        """All that belongs to the epoch before is done."""

    def stepped(self, training: Training) -> None:
        """A step was made, where the loop tells of them; ``training.steps`` knows the place."""

    def pausing(self, training: Training) -> None:
        """In the middle of an epoch the state is about to be written."""

    def going_on(self, training: Training) -> None:
        """It was written."""

    def broken_off(self, training: Training) -> None:
        """Ctrl-C or SIGTERM is about to end the training, between two epochs or in a validation."""

    def epoch_trained(self, training: Training, epoch: int) -> None:
        """Its steps are done, its validation is not."""

    def validated(self, training: Training, score: float, result: dict[str, Any]) -> None:
        """A validation, also the one before the first epoch, has found this."""

    def saving(self, training: Training, epoch: int, file: str) -> str:
        """The best model, or without validation the last, is about to be written.

        Returns:
            the file to write.
        """
        return file

    def epoch_ends(self, training: Training, epoch: int) -> None:
        """Trained, validated and saved."""

    def training_ends(self, training: Training) -> None:
        """``fit`` is about to return; not told when the training was broken off."""

    def ranked(self, training: Training, interaction: Any, users: Any, items: Any) -> None:
        """A batch of an evaluation was scored: (P,) rows of the batch, and (P,) the items that are right for them."""

    def evaluated(self, training: Training, found: Any) -> None:
        """All batches of an evaluation were scored: RecBole's collection of what metrics are computed from."""


class Training:
    """One trainer's training, and who is told of it.

    Attributes:
        trainer: RecBole's, or one of its kind.
        observers: in the order in which they are told.
        train_data, valid_data: the loaders, once ``fit`` was called.
        saves: whether models are to be written.
        verbose, show_progress: as ``fit`` was called.
        epoch: epochs of training behind it.
        seconds: of training behind it, without validations.
        loss: the last epoch's as RecBole reports it, of several parts their sum; None before training.
        valid_seconds: of the last validation.
        running: whether ``fit`` is at work.
        steps: the place in the epoch.
        stopping: hears Ctrl-C and SIGTERM.
        left: closed when ``fit`` is left, in whichever way.
    """

    def __init__(self, trainer: Any) -> None:
        """Put itself around the methods of a trainer, which belong to this one object from then on."""
        self.trainer = trainer
        self.observers: list[Observer] = []
        self.train_data: Any = None
        self.valid_data: Any = None
        self.saves, self.verbose, self.show_progress = False, True, False
        self.epoch, self.seconds, self.valid_seconds = 0, 0.0, 0.0
        self.loss: float | None = None
        self.running = False
        self.steps = Steps(trainer)
        self.stopping = Stopping(self._broken_off)
        self.left = ExitStack()
        self._unfinished: int | None = None
        self._since = 0.0
        self._behind, self._asked = 0, 0  # batches of the epoch in steps that were made, and in the one under way
        trainer.training = self
        around = {
            "fit": self._fit,
            "_train_epoch": self._train,
            "_train_at_once": self._train,  # tree models, which count no epochs
            "_valid_epoch": self._validate,
            "_save_checkpoint": self._save,
            "resume_checkpoint": self._resume,
            "evaluate": self._evaluate,
        }
        for name, make in around.items():
            if hasattr(trainer, name):
                setattr(trainer, name, make(getattr(trainer, name)))

    def add(self, observer: Observer) -> None:
        """Tell one observer more, in its place."""
        places = list(ORDER)
        self.observers.append(observer)
        self.observers.sort(key=lambda known: places.index(known.place))

    def at(self, place: str) -> Any:
        """The observer in a place."""
        return next(observer for observer in self.observers if observer.place == place)

    def validate(self) -> tuple[float, dict[str, Any]]:
        """Validate the model as it is."""
        score, result = self.trainer._valid_epoch(self.valid_data, show_progress=self.show_progress)
        return score, result

    def stepped(self, loss: Callable[[], Any], batches: int = 1) -> None:
        """A trainer's loop has made a step.

        Args:
            loss: gives the sum of losses since the epoch began, as the loop keeps it.
            batches: of the step.
        """
        self._behind, self._asked = self._behind + batches, 0
        if self.steps.counts:
            self.steps.add(batches, loss)
            now = perf_counter()
            self.seconds, self._since = self.seconds + now - self._since, now
            for observer in self.observers:
                observer.stepped(self)

    def leaves_out(self, loss: Any, batch: Any) -> bool:
        """Whether a loop leaves out a batch whose loss is not finite; see :mod:`.not_a_number`.

        A trainer that has a ``_check_nan`` of its own is asked instead, as by RecBole's loop.
        """
        check = getattr(self.trainer, "_check_nan", None)
        if check is not None and check.__module__ != "recbole.trainer.trainer":
            check(loss)
            return False
        self._asked += 1
        return leaves_out(self.trainer, loss, batch, self.epoch, self._behind + self._asked - 1)

    def _broken_off(self) -> None:
        for observer in self.observers:
            observer.broken_off(self)

    def _fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(fit)

        @wraps(fit)
        def watched(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            for name in ("train_data", "valid_data", "verbose", "show_progress"):
                setattr(self, name, given.arguments.get(name))
            self.saves = bool(given.arguments.get("saved"))
            self._unfinished, self.running = None, True
            with ExitStack() as self.left:
                self.left.callback(setattr, self, "running", False)
                self.left.enter_context(self.stopping.listening())
                if hasattr(self.trainer, "tensorboard"):
                    self.left.callback(self.trainer.tensorboard.close)
                return self._trained(lambda: fit(*args, **kwargs))

        return watched

    def _trained(self, fit: Callable[[], Any]) -> Any:
        trainer = self.trainer
        told = [observer.training_begins(self) for observer in self.observers]
        if any(told):
            trainer.eval_collector.data_collect(self.train_data)
            found = trainer.best_valid_score, trainer.best_valid_result
        else:
            try:
                found = fit()
            except EndTraining:
                found = trainer.best_valid_score, trainer.best_valid_result
            self._end_epoch()
        for observer in self.observers:
            observer.training_ends(self)
        return found

    def _end_epoch(self) -> None:
        """RecBole does not say when an epoch ends: it has when the next one begins or the training ends."""
        epoch, self._unfinished = self._unfinished, None
        if epoch is not None and self.running:
            for observer in self.observers:
                observer.epoch_ends(self, epoch)

    def _train(self, train: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(train)
        def watched(train_data: Any, epoch_idx: Any, *args: Any, **kwargs: Any) -> Any:
            epoch = epoch_idx if isinstance(epoch_idx, int) else self.epoch
            self._end_epoch()
            for observer in self.observers:
                observer.epoch_begins(self, epoch)
            self.epoch = epoch
            self.steps.begin()
            self._behind, self._asked = self.steps.done, 0
            with self.stopping.put_off() if self.steps.counts else nullcontext():
                self._since = perf_counter()
                loss = train(train_data, epoch_idx, *args, **kwargs)
                self.seconds += perf_counter() - self._since
                self.epoch, self._unfinished = epoch + 1, epoch
                self.loss = sum(loss) if isinstance(loss, tuple) else loss
                for observer in self.observers:
                    observer.epoch_trained(self, epoch)
            return loss

        return watched

    def _validate(self, validate: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(validate)
        def watched(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            score, result = validate(*args, **kwargs)
            self.valid_seconds = perf_counter() - start
            for observer in self.observers:
                observer.validated(self, score, result)
            return score, result

        return watched

    def _save(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """Process 0 writes, the others wait for it; a file that the caller names is that one."""

        @wraps(save)
        def watched(epoch: int, *args: Any, **kwargs: Any) -> None:
            file = best = self.trainer.saved_model_file
            if self.running and "saved_model_file" not in kwargs:
                for observer in self.observers:
                    file = observer.saving(self, epoch, file)
            with self.stopping.put_off():
                if group.is_main() and file == best:
                    save(epoch, *args, **kwargs)
                elif group.is_main():
                    save(epoch, verbose=False, saved_model_file=file)
                    if kwargs.get("verbose", True):
                        self.trainer.logger.info(set_color("Saving current", "blue") + f": {best}")
                group.barrier()

        return watched

    def _resume(self, resume: Callable[..., Any]) -> Callable[..., Any]:
        """A checkpoint whose numbers stand for other items is refused before it changes anything."""

        @wraps(resume)
        def watched(resume_file: Any) -> None:
            settings = read(resume_file).get("config") or {}
            check_token_order(settings.get(KEY), self.trainer.config, f"checkpoint {str(resume_file)!r}")
            resume(resume_file)

        return watched

    def _evaluate(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(evaluate)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if all(type(observer).ranked is Observer.ranked for observer in self.observers):
                return evaluate(*args, **kwargs)
            with self._seen_evaluation():
                return evaluate(*args, **kwargs)

        return watched

    @contextmanager
    def _seen_evaluation(self) -> Iterator[None]:
        """Let the collector and the evaluator of one evaluation tell what they are given."""
        collector, evaluator = self.trainer.eval_collector, self.trainer.evaluator
        collect, evaluate = collector.eval_batch_collect, evaluator.evaluate

        def collecting(scores: Any, interaction: Any, positive_u: Any, positive_i: Any) -> Any:
            for observer in self.observers:
                observer.ranked(self, interaction, positive_u, positive_i)
            return collect(scores, interaction, positive_u, positive_i)

        def evaluating(found: Any) -> Any:
            for observer in self.observers:
                observer.evaluated(self, found)
            return evaluate(found)

        collector.eval_batch_collect, evaluator.evaluate = collecting, evaluating
        try:
            yield
        finally:
            del collector.eval_batch_collect, evaluator.evaluate  # the methods of their classes again
