"""The keys that a run may set, so that a misspelt one is noticed before it is silently ignored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from recbole_mmm4rec.base.errors import UserError, nearest
from recbole_mmm4rec.settings import other_names
from recbole_mmm4rec.settings.defaults import (
    default_settings,
    properties_dir,
    recbole_properties,
    settings_in,
)
from recbole_mmm4rec.settings.homes import MODELS
from recbole_mmm4rec.settings.kinds import shown
from recbole_mmm4rec.settings.reading import key_lines, read_located_yaml
from recbole_mmm4rec.settings.registry import settings_of
from recbole_mmm4rec.settings.setting import Counts

logger = logging.getLogger(__name__)

_IN_NO_FILE = {
    "AutoInt": ("has_residual",),  # model/context_aware_recommender/autoint.py
    "DiffRec": ("norm",),  # model/general_recommender/diffrec.py
    "FEARec": ("contrast", "sim", "tau", "use_filter"),  # model/sequential_recommender/fearec.py
    "KD_DAGFM": ("cin", "feature_num"),  # model/context_aware_recommender/kd_dagfm.py
    "lightgbm": ("token_num_threshold",),  # data/dataset/decisiontree_dataset.py; its file misspells it
    "xgboost": ("token_num_threshold", "xgb_early_stopping_rounds"),  # trainer/trainer.py
}
"""What RecBole's models read although it stands in none of its files of default settings."""

_MAY_BE_FRACTIONS = (
    *("dropout_prob", "hidden_dropout_prob", "global_ratio", "spatial_ratio", "negative_weight", "w_max", "resolution"),
    *("total_anneal_steps", "anneal_steps", "vae_anneal_steps"),
)
"""Settings of RecBole's models whose default is whole by chance."""


@cache
def known_keys(model: str) -> frozenset[str]:
    """All keys that a model's run may set: those with a row, RecBole's, and those of the model.

    RecBole's come from its lists of arguments and its files of default settings; no program text is searched.

    Args:
        model: name of a model of RecBole or of the plug-in.
    """
    from recbole.utils import argument_list

    ours = {row.name for row in settings_of(MODELS[0]).values() if row.ours}
    keys = {*settings_of(model), *default_settings(model), *_IN_NO_FILE.get(model, ())}
    for category in ("general", "training", "evaluation", "dataset"):
        keys.update(set(getattr(argument_list, f"{category}_arguments")) - ours)  # where the plug-in adds its own
    for kind in ("dataset", "quick_start_config"):
        for file in sorted((recbole_properties() / kind).glob("*.yaml")):
            if not file.stem.endswith("url"):
                keys.update(settings_in(file))
    return frozenset(keys - {"config_file"})


@cache
def keys_of_other_models() -> frozenset[str]:
    """Keys in the default settings of any model of RecBole or of the plug-in."""
    files = [
        file for folder in (recbole_properties(), properties_dir()) for file in sorted(folder.glob("model/*.yaml"))
    ]
    return frozenset(key for file in files for key in settings_in(file))


def read_settings(path: str, model: str) -> dict[str, Any]:
    """The settings in a config file, each checked.

    Args:
        path: the file.
        model: name of the model that is run.

    Raises:
        UserError: as :func:`~recbole_mmm4rec.settings.reading.read_yaml`, or naming the line of a key that
            :func:`check_setting` refuses.
    """
    content, node = read_located_yaml(path)
    lines = key_lines(node)
    if model in MODELS:
        published = other_names.published_file(content, known_keys(model))
        if published:
            raise UserError(f"config file {path!r}: {published}")
    for key, value in content.items():
        where = f"config file {path!r}, line {lines.get(key, 1)}"
        if key == "config_files":
            raise UserError(f"{where}: config_files: a file names no others; name them all where this one is named")
        check_setting(key, value, model, where)
    return content


def check_setting(key: str, value: Any, model: str, where: str) -> None:
    """Refuse a key that is nearly a known one, and a value that the setting cannot have.

    A key that is near nothing is accepted with a warning: models from elsewhere have keys of their own.

    Args:
        key: name of the setting.
        value: its value, already typed.
        model: name of the model that is run.
        where: what the message starts with: the command line's argument, or a file and line.

    Raises:
        UserError: naming the place, the key and the way out.
    """
    row = settings_of(model).get(key)
    with_value = where if where.startswith("--") else f"{where}: {key}={shown(value)}"
    if row is not None and Counts.COMPUTED in row.counts:
        raise UserError(f"{with_value}: it cannot be set; {row.instead}")
    if row is not None:
        row.check(value, with_value)
    elif key in known_keys(model):
        _check_like_default(key, value, default_settings(model).get(key), with_value)
    else:
        _check_unknown(key, model, with_value if key in other_names.REMOVED else where)


def _check_unknown(key: str, model: str, where: str) -> None:
    told = other_names.told(key, model in MODELS)
    if told is not None:
        raise UserError(f"{where}: {told}")
    if key in keys_of_other_models():
        logger.warning("%s: %s does not use the key %r", where, model, key)
        return
    hit = nearest(key, known_keys(model))
    if hit:
        raise UserError(f"{where}: unknown key {key!r}; did you mean {hit!r}?")
    logger.warning("%s: neither RecBole nor %s knows the key %r", where, model, key)


def _check_like_default(key: str, value: Any, default: Any, where: str) -> None:
    """Refuse what is of another kind than the default of a model's own setting."""
    if isinstance(default, bool) and value is not None and not isinstance(value, (bool, int)):
        raise UserError(f"{where}: it must be True or False")
    if isinstance(default, (int, float)) and not isinstance(default, bool) and isinstance(value, str):
        raise UserError(f"{where}: it must be a number such as {default!r}")
    if type(default) is int and isinstance(value, float) and key not in _MAY_BE_FRACTIONS:
        raise UserError(f"{where}: it must be a whole number such as {default!r}")
    if isinstance(default, list) and value is not None and not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: it must be a list such as {default!r}")


def refuse_other_names(given: Mapping[str, Any], model: str) -> None:
    """Refuse keys that would be ignored silently, whichever way they came.

    Args:
        given: what the user sets, in files, in a dictionary and on the command line.
        model: name of the model that is run.

    Raises:
        UserError: a removed setting of ours, one of RecBole's older versions, or a device by name.
    """
    known = known_keys(model)
    for key, value in given.items():
        told = None if key in known else other_names.told(str(key), model in MODELS)
        if told is not None:
            raise UserError(f"{key}={shown(value)}: {told}")
    if isinstance(given.get("device"), str):
        raise UserError(f"device={given['device']!r}: it cannot be set; {settings_of(model)['device'].instead}")
