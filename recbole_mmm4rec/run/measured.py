"""How good a tested model is: its metrics with intervals over users, and without texts or pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.scoring.intervals import bootstrap_interval
from recbole_mmm4rec.training.observers import Training
from recbole_mmm4rec.training.user_ranks import METRIC, RankWatch, user_metric


class Ranks(RankWatch):
    """Notes the ranks of the last evaluation where it has them: one target at a time, one process, metrics of ranks."""

    def evaluated(self, training: Training, found: Any) -> None:
        """Note the ranks; none of an evaluation without them."""
        try:
            super().evaluated(training, found)
        except (ValueError, KeyError, IndexError):
            self.ranks = self.users = np.zeros(0, dtype=np.int64)
        self._users, self._targets = [], []


def watch(run: Any) -> Ranks:
    """Begin to note the ranks of a run's evaluations."""
    ranks = Ranks(run.config["USER_ID_FIELD"])
    ranks.ranks = ranks.users = np.zeros(0, dtype=np.int64)
    if not group.active():
        run.trainer.training.add(ranks)
    return ranks


def measured(run: Any, ranks: Ranks, valid: Mapping[str, Any] | None, test: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``metrics.json`` of a model folder holds; all processes of a run must come here.

    Args:
        run: tested, with the tested weights in the model.
        ranks: what :func:`watch` gave before the test.
        valid: RecBole's metrics of the best validation.
        test: those of the test; None where the split has none.

    Returns:
        ``valid`` (metric to value), ``test`` (metric to ``value``, and ``low`` and ``high`` of the 95 % interval over
        users where there is one), ``users`` of the test, and ``without``: the same as ``test`` by the modality that no
        item has.
    """
    record: dict[str, Any] = {
        "valid": {name: float(value) for name, value in (valid or {}).items()},
        "test": _with_intervals(test or {}, ranks),
        "users": len(np.unique(ranks.users)) if test else 0,
        "without": {},
    }
    if not test:
        return record
    for name in run.model.network.items.modalities:
        with run.model.withheld(name):
            found = run.trainer.evaluate(run.test, load_best_model=False, show_progress=False)
        record["without"][name] = _with_intervals(found, ranks)
    return record


def _with_intervals(found: Mapping[str, Any], watched: Ranks) -> dict[str, dict[str, float]]:
    """Metrics, with intervals over users where each has one target, so that RecBole's mean is one over users."""
    told = {}
    ranks = watched.ranks if len(np.unique(watched.users)) == len(watched.users) else np.zeros(0, dtype=np.int64)
    for name, value in found.items():
        told[name] = {"value": float(value)}
        if len(ranks) and METRIC.fullmatch(name):
            told[name]["low"], told[name]["high"] = bootstrap_interval(user_metric(ranks, name))
    return told
