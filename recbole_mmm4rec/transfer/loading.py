"""Starting a training from the weights of another: what is taken over, what is left out, and what must fit.

Taken over is all that knows no item: adapters, norms, layers, filters. Left out is what has a row for each item of the
other shop (ID tables, fusion weights of each item), its features, and what no training has touched: the vector in the
place of a modality that all its items had. Everything else must fit, or the run stops.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.reading import tensors
from recbole_mmm4rec.checkpoints.tree import plain_settings
from recbole_mmm4rec.features.made_by import ENCODERS, LACKING, read_note
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.transfer.origins import note_origins
from recbole_mmm4rec.transfer.parameter_sets import PREFIX, short
from recbole_mmm4rec.transfer.published import renamed
from recbole_mmm4rec.transfer.weight_shapes import layer_of, modalities_of, settings_of, widths_of

logger = logging.getLogger(__name__)

_MODALITY_PARTS = ("items.adapter", "items.missing", "items.stand_in", "input_norm")


@dataclass
class Source:
    """A checkpoint to start from.

    Attributes:
        path: its file.
        weights: our names, without the model's prefix, to tensors.
        settings: the configuration it was trained with; of a published one, how its program behaves.
        problems: what is wrong with it by itself.
        made: modality to what it says of its features; nothing of a published one.
    """

    path: str
    weights: dict[str, Tensor]
    settings: Mapping[str, Any]
    problems: list[str]
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_pretrained(config: Any, model: nn.Module) -> frozenset[str]:
    """Put the weights of the checkpoint ``pretrained`` into a new model.

    Args:
        config: RecBole's configuration; ``pretrained_layers`` takes the first layers alone.
        model: the new model, as built for its own data.

    Returns:
        Names of the parameters that were taken over; none without the key.

    Raises:
        UserError: the file cannot be read, or does not fit: one message with all that does not, and the keys to set.
    """
    if not config["pretrained"]:
        return frozenset()
    source = open_source(str(config["pretrained"]))
    own = {short(name): weight for name, weight in model.named_parameters()}
    if config["pretrained_layers"]:
        _take_layers(source, config["pretrained_layers"])
    problems = [
        *source.problems,
        *_modality_problems(source, own),
        *_setting_problems(source, own, config),
        *_feature_problems(source, own, config),
    ]
    taken = _movable(source, own)
    problems = problems or _tensor_problems(taken, own)  # else they would be told once more, tensor by tensor
    if problems:
        raise UserError(f"pretrained={source.path!r} does not fit: " + "; ".join(problems))
    warn_of_meaning(source.path, source.settings, source.made, config)
    note_origins(source.path, source.settings, config)
    for name, weight in taken.items():
        if name in own:
            with torch.no_grad():
                own[name].copy_(_as_ours(weight, own[name]))
    _note_learned(source, taken, config)
    _tell(source, taken, own)
    return frozenset(PREFIX + name for name in taken if name in own)


def open_source(path: str) -> Source:
    """Read a checkpoint of RecBole's trainer with our model, or a published one.

    Raises:
        UserError: it cannot be read, holds no weights of MMM4Rec, or says something of its features that is no note.
    """
    content = read(path)
    ours = tensors(content.get("state_dict"))
    config = content.get("config")
    settings = plain_settings(config) if isinstance(config, dict) else {}
    if ours is not None and any(name.startswith(PREFIX) for name in ours):
        weights = {short(name): weight for name, weight in ours.items()}
        source = Source(path, weights, settings, [], read_note(settings, path))
    else:
        weights, problems = renamed(tensors(content.get("model")) or ours or tensors(content) or {})
        source = Source(path, weights, {"time_padding": "zero_stamp", "d_skip": "scaled"}, problems)
    try:
        known = settings_of(source.weights) and modalities_of(source.weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        known = []
    if not known:
        trained = settings.get("model")
        what = f"is a checkpoint of {trained}" if trained not in (None, "MMM4Rec") else "holds other weights"
        raise UserError(f"pretrained={path!r} {what}; give one of MMM4Rec, ours or a published one")
    return source


def _take_layers(source: Source, count: int) -> None:
    """Leave all layers but the first ``count`` out of a checkpoint."""
    there = settings_of(source.weights)["num_layers"]
    if count > there:
        raise UserError(f"pretrained_layers={count}: {source.path!r} has {there}; set it to at most {there}")
    source.weights = {name: w for name, w in source.weights.items() if (layer_of(name) or 0) < count}


def _movable(source: Source, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What does not belong to items, of the other shop or of this one, and was learned."""
    fusions = [found["items.fusion"] for found in (source.weights, own) if "items.fusion" in found]
    per_item = ("items.bias.", *(["items.fusion"] if any(fusion.dim() == 2 for fusion in fusions) else []))
    untouched = {f"items.missing.{modality}" for modality, made in source.made.items() if made.get(LACKING) is False}
    return {name: w for name, w in source.weights.items() if not name.startswith(per_item) and name not in untouched}


