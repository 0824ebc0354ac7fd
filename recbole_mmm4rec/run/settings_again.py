"""RecBole's configuration built again from the plain settings of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from recbole.config import Config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.tree import plain_settings, plain_value
from recbole_mmm4rec.run.build import make_config, same_devices
from recbole_mmm4rec.settings.homes import MODELS, STARTS
from recbole_mmm4rec.settings.other_names import without_removed
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

_COMPUTED = frozenset(names(Counts.COMPUTED))
"""What the configuration finds out by itself."""
_ELSEWHERE = frozenset({"model", "dataset", "data_path", *names(Counts.LAUNCH), *_COMPUTED})
"""What is given in another way, or may differ on another machine."""


def config_again(stored: Mapping[str, Any], source: str) -> Config:
    """The configuration of the training that has written a checkpoint.

    Where it began with a pre-training, that and what goes with it (``STARTS``) are left out: the model is to be as it
    was kept, the file of the start need not be there any more, and a further training is one of its own.

    Args:
        stored: its ``config``; what is no plain value in it is left out.
        source: names the file in messages.

    Raises:
        UserError: settings are missing, cannot be used, or come out otherwise than they were.
    """
    kept = without_removed(stored) if stored.get("model") in MODELS else stored
    before = {key: value for key, value in kept.items() if _is_plain(value)}
    missing = [key for key in ("model", "dataset", "data_path") if not isinstance(before.get(key), str)]
    if missing:
        raise UserError(f"{source} does not say its {', '.join(missing)}")
    behind = set(STARTS if before.get("pretrained") else ())
    given = {key: value for key, value in before.items() if key not in _COMPUTED | _ELSEWHERE | behind}
    negatives = given.get("train_neg_sample_args")
    if isinstance(negatives, dict) and negatives.get("distribution") == "none":
        given["train_neg_sample_args"] = None
    folder, name = os.path.split(before["data_path"].rstrip("/"))
    given["data_path"] = folder if name == before["dataset"] else before["data_path"]
    # RecBole reads every string of a dictionary once more
    shielded = {key: repr(value) if isinstance(value, str) else value for key, value in given.items()}
    with same_devices():
        config = make_config(before["model"], before["dataset"], config_dict=shielded)
    after = plain_settings(config.final_config_dict)
    for key in sorted(before.keys() - _ELSEWHERE - behind - {"gpu_id"}):
        if key not in after or plain_value(before[key]) != after[key]:
            raise UserError(f"{source}: its setting {key}={before[key]!r} comes out as {after.get(key)!r} here")
    return config


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
