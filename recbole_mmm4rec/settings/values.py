"""Values that settings may have: what would end in a traceback hours later, or train something else, is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.homes import MODELS, RIVALS
from recbole_mmm4rec.settings.kinds import is_number, shown
from recbole_mmm4rec.settings.registry import settings_of
from recbole_mmm4rec.settings.setting import Counts

_EVAL_KEYS = ("split", "order", "group_by", "mode")
_LEFT_OUT = ("valid_and_test", "valid_only", "test_only")
_SHARES = "[0.8, 0.1, 0.1]"
OUR_SPLITS = ("global_time", "cold_items", "cold_users")
"""Those of ``recbole_mmm4rec/data/protocols.py``; the others are RecBole's."""
_SPLITS = {"RS": _SHARES, "LS": "valid_and_test", "TS": _SHARES, **dict.fromkeys(OUR_SPLITS, _SHARES)}
_NEEDED_BY_TRANSFORM = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}


def check_values(settings: Mapping[str, Any], model: str) -> None:
    """Refuse values that no model can be trained or evaluated with.

    Args:
        settings: key to value, already typed; keys without a row are left alone.
        model: name of the model that is run.

    Raises:
        UserError: naming the key, the value and what it may be.
    """
    for name, row in settings_of(model).items():
        if name in settings and Counts.COMPUTED not in row.counts:
            row.check(settings[name])
    if "eval_args" in settings:
        check_eval_args(settings["eval_args"])
    _check_transform(settings, model)


def _check_transform(settings: Mapping[str, Any], model: str) -> None:
    """RecBole would fail at the first batch, without a word about what is missing."""
    transform = settings.get("transform")
    if transform and model in (*MODELS, *RIVALS):
        raise UserError(f"transform={transform!r}: {model} reads nothing of what it adds to a batch; leave it out")
    needed = _NEEDED_BY_TRANSFORM.get(transform or "")
    if needed is None:
        return
    value: Any = settings.get(needed)
    if not (is_number(value) and 0 <= value <= 1):
        raise UserError(f"transform={transform!r}: it needs {needed}, a number from 0 to 1, not {shown(value)}")


def check_eval_args(given: Mapping[str, Any]) -> None:
    """Refuse a key ``eval_args`` from which no evaluation can be made.

    Args:
        given: any of split, order, group_by, mode; what is left out is RecBole's default.

    Raises:
        UserError: naming the part, its value and what it may be.
    """
    for key in given:
        if key not in _EVAL_KEYS:
            hint = did_you_mean(str(key), _EVAL_KEYS)
            raise UserError(f"eval_args: unknown key {key!r}{hint} (known: {', '.join(_EVAL_KEYS)})")
    if given.get("split") is not None:
        _check_split(given["split"])
    if given.get("order", "RO") not in ("RO", "TO"):
        raise UserError(f"eval_args: order={given['order']!r}: it must be TO (by time) or RO (at random)")
    if str(given.get("group_by", "user")).lower() not in ("user", "none"):
        raise UserError(f"eval_args: group_by={given['group_by']!r}: it must be user or none")
    modes = given.get("mode", "full")
    for mode in modes.values() if isinstance(modes, dict) else [modes]:
        if not _is_mode(mode):
            raise UserError(
                f"eval_args: mode={mode!r}: it must be full, labeled, uniN or popN with N sampled items such as uni100"
            )
    if isinstance(modes, dict) and not modes.keys() <= {"valid", "test"}:
        raise UserError(f"eval_args: mode={modes!r}: its keys must be valid and test")


def _check_split(split: Any) -> None:
    if not isinstance(split, dict) or len(split) != 1 or next(iter(split)) not in _SPLITS:
        ways = ", ".join(f"{{{way!r}: {value}}}" for way, value in _SPLITS.items())
        raise UserError(f"eval_args: split={split!r}: it must be one of the splitting_methods {ways}")
    ((way, value),) = split.items()
    if way == "LS":
        if value not in _LEFT_OUT:
            hint = did_you_mean(str(value), _LEFT_OUT)
            raise UserError(f"eval_args: split LS: {value!r} is none of {', '.join(_LEFT_OUT)}{hint}")
        return
    shares = isinstance(value, list) and len(value) == 3 and all(is_number(share) and share >= 0 for share in value)
    # all of TS but the test's share is divided, too
    if not shares or sum(value[: 2 if way == "TS" else 3]) <= 0 or (way in OUR_SPLITS and min(value) <= 0):
        raise UserError(
            f"eval_args: split {way}: {value!r} must be three shares, of training, validation and test, such as "
            f"{_SPLITS[way]}"
        )


def _is_mode(mode: Any) -> bool:
    if not isinstance(mode, str):
        return False
    return mode in ("full", "labeled") or (mode[:3] in ("uni", "pop") and mode[3:].isdecimal() and int(mode[3:]) > 0)