def _note_learned(source: Source, taken: Mapping[str, Tensor], config: Any) -> None:
    """Note for this training's checkpoints what is known of vectors that were taken over and are not trained here."""
    for modality, made in (config[ENCODERS] or {}).items():
        if f"items.missing.{modality}" in taken and made.get(LACKING) is False:
            made[LACKING] = source.made.get(modality, {}).get(LACKING)


def _modality_problems(source: Source, own: Mapping[str, Tensor]) -> list[str]:
    """Whether the checkpoint knows the run's modalities; those it has beyond them are taken out."""
    there, here = modalities_of(source.weights), modalities_of(own)
    lacking = [modality for modality in here if modality not in there]
    if lacking and set(there) & set(here):
        return [
            f"modalities={there} in the checkpoint, {here} here: the {lacking[0]} side and the cross layers, through "
            f"which all scores go, would be untrained (set modalities: {there}, or pre-train with both)"
        ]
    if lacking:
        return [f"modalities={there} in the checkpoint, {here} here (set modalities: {there})"]
    beyond = tuple(f"{part}.{modality}." for modality in there if modality not in here for part in _MODALITY_PARTS)
    if beyond:
        beyond = (*beyond, *(name.rstrip(".") for name in beyond), "cross_layers.", "items.fusion")
        source.weights = {name: w for name, w in source.weights.items() if not name.startswith(beyond)}
        logger.warning(
            "pretrained: %s has %s, this run %s alone: the cross layers are left out, and what is left has never "
            "scored by itself; train it before you judge it",
            source.path,
            " and ".join(there),
            here[0],
        )
    return []


def _setting_problems(source: Source, own: Mapping[str, Tensor], config: Any) -> list[str]:
    """Settings that shape or give meaning to weights, where they differ."""
    theirs, mine = settings_of(source.weights), settings_of(own)
    for key in ("n_groups", "d_state", "d_skip", "ablation"):
        theirs[key], mine[key] = source.settings.get(key), config[key]
    if theirs["d_state"] is not None:  # the two say more than their product
        del theirs["n_groups * d_state"]
    problems = []
    for key in sorted(theirs.keys() & mine.keys()):
        if theirs[key] is None or theirs[key] == mine[key]:
            continue
        way_out = f"set {key}: {theirs[key]}"
        if key == "num_layers" and theirs[key] > mine[key]:
            way_out += f", or pretrained_layers: {mine[key]} for the first of them"
        if key == "n_groups * d_state":
            way_out = "set n_groups and d_state as in the checkpoint"
        problems.append(f"{key}={theirs[key]} in the checkpoint, {mine[key]} here ({way_out})")
    return problems


