"""Our own changes of results: a number that is raised with each, for the runs that it concerns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from recbole_mmm4rec.settings.homes import MODELS, TRAINERS
from recbole_mmm4rec.settings.stage import PRETRAIN


class Change(NamedTuple):
    """A change of results.

    Attributes:
        number: one more than that of the change before.
        about: what was changed.
        concerns: whether a run has other results since: its model, and all its settings as RecBole resolves them.
        trained: whether a training is another one since, so that none of before is gone on with.
    """

    number: int
    about: str
    concerns: Callable[[str, Mapping[str, Any]], bool]
    trained: bool = True


def _clips_scaled(model: str, settings: Mapping[str, Any]) -> bool:
    return model not in MODELS and bool(settings.get("enable_scaler") and settings.get("clip_grad_norm"))


def _freezes_less(model: str, settings: Mapping[str, Any]) -> bool:
    goes_on = settings.get("stage") == PRETRAIN and bool(settings.get("pretrained"))
    return model == "UniSRec" and goes_on and settings.get("frozen") is None


CHANGES = (
    Change(3, "all that came before this table", lambda model, settings: True),
    Change(4, "windows of histories longer than L", lambda model, settings: settings.get("train_unit") == "user"),
    Change(5, "equal scores are ranked by item number", lambda model, settings: model not in TRAINERS, trained=False),
    Change(6, "large tables pass the adaptor in pieces", lambda model, settings: model == "UniSRec"),
    Change(7, "RecBole's loop clips what is no longer scaled", lambda model, settings: _clips_scaled(model, settings)),
    Change(8, "UniSRec's pre-training goes on whole", lambda model, settings: _freezes_less(model, settings)),
)
"""Every change of results (tagged [results] in the changelog) adds a line: runs of before that it concerns no longer
count, all others do. As narrow as is certain; ``lambda model, settings: True`` where it is not."""


def results_of(model: str, settings: Mapping[str, Any], of_training: bool = False) -> int:
    """The number of the last change of results that concerns a run.

    Args:
        model: its name; settings: RecBole's final configuration.
        of_training: of those changes alone that make its training another one.
    """
    concern = (change for change in CHANGES if change.trained or not of_training)
    return max(change.number for change in concern if change.concerns(model, settings))
