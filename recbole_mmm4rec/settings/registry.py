"""All settings, and what follows from their rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from recbole_mmm4rec.settings.homes import MODELS
from recbole_mmm4rec.settings.rows import data, evaluation, machine, neighbours, network, rivals, training, transfer
from recbole_mmm4rec.settings.setting import Counts, Setting

PARTS: Mapping[str, tuple[Setting, ...]] = {
    "Network": network.ROWS,
    "Data": data.ROWS,
    "Pre-training and transfer": transfer.ROWS,
    "Training": training.ROWS,
    "Neighbours": neighbours.ROWS,
    "Rivals": rivals.ROWS,
    "Evaluation": evaluation.ROWS,
    "Machine": machine.ROWS,
}
"""Part of the program to its settings."""

SETTINGS: tuple[Setting, ...] = tuple(row for rows in PARTS.values() for row in rows)


@cache
def settings_of(model: str) -> Mapping[str, Setting]:
    """The settings of a model by name: those of every model, and of ours their own, which win.

    Args:
        model: name of a model of RecBole or of ours.
    """
    ours = model in MODELS
    rows = [row for row in SETTINGS if row.holds_for(model, ours)]
    return {row.name: row for row in sorted(rows, key=lambda row: row.ours)}


def names(counts: Counts) -> tuple[str, ...]:
    """The settings that count for any of these, in the order of the rows, each once.

    Args:
        counts: one flag, or several.
    """
    return tuple(dict.fromkeys(row.name for row in SETTINGS if row.counts & counts))


def plain_intervals(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, an open interval as text: JSON and YAML would make a list of the tuple, a closed interval."""
    intervals = {row.name for row in SETTINGS if row.kind.short == "interval"}
    return {
        key: str(value) if key in intervals and isinstance(value, tuple) else value for key, value in settings.items()
    }


def setting(name: str) -> Setting:
    """The row of a setting as our own models have it.

    Raises:
        KeyError: there is none.
    """
    return settings_of(MODELS[0])[name]