def _feature_problems(source: Source, own: Mapping[str, Tensor], config: Any) -> list[str]:
    """Features of another width or made in another way."""
    theirs, mine = widths_of(source.weights), widths_of(own)
    then, now = source.made, config[ENCODERS] or {}
    problems = []
    for modality in sorted(mine.keys() & theirs.keys()):
        if theirs[modality] != mine[modality]:
            name = f" of {then[modality]['encoder']}" if modality in then else ""
            problems.append(
                f"{modality} features{name} are {theirs[modality]} wide in the checkpoint, {mine[modality]} here "
                "(embed this data set with the checkpoint's encoder)"
            )
        else:
            problems += made_otherwise(modality, then.get(modality), now.get(modality))
    return problems


def made_otherwise(modality: str, then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    """What there is to say of features that were not made as those of the checkpoint: nothing, or one complaint.

    Args:
        modality: theirs.
        then, now: what :func:`~recbole_mmm4rec.features.made_by.read_note` has found of them; None: nothing.
    """
    if not then or not now:
        return []
    hashes = (then["hash"], now["hash"])
    same_weights = None in hashes or hashes[0] == hashes[1]
    if same_weights and (then["encoder"], then["settings"]) == (now["encoder"], now["settings"]):
        lengths = (then.get("normalized"), now.get("normalized"))  # older checkpoints do not say it
        if None in lengths or lengths[0] == lengths[1]:
            return []
        words = ["normalised" if normalized else "not normalised" for normalized in lengths]
        differ = f"{modality} features are {words[0]} in the checkpoint, {words[1]} here"
        return [f"{differ} (embed this data set in the same way)"]
    return [
        f"{modality} features are of {then['encoder']} in the checkpoint, of {now['encoder']} here, or made with other "
        "settings or weights of it (embed this data set in the same way)"
    ]


def _tensor_problems(taken: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Names and shapes, once the settings fit."""
    optional = tuple(f"items.{name}" for name in ("bias", "missing", "fusion"))  # new here where it is new
    missing = sorted(name for name in own if name not in taken and not name.startswith(optional))
    left_over = sorted(name for name in taken if name not in own and not name.startswith(optional))
    shapes = [
        f"{name} is {tuple(w.shape)}, not {tuple(own[name].shape)}"
        for name, w in sorted(taken.items())
        if name in own and _as_ours(w, own[name]).shape != own[name].shape
    ]
    spoilt = sorted(name for name, w in taken.items() if name in own and not bool(torch.isfinite(w).all()))
    labelled = (
        ("missing", missing),
        ("left over", left_over),
        ("of another shape", shapes),
        ("with NaN or infinite values", spoilt),
    )
    return [f"{label}: {', '.join(names)}" for label, names in labelled if names]


def _as_ours(weight: Tensor, own: Tensor) -> Tensor:
    """A published depthwise convolution's (C, 1, K) as (C, K)."""
    return weight.squeeze(1) if (weight.dim(), own.dim()) == (3, 2) and weight.shape[1] == 1 else weight


def warn_of_meaning(path: str, settings: Mapping[str, Any], made: Mapping[str, Any], config: Any) -> None:
    """Say which settings of the checkpoint ``path`` meant something else, or may have, although every weight fits.

    Args:
        path: the checkpoint.
        settings: that it was trained with, as far as it says.
        made: what it says of its features, by modality.
        config: RecBole's configuration here.
    """
    for modality, note in (config[ENCODERS] or {}).items():
        if modality not in made:
            told = (
                "pretrained: %s does not say what made its %s features, which are of %s here: make sure that it is one"
            )
            logger.warning(told, path, modality, note["encoder"])
    for key in names(Counts.MEANING):
        then = settings.get(key)
        if then is not None and then != config[key]:
            logger.warning("pretrained: %s=%s in %s, %s here", key, then, path, config[key])


def _tell(source: Source, taken: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    new = sorted(name for name in own if name not in taken)
    out = sorted(name for name in source.weights if name not in taken or name not in own)
    logger.info(
        "pretrained: %d of %d tensors from %s; new: %s; left out: %s",
        len(own) - len(new),
        len(own),
        source.path,
        ", ".join(new) or "none",
        ", ".join(out) or "none",
    )
