"""What neighbours add, counted plainly: the formula read aloud, one history after the other."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np


def plain_addition(dataset: Any, batch: Any, window: int, decay: float, weight: float) -> np.ndarray:
    """(B, I+1) of the formula in ``scoring/neighbours.py``.

    Args:
        dataset: the training data set.
        batch: users and histories that are scored.
        window, decay, weight: ``neighbour_window``, ``neighbour_decay``, ``neighbour_weight``.
    """
    samples = dataset.inter_feat[slice(0, len(dataset))]
    fields = ("user_id", "item_id_list", "item_length", "item_id")
    times: dict[tuple[int, int, int], float] = defaultdict(float)  # (user, a, b)
    taken = np.ones(dataset.item_num)
    for user, history, length, target in zip(*(samples[field].tolist() for field in fields), strict=True):
        taken[target] += 1
        for place in range(length):
            if length - place <= window and history[place] != target:
                times[user, history[place], target] += 1 / (length - place) ** 0.5
                times[user, target, history[place]] += 0.5 / (length - place) ** 0.5
    found = np.zeros((len(batch), dataset.item_num))
    for row, (user, history, length) in enumerate(zip(*(batch[field].tolist() for field in fields[:3]), strict=True)):
        for place in range(length):
            for (other, a, b), count in times.items():
                if other != user and a == history[place]:
                    share = count / (taken[a] ** 0.5 * taken[b] ** 0.25)
                    found[row, b] += decay ** (length - 1 - place) * share
    return weight * np.log1p(found / 0.1)
