"""Settings in a comparison file: which belong to a model, which to all models alike, which to the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.located import Located, Place
from recbole_mmm4rec.settings.keys import check_setting
from recbole_mmm4rec.settings.registry import settings_of
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.settings.values import OUR_SPLITS, check_eval_args

METRICS = ("hit", "ndcg", "mrr")
"""Metrics of the rank of one target; others are not offered."""
BEYOND = {
    "ItemCoverage": "Coverage",
    "AveragePopularity": "Popularity",
    "GiniIndex": "Gini",
    "TailPercentage": "Tail",
}
"""RecBole's names of what a comparison tells beyond accuracy, and how a table calls them."""
LEAVE_ONE_OUT = "leave_one_out"
_DEVICES = ("gpu_id", "use_gpu")
_SET_HERE = ("resume", "save_pth", "allow_download")
"""Settings that would count for nothing here, beside those of :class:`Counts`."""
_EITHER = ("eval_batch_size",)
"""A setting of the protocol that a model may have of its own: its ranks are the same."""


def beyond_of(file: Located, place: Place, value: Any) -> tuple[str, ...]:
    """What is told beyond accuracy: everything for True, nothing for False or None, else the names listed."""
    if value is None or value is False:
        return ()
    if value is True:
        return tuple(BEYOND)
    known = {name.lower(): name for name in BEYOND}
    found = []
    for at, name in enumerate(file.sequence(place, value)):
        if str(name).lower() not in known:
            file.fail((*place, at), f"beyond: {name!r} is none of {', '.join(BEYOND)}; or write `beyond: True`")
        found.append(known[str(name).lower()])
    return tuple(found)


def protocols_of(file: Located, place: Place, value: Any) -> dict[str, dict[str, Any]]:
    """Name of a protocol to the settings that make it; empty where a file names none."""
    found: dict[str, dict[str, Any]] = {}
    for at, given in enumerate(file.sequence(place, value)):
        here = (*place, at)
        part = {given: None} if isinstance(given, str) else file.mapping(here, given)
        if len(part) != 1:
            file.fail(here, f"protocols: {given!r} must be one name, such as {{global_time: [8, 1, 1]}}")
        ((name, shares),) = part.items()
        file.name(here, name, (LEAVE_ONE_OUT, *OUR_SPLITS))
        if name in found:
            file.fail(here, f"protocols: {name!r} stands there twice")
        if name == LEAVE_ONE_OUT and shares is not None:
            file.fail(here, f"protocols: {name} has no shares; write it alone, not {shares!r}")
        found[name] = {} if name == LEAVE_ONE_OUT else {"eval_args": _eval_args(file, here, name, shares)}
    return found


def _eval_args(file: Located, place: Place, name: str, shares: Any) -> dict[str, Any]:
    given = {"split": {name: [8, 1, 1] if shares is None else shares}, "order": "TO", "mode": "full"}
    try:
        check_eval_args(given)
    except UserError as error:
        file.fail(place, str(error))
    return {**given, "group_by": "user"}


def settings_in(file: Located, place: Place, value: Any, model: str) -> dict[str, Any]:
    """``value`` as settings that a model knows, each with a value that it may have."""
    settings = file.mapping(place, value)
    for key, given in settings.items():
        check_setting(key, given, model, file.where((*place, key)))
    return settings


def model_settings(file: Located, place: Place, value: Any, model: str) -> dict[str, Any]:
    """``value`` as settings of one model alone."""
    settings = settings_in(file, place, value, model)
    for key in settings:
        counts = _counts(key, model)
        if key in ("pretrained", "stage"):
            file.fail((*place, key), f"{key}: write it as `pretrained:` of the model, beside its settings")
        if counts & (Counts.COMMAND | Counts.LAUNCH) or key in _SET_HERE:
            _refuse_what_the_command_sets(file, place, key)
        if counts & (Counts.PROTOCOL | Counts.ELSEWHERE) and key not in _EITHER:
            file.fail((*place, key), f"{key} belongs to all models alike: set it under protocol or datasets")
    return settings


def check_protocol(file: Located, settings: Mapping[str, Any], place: Place) -> None:
    """Refuse settings that do not belong to all models alike."""
    for key, value in settings.items():
        counts = _counts(key, "MMM4Rec")
        if counts & Counts.COMMAND:
            _refuse_what_the_command_sets(file, place, key)
        if key == "load_col" and (not isinstance(value, dict) or set(value) != {"inter"}):
            file.fail((*place, key), f"load_col: {value}: a comparison loads columns of interactions (inter) alone")
        if not counts & Counts.PROTOCOL:
            file.fail((*place, key), f"{key}: it is a setting of models, not of the protocol")
        if key == "metrics":
            for name in value if isinstance(value, list) else [value]:
                if str(name).lower() not in METRICS:
                    file.fail((*place, key), f"metrics: {name!r} is none of Hit, NDCG, MRR")


def _refuse_what_the_command_sets(file: Located, place: Place, key: str) -> None:
    if key in _DEVICES:
        file.fail((*place, key), f"{key}: say it in the environment, CUDA_VISIBLE_DEVICES=0 or, for none, empty")
    file.fail((*place, key), f"{key}: the command sets it")


def _counts(key: str, model: str) -> Counts:
    found = settings_of(model).get(key)
    return Counts.NOTHING if found is None else found.counts
