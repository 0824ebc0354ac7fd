"""Which samples of a batch each process computes, and each process's part of the users in an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Sampler

STAND_IN = "stands_in"
"""Field of a batch that counts nothing: a process without a sample in a short last batch computes one all the same."""


class StandIn(list[int]):
    """The numbers of a batch that counts nothing."""


class Numbers:
    """The numbers of ``size`` samples, as a data set of PyTorch that hands on what a sampler gives."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, numbers: list[int]) -> list[int]:
        return numbers


class JointBatches(Sampler[list[int]]):
    """One process's part of each batch: the batches and their order are those of one process alone."""

    def __init__(self, size: int, step: int, part: tuple[int, int], generator: torch.Generator | None) -> None:
        """Keep the settings.

        Args:
            size: samples of an epoch.
            step: samples of a joint batch.
            part: number of the process, and of how many.
            generator: of the order, in the same state on all processes; None for the order of the data.
        """
        self.size, self.step, self.generator = size, step, generator
        self.part, self.parts = part

    def __len__(self) -> int:
        return -(-self.size // self.step)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the generator goes on from epoch to epoch, as it does in one process."""

    def __iter__(self) -> Iterator[list[int]]:
        if not self.size:
            return
        order = torch.arange(self.size)
        if self.generator is not None:
            order = torch.randperm(self.size, generator=self.generator)
        for batch in order.split(self.step):
            share = batch.tensor_split(self.parts)[self.part].tolist()
            yield share or StandIn(batch[:1].tolist())
        if self.generator is not None:
            torch.randperm(self.size, generator=self.generator)  # as PyTorch's sampler: the next order follows


class OwnUsers(Sampler[list[int]]):
    """A run of neighbouring users of an evaluation, so that all parts in their order are the whole."""

    def __init__(self, size: int, step: int, part: tuple[int, int]) -> None:
        """Keep the settings; the arguments are those of :class:`JointBatches`."""
        number, parts = part
        self.first, self.end = size * number // parts, size * (number + 1) // parts
        self.step = max(1, -(-step // parts))

    def __len__(self) -> int:
        return -(-(self.end - self.first) // self.step)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(self.first, self.end, self.step):
            yield list(range(start, min(start + self.step, self.end)))


def collated(loader: Any, numbers: list[int]) -> Any:
    """A loader's batch of some samples, marked where it counts nothing."""
    batch = type(loader).collate_fn(loader, numbers)
    if isinstance(numbers, StandIn):
        from recbole.data.interaction import Interaction  # RecBole's settings are read before its data

        batch.update(Interaction({STAND_IN: torch.ones(len(batch), dtype=torch.bool)}))
    return batch


def counted(batch: Any) -> int:
    """Samples of a batch that count."""
    fields: Mapping[str, Any] = batch.interaction
    return 0 if STAND_IN in fields else len(batch)
