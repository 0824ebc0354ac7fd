"""Values that settings may have: what would end in a traceback hours later, or train something else, is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean

_EVAL_KEYS = ("split", "order", "group_by", "mode")
_LEFT_OUT = ("valid_and_test", "valid_only", "test_only")
_SPLITS = {"RS": "[0.8, 0.1, 0.1]", "LS": "valid_and_test", "TS": "[0.8, 0.1, 0.1]"}


def _whole(lowest: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _is_whole(value) and value >= lowest, f"a whole number, at least {lowest}"


def _whole_or_none(lowest: int) -> tuple[Callable[[Any], bool], str]:
    is_right, wanted = _whole(lowest)
    return lambda value: value is None or is_right(value), wanted


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(*words: str, switch: bool = False) -> tuple[Callable[[Any], bool], str]:
    """One of some words, or with ``switch`` True or False; None is the default."""
    choices = [*words, *(("True", "False") if switch else ())]
    named = f"one of {', '.join(choices)}" if len(choices) > 2 else " or ".join(choices)
    return lambda value: value is None or value in words or (switch and isinstance(value, bool)), named


def _is_clipping(value: Any) -> bool:
    known = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}
    return value is None or (
        isinstance(value, dict)
        and value.keys() <= known
        and _is_number(value.get("max_norm"))
        and value["max_norm"] > 0
        and _is_number(value.get("norm_type", 2))
    )


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        inside = value.strip()
        inside = inside[1:-1] if inside[:1] == "[" and inside[-1:] == "]" else inside
        return inside.strip() != "" and not set("[]") & set(inside)
    return value is None or (isinstance(value, list) and all(isinstance(name, str) and name for name in value))


def _is_rates(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(isinstance(name, str) and _is_number(rate) and 0 < rate < float("inf") for name, rate in value.items())
    )


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": _whole(0),
    "train_batch_size": _whole(1),
    "eval_batch_size": _whole(1),
    "stopping_step": _whole(0),
    "eval_step": _whole(0),
    "worker": _whole(0),
    "seed": (lambda value: _is_whole(value) and 0 <= value < 2**32, "a whole number, 0 … 4294967295"),
    "learning_rate": (lambda value: _is_number(value) and 0 < value < float("inf"), "a number above 0"),
    "weight_decay": (
        lambda value: value is None or (_is_number(value) and 0 <= value < float("inf")),
        "a number, at least 0",
    ),
    "accumulation_steps": (
        lambda value: value is None or (_is_whole(value) and value >= 1),
        "a whole number, at least 1",
    ),
    "label_smoothing": (
        lambda value: value is None or (_is_number(value) and 0 <= value < 1),
        "a number from 0 to below 1",
    ),
    "loss_chunk": (
        lambda value: value in (None, "auto") or (_is_whole(value) and value >= 0),
        "auto or a whole number, at least 0",
    ),
    "sampled_uniform": _whole(0),
    "sampled_in_batch": _words(switch=True),
    "mask_false_negatives": _words(switch=True),
    "train_unit": _words("prefix", "user"),
    "features_in": _words("auto", "memory", "mapped"),
    "row_wise_ids": _words("auto", switch=True),
    "cuda_graphs": _words("auto", switch=True),
    "fast_cpu": _words(switch=True),
    "evaluate_first": _words("auto", switch=True),
    "stage": _words("train", "pretrain"),
    "pretrain_on": _words("all_but_last", "all"),
    "pretrain_checkpoint_every": _whole(0),
    "resume": _words("auto", switch=True),
    "pretrained": (lambda value: value is None or (isinstance(value, str) and value != ""), "the path of a checkpoint"),
    "pretrained_layers": _whole_or_none(1),
    "frozen": (_is_names, "a list of names such as [ssd, cross], or None"),
    "unfreeze_after": _whole_or_none(0),
    "learning_rates": (_is_rates, "names with factors above 0 such as {'transferred': 0.1}, or None"),
    "weight_average": (
        lambda value: value is None or (_is_number(value) and 0 <= value < 1),
        "a number from 0 to below 1",
    ),
    "neighbour_weight": (
        lambda value: value is None or (_is_number(value) and 0 <= value < float("inf")),
        "a number, at least 0",
    ),
    "neighbour_window": _whole(1),
    "neighbour_decay": (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0, at most 1"),
    "clip_grad_norm": (_is_clipping, "arguments of clip_grad_norm_ such as {'max_norm': 5}, or None"),
}


def check_values(settings: Mapping[str, Any]) -> None:
    """Refuse values that no model can be trained or evaluated with.

    Args:
        settings: key to value, already typed; keys without a rule are left alone.

    Raises:
        UserError: naming the key, the value and what it may be.
    """
    for key, (is_allowed, wanted) in _ALLOWED.items():
        if key in settings and not is_allowed(settings[key]):
            raise UserError(f"{key}={settings[key]!r}: it must be {wanted}")
    if settings.get("eval_args") is not None:
        check_eval_args(settings["eval_args"])


def check_eval_args(given: Any) -> None:
    """Refuse a key ``eval_args`` from which no evaluation can be made.

    Args:
        given: a dictionary with any of split, order, group_by, mode; what is left out is RecBole's default.

    Raises:
        UserError: naming the part, its value and what it may be.
    """
    if not isinstance(given, dict):
        raise UserError(
            f"eval_args={given!r}: it must be a dictionary such as "
            "{'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'group_by': 'user', 'mode': 'full'}"
        )
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
    shares = isinstance(value, list) and len(value) == 3 and all(_is_number(share) and share >= 0 for share in value)
    if not shares or sum(value) <= 0:
        raise UserError(
            f"eval_args: split {way}: {value!r} must be three shares, of training, validation and test, such as "
            f"{_SPLITS[way]}"
        )


def _is_mode(mode: Any) -> bool:
    if not isinstance(mode, str):
        return False
    return mode in ("full", "labeled") or (mode[:3] in ("uni", "pop") and mode[3:].isdecimal() and int(mode[3:]) > 0)
