"""Breaking a training off when an epoch begins: what is written by then is what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import recbole_mmm4rec  # noqa: F401  (registers the model)
from recbole_mmm4rec.training.observers import Observer, Training


class KilledError(Exception):
    """The process is gone."""


def die() -> None:
    raise KilledError


class AtEpoch(Observer):
    """Does something when an epoch begins, counted from 0, after all others were told."""

    def __init__(self, epoch: int, what: Callable[[], Any] = die) -> None:
        self.epoch, self.what = epoch, what

    def epoch_begins(self, training: Training, epoch: int) -> None:
        if epoch == self.epoch:
            self.what()


def broken_off(run: Any, epoch: int) -> None:
    """Train until an epoch begins."""
    run.trainer.training.add(AtEpoch(epoch))
    with pytest.raises(KilledError):
        run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
