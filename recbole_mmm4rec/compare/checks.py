"""What would make a comparison unfair or impossible, found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole.utils import ModelType, get_model

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.file_settings import METRICS
from recbole_mmm4rec.data.protocols import SPLITS, short_histories, split_of
from recbole_mmm4rec.features.made_by import note
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.features.tables import FeatureSource, choose_modalities
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.transfer.loading import made_otherwise

_WITH_USERS = ("Caser", "DIEN", "DIN", "FOSSIL", "FPMC", "HGN", "HRM", "NPE", "SHAN", "TransRec")
"""RecBole's sequential models that read the user's id."""


def check_users(dataset: Any, name: str, models: Mapping[str, str]) -> None:
    """Refuse users whom only some of the models can be tested on.

    Under leave-one-out these are the ones of :func:`~recbole_mmm4rec.data.protocols.short_histories`.
    Where users are held out of training, a model without histories, or with a vector for each user, knows nothing of
    those that it is asked about; Pop asks nothing of a user.

    Args:
        dataset: RecBole's data set, after its filters; name: its name.
        models: name of a row to its model.

    Raises:
        UserError: there are such users, and such models.
    """
    others = [row for row, model in models.items() if get_model(model).type != ModelType.SEQUENTIAL]
    split = (split_of(dataset.config) or ("leave_one_out", ()))[0]
    unknowing = [row for row in others if models[row] not in ("Pop", "Random")]
    unknowing += [row for row, model in models.items() if model in _WITH_USERS]
    if split == "cold_users" and unknowing:
        knows = "knows users by their ids" if models[unknowing[0]] in _WITH_USERS else "has no history to know them by"
        raise UserError(
            f"model {unknowing[0]!r} on {name!r}: users are held out of training, and {models[unknowing[0]]} {knows}; "
            "leave the row out there (`only:`), or take Pop and sequential models that know histories alone"
        )
    if split != "leave_one_out":
        return
    count = short_histories(dataset)
    if count and 0 < len(others) < len(models):
        raise UserError(
            f"data set {name!r}: {count:,} users have two or three interactions, which {others[0]!r} and sequential "
            'models divide differently; set user_inter_num_interval: "[4,inf)" in its settings'
        )


def check_start(first: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuse a training that does not fit what it starts from, before that one is trained for hours.

    Args:
        first: all settings of the pre-training; then: of what starts from it.

    Raises:
        UserError: they give the weights another shape or meaning.
    """
    free = {"modalities", *names(Counts.MEANING)}  # fewer modalities will do, and another meaning is warned of
    free |= {"MAX_ITEM_LIST_LENGTH", "p2p_residual"} if then.get("is_time") is False else set()
    free |= {"inner_size"} if then.get("is_ffn") is False else set()
    for key in (key for key in names(Counts.SHAPE) if key not in free):
        there: Any = first.get(key)
        here: Any = then.get(key)
        if key == "num_layers" and then.get("pretrained_layers"):
            there = min(there, then["pretrained_layers"])
        if there == here:
            continue
        way_out = f", or pretrained_layers: {here}" if key == "num_layers" and there > here else ""
        raise UserError(f"{key}={here}, and {there} in the pre-training it starts from; set both alike{way_out}")
    there, here = first.get("modalities"), then.get("modalities")
    lacking = sorted(set(here) - set(there)) if isinstance(there, list) and isinstance(here, list) else []
    if lacking:
        raise UserError(f"modalities={here}, and {there} in the pre-training it starts from; add {lacking[0]} there")


def check_features(first: Any, then: Any) -> None:
    """Refuse features of another width or maker than those that a pre-training is to see.

    Args:
        first: the configuration of the pre-training; then: of what starts from it.

    Raises:
        UserError: they differ, or a store is missing or damaged.
    """
    before, after = FeatureSource.of(first), FeatureSource.of(then)
    for modality in choose_modalities(then["modalities"], after):
        if modality not in choose_modalities(first["modalities"], before):
            continue
        there, here = (FeatureStore.open(source.folder / modality).manifest for source in (before, after))
        wrong = made_otherwise(modality, note(there), note(here))
        if there.dim != here.dim:
            wrong = [f"{modality} features are {there.dim} wide in the pre-training it starts from, {here.dim} here"]
        if wrong:
            raise UserError(f"{wrong[0]}; embed {before.dataset!r} and {after.dataset!r} alike")


def check_protocol(config: Any, dataset: str) -> None:
    """Targets one at a time, ranked among all items: what per-user ranks and tests need.

    Args:
        config: RecBole's configuration under the protocol; dataset: its name, for messages.

    Raises:
        UserError: another split, order, candidates or metrics.
    """
    given = config["eval_args"]
    split, modes = given["split"] or {}, given["mode"]
    if "TS" in split:
        raise UserError(
            f"eval_args on {dataset!r}: split={split}: RecBole's TS has one moment, where the test begins, and "
            f"validates on each user's latest before it; for points in time that are the same for all write "
            f"{{global_time: {split['TS']}}}"
        )
    other = split != {"LS": "valid_and_test"} and not (split and set(split) <= set(SPLITS))
    if other or set(modes.values() if isinstance(modes, dict) else [modes]) != {"full"}:
        raise UserError(
            f"eval_args on {dataset!r}: split={split}, mode={modes}: a comparison leaves one item out and ranks all: "
            f"split {{'LS': 'valid_and_test'}}, mode full, order TO; or splits by {', '.join(SPLITS)}"
        )
    if given["order"] != "TO":
        raise UserError(
            f"eval_args on {dataset!r}: order={given['order']}: the last item is tested, so write order: TO"
        )
    if config["benchmark_filename"]:
        raise UserError(f"benchmark_filename on {dataset!r}: a comparison splits for itself; leave it out")
    if config["eval_step"] < 1:
        raise UserError(f"eval_step on {dataset!r}: {config['eval_step']} is no validation; write 1 or more")
    if not {str(name).lower() for name in config["metrics"]} <= set(METRICS):
        raise UserError(f"metrics on {dataset!r}: {config['metrics']}: only Hit, NDCG and MRR can be compared")
