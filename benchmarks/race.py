"""A training under a time limit, watched the same way for every peer; needs nothing but PyTorch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import peak_memory

K = 10
PATIENCE = 5


def hits(scores: Tensor, targets: Tensor, k: int = K) -> Tensor:
    """Whether the target is among the k best; the one function that judges every peer.

    Args:
        scores: (B, C) of all candidates; −inf for what is none. No history is masked.
        targets: (B,) int64 columns, −1 for a target that is no candidate: never a hit.
        k: how many are looked at.

    Returns:
        (B,) bool: fewer than k candidates score higher.

    Raises:
        ValueError: scores that are not numbers.
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    if bool(own.isnan().any()) or bool(scores.isnan().any()):
        raise ValueError("scores hold NaN")
    return ((scores > own).sum(1) < k) & (targets >= 0)


class Race:
    """Epochs with their seconds, validation hits and scoring speed, until the time is up or nothing gets better.

    Args:
        max_seconds: seconds of training; validation does not count.
        name: who runs, for the progress on the error stream.
    """

    def __init__(self, max_seconds: float, name: str) -> None:
        self.max_seconds, self.name = max_seconds, name
        self.epochs: list[dict[str, float]] = []

    def epoch(self, seconds: float, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> bool:
        """Keep an epoch and validate.

        Args:
            seconds: of its training.
            batches: gives (scores, targets) of all validation users, see :func:`hits`.

        Returns:
            whether training should go on.
        """
        begin = time.perf_counter()
        found = [hits(scores, targets) for scores, targets in batches()]
        scoring = time.perf_counter() - begin
        hit = float(torch.cat(found).float().mean())
        users = sum(len(part) for part in found)
        self.epochs.append({"seconds": seconds, "hit": hit, "scoring": scoring, "users": users})
        print(
            f"  {self.name}: epoch {len(self.epochs)}, {seconds:.1f} s, Hit@{K} {hit:.4f}", file=sys.stderr, flush=True
        )
        return self.trained < self.max_seconds and len(self.epochs) - self.best < PATIENCE

    @property
    def trained(self) -> float:
        """Seconds of training so far."""
        return sum(entry["seconds"] for entry in self.epochs)

    @property
    def best(self) -> int:
        """The first of the best epochs, counted from 1."""
        values = [entry["hit"] for entry in self.epochs]
        return values.index(max(values)) + 1

    def result(self, parameters: int, note: str = "") -> dict[str, Any]:
        """What the table needs.

        Args:
            parameters: how many numbers are trained.
            note: what must be said about the comparison.
        """
        kept = {"epochs": self.epochs, "max_seconds": self.max_seconds, "peak": peak_memory()}
        return {**kept, "parameters": parameters, "note": note}
