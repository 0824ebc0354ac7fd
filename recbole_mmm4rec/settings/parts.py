"""The names that ``frozen`` and ``learning_rates`` know for parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.reading import name_list

BY_ORIGIN = ("transferred", "new")
"""What came from a checkpoint, and the rest."""

SETS = (
    *("adapters", "missing", "ids", "fusion", "items", "time", "ssd", "cross", "filters", "ffn", "norms", "all"),
    *BY_ORIGIN,
)
"""MMM4Rec's names; beside them the beginning of a parameter's name, such as ``layers.1``, stands for all below it."""

PARTS = {
    "MMM4Rec": ("items", "input_norm", "time_input", "layers", "cross_layers"),
    "UniSRec": ("adaptor", "item_embedding", "position_embedding", "norm", "encoder"),
}
"""Model to the first words of its parameters' names as users see them."""


def check_names(model: str, settings: Mapping[str, Any]) -> None:
    """Refuse misspelt names once the settings are known: before data are read, or another shop is trained on.

    Args:
        model: its name, one of :data:`PARTS`.
        settings: RecBole's, of which ``frozen`` and ``learning_rates`` are looked at.

    Raises:
        UserError: a name that the model has nothing of, whatever its sizes.
    """
    for key in ("frozen", "learning_rates"):
        for name in map(str, name_list(settings.get(key)) or ()):
            if name.partition(".")[0] not in PARTS[model] and not (model == "MMM4Rec" and name in SETS):
                raise unknown_part(key, name, model)


def unknown_part(key: str, name: str, model: str = "MMM4Rec") -> UserError:
    """What a user is told whose name in ``key`` stands for no parameter of the model."""
    known, example = (SETS, "layers.0") if model == "MMM4Rec" else (PARTS[model], "encoder.layer.0")
    return UserError(
        f"{key}: {name!r} is no part of {model}{did_you_mean(name, (*known, *PARTS[model]))} "
        f"(known: {', '.join(known)}, or the beginning of a parameter's name such as {example})"
    )
