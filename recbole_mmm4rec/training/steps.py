"""Where an epoch stands: the order of the loader, the batches behind it and the sum of their losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from recbole_mmm4rec.checkpoints.parts import RandomNumbers


class Steps:
    """Counts the batches of an epoch, and begins one where another process has left it.

    Attributes:
        counts: whether this training's loop tells of its steps, and its loader can be begun in the middle.
        done: batches behind.
    """

    def __init__(self, trainer: Any) -> None:
        """Nothing is behind."""
        self._trainer = trainer
        self.counts = False
        self.done = 0
        self._order: torch.Tensor | None = None  # of the loader's generator when the epoch began
        self._loss: Callable[[], Any] = _nothing
        self._taken_over = False

    def can_count(self, loader: Any) -> bool:
        """Whether steps can be counted: RecBole has trainers and loaders with loops of their own.

        Nor can those of a model that draws something when its training mode is switched on (SGL): it would draw again.
        """
        loop, model = getattr(type(self._trainer), "_train_epoch", None), type(self._trainer.model)
        draws = model.train is not nn.Module.train and model.__module__.startswith("recbole.")
        return getattr(loop, "in_steps", False) and isinstance(loader, DataLoader) and not draws

    def begin(self) -> None:
        """An epoch begins: at its first batch, unless another place was taken over."""
        if not self._taken_over:
            self.clear()
        self._taken_over = False

    def of(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches that are left of the epoch."""
        if not self.counts or not isinstance(loader, DataLoader):
            yield from loader
            return
        generator = loader.generator
        if self.done and self._order is not None and generator is not None:
            generator.set_state(self._order)
        elif generator is not None:
            self._order = generator.get_state()
        if not self.done:
            yield from loader
            return
        numbers = RandomNumbers(self._trainer.device)
        before = numbers.state_dict()
        batches = iter(loader)
        if isinstance(batches, _SingleProcessDataLoaderIter):
            for _ in range(self.done):
                batches._next_index()
        else:  # processes of its own make the batches ahead; those behind are made once more
            for _ in islice(batches, self.done):
                pass
        numbers.load_state_dict(before)
        yield from batches

    def clear(self) -> None:
        """The epoch is over."""
        self.done, self._loss, self._order = 0, _nothing, None

    def add(self, batches: int, loss: Callable[[], Any]) -> None:
        """A step was made: of so many batches, with this sum of losses since the epoch began."""
        self.done += batches
        self._loss = loss

    def loss(self) -> Any:
        """The sum of losses so far, as the loop keeps it; None before the first."""
        return self._loss()

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch."""
        return {"batches": self.done, "order": self._order, "loss": self.loss()}

    def load_state_dict(self, state: Any) -> None:
        """Begin the next epoch there.

        Raises:
            TypeError, ValueError: it is no such place.
        """
        done, loss = state["batches"], state["loss"]
        order = state["order"]
        if type(done) is not int or done < 0 or not (order is None or isinstance(order, torch.Tensor)):
            raise ValueError("it is no place in an epoch")
        self.done, self._order, self._loss = done, order, lambda: loss
        self._taken_over = done > 0

    def take_loss(self, loss: Any) -> None:
        """The sum of this process's own losses, of several."""
        self._loss = lambda: loss


def _nothing() -> None:
    """No loss yet."""
