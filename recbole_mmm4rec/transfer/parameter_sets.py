"""Names for sets of the model's parameters, for what is frozen and how fast it learns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.reading import name_list

PREFIX = "network."
"""What every parameter of the model starts with; it is left out in all that a user sees."""

_PATTERNS = {
    "adapters": r"items\.(adapter|experts)\..*",
    "missing": r"items\.missing\..*",
    "ids": r"items\.(bias|stand_in)\..*",
    "fusion": r"items\.fusion",
    "items": r"items\..*",
    "time": r"time_input\..*|.*\.time_(scale|gate)\..*",
    "ssd": r"(layers\.\d+\.ssd|cross_layers\.\d+\.own)\..*",
    "cross": r"cross_layers\.\d+\.cross\..*",
    "filters": r"cross_layers\.\d+\.filter\..*",
    "ffn": r".*\.ffn\..*",
    "norms": r"(.*[._])?norm\..*|.*\.norm_weight",
    "all": r".*",
}
_BY_ORIGIN = ("transferred", "new")

SETS = (*_PATTERNS, *_BY_ORIGIN)
"""The names; beside them the beginning of a parameter's name, such as ``layers.1``, stands for all that begin so."""

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


def short(name: str) -> str:
    """A parameter's name as users see it."""
    return name.removeprefix(PREFIX)


def members(key: str, name: str, model: nn.Module, transferred: Collection[str]) -> set[str]:
    """The parameters that a name stands for.

    Args:
        key: the configuration's key that holds the name, for the message.
        name: one of :data:`SETS` or the beginning of a parameter's name, up to a dot.
        model: the model.
        transferred: parameters that come from a checkpoint.

    Returns:
        Names as ``model.named_parameters()`` gives them; none for a set that this model has nothing of.

    Raises:
        UserError: an unknown name, or ``transferred`` and ``new`` where nothing was transferred.
    """
    names = [parameter for parameter, _ in model.named_parameters()]
    if name in _BY_ORIGIN:
        if not transferred:
            raise UserError(f"{key}: '{name}' needs a checkpoint to start from; set pretrained, or leave it out")
        return {parameter for parameter in names if (parameter in transferred) == (name == "transferred")}
    if name in _PATTERNS:
        return {parameter for parameter in names if re.fullmatch(_PATTERNS[name], short(parameter))}
    found = {parameter for parameter in names if f"{short(parameter)}.".startswith(f"{name}.")}
    if not found:
        raise unknown_part(key, name)
    return found


def frozen_parameters(config: Any, model: nn.Module, transferred: Collection[str]) -> set[str]:
    """The parameters that the key ``frozen`` names.

    Raises:
        UserError: an unknown name, or nothing is left to train.
    """
    chosen: set[str] = set()
    for name in name_list(config["frozen"]) or ():
        chosen |= members("frozen", str(name), model, transferred)
    everything = {name for name, _ in model.named_parameters()}
    if chosen == everything and config["epochs"]:
        raise UserError(f"frozen={config['frozen']!r} leaves nothing to train; leave something out, or set epochs: 0")
    return chosen


def rate_factors(config: Any, model: nn.Module, transferred: Collection[str]) -> dict[str, float]:
    """The factor of the learning rate of each parameter that the key ``learning_rates`` names.

    Of several names that hold a parameter the last one decides.

    Raises:
        UserError: an unknown name.
    """
    factors: dict[str, float] = {}
    given: Mapping[str, float] = config["learning_rates"] or {}
    for name, factor in given.items():
        factors.update(dict.fromkeys(members("learning_rates", str(name), model, transferred), float(factor)))
    return factors
