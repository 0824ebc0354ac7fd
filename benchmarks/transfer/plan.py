"""Which runs a measurement of pre-training consists of, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.transfer.sets import NONE, Source

SLOW = 0.1  # of the learning rate, for what was transferred


@dataclass(frozen=True)
class Checkpoints:
    """Epochs of pre-training after which a checkpoint is kept, growing; the last one is the length.

    Attributes:
        single: of a source that is, or is part of, one set.
        merged: of several sets as one, which have more steps in an epoch.
    """

    single: tuple[int, ...]
    merged: tuple[int, ...]

    def of(self, source: Source) -> tuple[int, ...]:
        """Those of one source."""
        return self.merged if source.merged else self.single


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        kind: "pretrain", "zero-shot" or "train".
        source: name of what is, or was, pre-trained on.
        after: epochs of pre-training, 0 for none.
        seed: of everything.
        ids: whether the target's items have ID tables.
        rate: factor of the learning rate for what was transferred.
        keep: epochs of a pre-training whose checkpoints are kept.
    """

    kind: str
    source: str
    after: int
    seed: int
    ids: bool = False
    rate: float = 1.0
    keep: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What the run is called in the log."""
        details = "" if self.kind != "train" else f", {'with' if self.ids else 'without'} IDs, rate {self.rate:g}"
        return f"{self.kind} {self.source}, {self.after} epochs, seed {self.seed}{details}"


def plan(sources: Sequence[Source], checkpoints: Checkpoints, seeds: Sequence[int]) -> list[Run]:
    """All runs, what the curves need first; a pre-training stands before those that start from it.

    Args:
        sources: growing; those that are not merged are shares of one set.
        checkpoints: of pre-trainings.
        seeds: at least one.
    """
    whole = [source for source in sources if not source.merged][-1]
    others = [source for source in sources if source != whole]
    runs = []
    for seed in seeds:
        runs += [Run("zero-shot", NONE.name, 0, seed), Run("train", NONE.name, 0, seed, ids=True)]
        for source in (whole, *others):
            epochs = checkpoints.of(source)
            runs.append(Run("pretrain", source.name, epochs[-1], seed, keep=epochs))
            runs += [Run("zero-shot", source.name, after, seed) for after in epochs]
            if source == whole:
                runs.append(Run("train", source.name, epochs[-1], seed, ids=True))
        runs += [Run("train", source.name, checkpoints.of(source)[-1], seed, ids=True) for source in others]
        largest = sources[-1]
        *early, last = checkpoints.of(largest)
        runs += [Run("train", NONE.name, 0, seed), Run("train", largest.name, last, seed)]
        runs.append(Run("train", largest.name, last, seed, ids=True, rate=SLOW))
        runs += [Run("train", largest.name, after, seed, ids=True) for after in early]
    return runs
