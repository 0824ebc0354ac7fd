"""Our own changes of results: a number that is raised with each, for the runs that it concerns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from recbole_mmm4rec.settings.homes import TRAINERS


class Change(NamedTuple):
    """A change of results.

    Attributes:
        number: one more than that of the change before.
        about: what was changed.
        concerns: whether a run has other results since: its model, and all its settings as RecBole resolves them.
    """

    number: int
    about: str
    concerns: Callable[[str, Mapping[str, Any]], bool]


CHANGES = (
    Change(3, "all that came before this table", lambda model, settings: True),
    Change(4, "windows of histories longer than L", lambda model, settings: settings.get("train_unit") == "user"),
    Change(5, "equal scores are ranked by item number", lambda model, settings: model not in TRAINERS),
)
"""Every change of results (tagged [results] in the changelog) adds a line: runs of before that it concerns no longer
count, all others do. As narrow as is certain; ``lambda model, settings: True`` where it is not."""

RESULTS = max(change.number for change in CHANGES)
"""The newest of them. A search is made with one of them from its first trial to its last."""


def results_of(model: str, settings: Mapping[str, Any]) -> int:
    """The number of the last change of results that concerns a run.

    Args:
        model: its name; settings: RecBole's final configuration.
    """
    return max(change.number for change in CHANGES if change.concerns(model, settings))
