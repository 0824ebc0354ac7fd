"""Losses of an epoch, added up without waiting for the device at every step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


READ_EVERY = 16
"""Losses of recorded steps that are read together."""


class LossSum:
    """Adds up losses, reading them from the device some at a time: each reading waits for the device.

    Attributes:
        total: sum of those that were read; seen: how many.
    """

    def __init__(self, every: int, total: float = 0.0, seen: int = 0) -> None:
        """Read ``every`` losses together, at least 1, and go on with a sum of so many."""
        self.every = every
        self.total, self.seen = total, seen
        self._waiting: list[Tensor] = []

    def add(self, losses: list[Tensor]) -> None:
        """Take in losses, () each.

        Raises:
            UserError: one of those that were read is no finite number.
        """
        self._waiting += losses
        if len(self._waiting) >= self.every:
            self.read()

    def read(self) -> float:
        """Read all that wait, and give the sum; raises as :meth:`add`."""
        if not self._waiting:
            return self.total
        values = torch.stack(self._waiting).tolist()
        self._waiting = []
        if not all(map(math.isfinite, values)):
            raise UserError(
                f"the loss of one of the last {len(values)} batches is not a number, or infinite; "
                "cuda_graphs: False tells which, learning_rate or enable_amp may be what to change"
            )
        self.total += sum(values)
        self.seen += len(values)
        return self.total

    def __str__(self) -> str:
        return f"loss {self.total / self.seen:.4f}" if self.seen else ""
