"""Names for sets of the model's parameters, for what is frozen and how fast it learns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.parts import BY_ORIGIN, unknown_part
from recbole_mmm4rec.settings.reading import name_list

PREFIX = "network."
"""What every parameter of the model starts with; it is left out in all that a user sees."""

_PATTERNS = {
    "adapters": r"items\.adapter\..*",
    "missing": r"items\.missing\..*",
    "ids": r"items\.bias\..*",
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


def short(name: str) -> str:
    """A parameter's name as users see it."""
    return name.removeprefix(PREFIX)


def members(key: str, name: str, model: nn.Module, transferred: Collection[str]) -> set[str]:
    """The parameters that a name stands for.

    Args:
        key: the configuration's key that holds the name, for the message.
        name: one of :data:`~recbole_mmm4rec.settings.parts.SETS` or the beginning of a parameter's name, up to a dot.
        model: the model.
        transferred: parameters that come from a checkpoint.

    Returns:
        Names as ``model.named_parameters()`` gives them; none for a set that this model has nothing of.

    Raises:
        UserError: an unknown name, or ``transferred`` and ``new`` where nothing was transferred.
    """
    names = [parameter for parameter, _ in model.named_parameters()]
    if name in BY_ORIGIN:
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
    trained = {name for name, _ in model.named_parameters()} - _unused(model)
    if trained <= chosen and config["epochs"]:
        raise UserError(f"frozen={config['frozen']!r} leaves nothing to train; leave something out, or set epochs: 0")
    return chosen


def _unused(model: Any) -> set[str]:
    """What no loss depends on: vectors for a modality that all items have, the last time signal that nobody reads."""
    items, layers = model.network.items, model.network.layers
    whole = items.present[1:].all(0).tolist()
    parts = [f"items.missing.{name}." for name, full in zip(items.modalities, whole, strict=True) if full]
    if all(layer.cross is None for layer in model.network.cross_layers):
        parts.append(f"layers.{len(layers) - 1}.ssd.time_gate.")
    return {name for name, _ in model.named_parameters() if f"{short(name)}.".startswith(tuple(parts))}


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
