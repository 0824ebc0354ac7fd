"""Which settings a score depends on: permutation importance of a random forest (Breiman 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recbole_mmm4rec.tune.space import Space
from recbole_mmm4rec.tune.trials import Record

FEWEST = 8
"""Trials with a score below which no forest is grown: it would explain noise."""
TREES, REPEATS = 200, 20


@dataclass(frozen=True)
class Importance:
    """What a forest says.

    Attributes:
        share: setting to its part of all importance, 0 to 1.
        explained: R² of the forest on trials that a tree has not seen; near 0 or below, the shares mean little.
    """

    share: dict[str, float]
    explained: float


def importance(space: Space, records: Sequence[Record]) -> Importance | None:
    """How much each setting decides the score.

    A random forest predicts the score from the positions of the settings' values (logarithms for ``loguniform``).
    Then the values of one setting are shuffled among the trials; the loss of R² is the setting's importance.

    Args:
        space: what was searched.
        records: trials that have a score.

    Returns:
        None for fewer than :data:`FEWEST` trials, or where all scores are equal.
    """
    scores = np.array([record["score"] for record in records])
    if len(scores) < FEWEST or np.ptp(scores) == 0:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    places = np.array([[one.position(record["params"][one.key]) for one in space] for record in records])
    forest = RandomForestRegressor(TREES, oob_score=True, min_samples_leaf=2, random_state=0).fit(places, scores)
    lost = permutation_importance(forest, places, scores, n_repeats=REPEATS, random_state=0).importances_mean
    lost = np.maximum(lost, 0.0)
    total = float(lost.sum()) or 1.0
    share = {one.key: float(part) / total for one, part in zip(space, lost, strict=True)}
    return Importance(share, float(forest.oob_score_))
