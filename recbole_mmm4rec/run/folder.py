"""The model folder of a training: what was trained, on what, and what it found."""

from __future__ import annotations

import ast
import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recbole_mmm4rec.base.atomic_files import read_header, read_rows
from recbole_mmm4rec.data.prefixes import PrefixInteraction
from recbole_mmm4rec.data.protocols import NOWHERE
from recbole_mmm4rec.model_folder.contents import NO_PART, OURS, Contents
from recbole_mmm4rec.model_folder.small_pictures import small_pictures
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.settings.defaults import default_settings, recbole_properties, settings_in
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

logger = logging.getLogger(__name__)


def wants_folder(config: Any) -> bool:
    """Whether a run ends with a model folder: of MMM4Rec, where ``model_folder`` says so."""
    return config["model"] == "MMM4Rec" and config["model_folder"] is not False and config["stage"] != "pretrain"


def write_model_folder(run: Any, path: str | Path, metrics: Mapping[str, Any]) -> str:
    """Write the folder of a training that has been tested: the model is the best one, in evaluation mode.

    Args:
        run: see :class:`~.build.Run`.
        path: of the folder.
        metrics: what :func:`~.measured.measured` found.

    Returns:
        ``path``.
    """
    return str(write_folder(path, contents_of(run, metrics)))


def contents_of(run: Any, metrics: Mapping[str, Any]) -> Contents:
    """All that a model folder holds, from a run."""
    config, model, dataset = run.config, run.model, run.dataset
    network = model.network.eval()
    with torch.no_grad():
        side = network.items.side()
    interactions = interactions_of(run)
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    trained = interactions["item"].to_numpy()[interactions["part"].to_numpy() == 0]
    ours = {
        "popularity": np.bincount(trained, minlength=len(tokens) + 1)[1:],
        **{
            f"has_{name}": dataset.present[name][1:].numpy() if name in dataset.present else np.zeros(len(tokens), bool)
            for name in ("text", "image")
        },
    }
    beside = model.beside if model.has_trained else None  # as the test had it
    source = dataset.feature_tables.source
    return Contents(
        model=str(config["model"]),
        dataset=str(config["dataset"]),
        network=network,
        side=side,
        items=items_of(dataset, tokens, ours),
        interactions=interactions,
        run={**plain_settings(config), "command": command_of(config)},
        encoders={name: asdict(manifest) for name, manifest in dataset.feature_tables.manifests.items()},
        counts=None if beside is None else beside.counts,
        neighbours=None
        if beside is None
        else {key: config[f"neighbour_{key}"] for key in ("weight", "window", "decay")},
        pictures=small_pictures(source.item_file.parent / "images", tokens, bool(config["show_progress"])),
        metrics=dict(metrics),
    )


def plain_settings(config: Any) -> dict[str, Any]:
    """The settings of a run that JSON can hold."""
    return {key: value for key, value in sorted(config.final_config_dict.items()) if _is_plain(value)}


def command_of(config: Any) -> str:
    """The command that trains the same again: settings that differ from the defaults, but for those of the machine."""
    defaults = {
        "encoding": None,
        **settings_in(recbole_properties() / "dataset" / "sample.yaml"),
        **default_settings(config["model"]),
        "eval_args": _LAST_ITEM_OUT,
    }
    skipped = set(names(Counts.COMMAND | Counts.COMPUTED | Counts.LAUNCH | Counts.ELSEWHERE))
    skipped |= {"repeatable", "train_neg_sample_args"}  # RecBole makes them of other settings
    given = {**config.final_config_dict, "eval_args": _as_written(config["eval_args"])}
    if config["pretrained"]:
        skipped -= {"pretrained"}
    changed = {
        key: value
        for key, value in sorted(given.items())
        if key in defaults and key not in skipped and value != defaults[key] and _is_plain(value)
    }
    words = [f"--{key}={_typed(value)}" for key, value in {**changed, "seed": config["seed"]}.items()]
    return shlex.join(["mmm4rec", "train", f"--dataset={config['dataset']}", *words])


_LAST_ITEM_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}
"""RecBole's ``eval_args`` for sequential models."""


def _as_written(given: Mapping[str, Any]) -> dict[str, Any]:
    """``eval_args`` as they are typed: RecBole has a mode for validation and one for the test, and further keys."""
    modes = given["mode"]
    alike = isinstance(modes, dict) and len(set(modes.values())) == 1
    return {**{key: given[key] for key in _LAST_ITEM_OUT}, "mode": next(iter(modes.values())) if alike else modes}


def _typed(value: Any) -> str:
    """A value as a word of a command, lists and dictionaries without blanks, but for those of their texts."""
    text = str(value)
    short = text.replace(" ", "") if isinstance(value, (list, tuple, dict)) else text
    return short if short == text or ast.literal_eval(short) == value else text


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def items_of(dataset: Any, tokens: list[str], ours: Mapping[str, np.ndarray]) -> pa.Table:
    """One row an item: id, text, the columns of the item file, and what the training adds.

    Args:
        dataset: for its item file, which need not exist.
        tokens: ids in the order of item numbers.
        ours: columns of :data:`~.contents.OURS`.
    """
    source = dataset.feature_tables.source
    columns: dict[str, pa.Array] = {"item_id": pa.array(tokens, pa.string())}
    if source.item_file.is_file():
        columns |= _columns_of(source, tokens)
    manifest = dataset.feature_tables.manifests.get("text")
    column = "text" if manifest is None else str(manifest.settings.get("column", "text"))
    text = columns.pop("text", None)
    if column in columns:
        text = columns[column]
    text = pa.nulls(len(tokens), pa.string()) if text is None else text.cast(pa.string())
    made = {"item_id": columns.pop("item_id"), "text": text.fill_null("")}
    for name, values in columns.items():
        while name in OURS or name in made:
            name = f"item_{name}"
        made[name] = values
    made |= {name: pa.array(ours[name], kind) for name, kind in OURS.items()}
    return pa.table(made)


def _columns_of(source: Any, tokens: list[str]) -> dict[str, pa.Array]:
    """The columns of an item file but the ids, in the order of ``tokens``; null where it does not name an item.

    Args:
        source: where the features lie, and how the file is written.
        tokens: ids in the order of item numbers.
    """
    file, separator, encoding, ids = source.item_file, source.separator, source.encoding, source.item_field
    header = read_header(file, separator, encoding)
    if ids not in header:
        return {}
    names, place = list(header), list(header).index(ids)
    wanted = {token: row for row, token in enumerate(tokens)}
    values: list[list[Any]] = [[None] * len(tokens) for _ in names]
    for _, fields in read_rows(file, header, separator, encoding):
        row = wanted.get(fields[place])
        if row is not None:
            for column, field in zip(values, fields, strict=True):
                column[row] = field
    made = {}
    for name, column in zip(names, values, strict=True):
        if name in (ids, "item_id"):
            continue
        if header[name] == "float":
            made[name] = pa.array([_number(field) for field in column], pa.float64(), from_pandas=True)  # NaN is none
        else:
            made[name] = pa.array(column, pa.string())
    return made


def _number(field: str | None) -> float | None:
    try:
        return float(field) if field else None
    except ValueError:
        return None


def interactions_of(run: Any) -> pa.Table:
    """All interactions of a run's data set by user and time, each with the part of the split whose target it is."""
    parts = [loader._dataset for loader in (run.train, run.valid, run.test)]
    dataset = parts[0]
    if isinstance(dataset.inter_feat, PrefixInteraction):
        users, items, times, part = _of_one_table(parts)
    else:
        users, items, times, part = _of_listed(parts)
    names = pa.array([str(name) for name in dataset.field2id_token[dataset.uid_field][1:]], pa.string())
    return pa.table(
        {
            "user_id": pa.DictionaryArray.from_arrays(pa.array(users - 1, pa.int32()), names),
            "item": pa.array(items, pa.int32()),
            "timestamp": pa.array(times, pa.int64()),
            "part": pa.array(part, pa.int8()),
        }
    )


def _of_one_table(parts: list[Any]) -> tuple[np.ndarray, ...]:
    """Of samples that are views into one table; a user's first interaction, no target, counts as training, but for a
    split that says what it is."""
    dataset = parts[0]
    rows = dataset.inter_feat.interaction.rows
    told = getattr(dataset, "part_of_rows", None)
    if told is None:
        part = np.zeros(len(rows[dataset.iid_field]), dtype=np.int8)
        for number, other in enumerate(parts):
            part[other.inter_feat.interaction.target.numpy()] = number
    else:
        part = np.where(told == NOWHERE, NO_PART, told).astype(np.int8)
    times = rows.get(dataset.time_field, torch.zeros(len(part), dtype=torch.int64))
    return rows[dataset.uid_field].numpy(), rows[dataset.iid_field].numpy(), times.numpy().astype(np.int64), part


def _of_listed(parts: list[Any]) -> tuple[np.ndarray, ...]:
    """Of samples that come with their histories: of each part a user's longest one, and its target."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for number, dataset in enumerate(parts):
        samples = dataset.inter_feat
        suffix = dataset.config["LIST_SUFFIX"]
        users, targets = samples[dataset.uid_field], samples[dataset.iid_field]
        lengths, lists = samples[dataset.item_list_length_field], samples[dataset.iid_field + suffix]
        times: Tensor | None = samples[dataset._time_list] if dataset._time_list in samples.columns else None
        order = torch.argsort(lengths, stable=True)
        longest = {int(users[row]): int(row) for row in order}
        for user, row in longest.items():
            length, rows = int(lengths[row]), found.setdefault(user, [])
            stamps = list(range(length)) if times is None else times[row, :length].tolist()
            if not rows:
                before = NO_PART if number else 0  # of a user who is not trained on
                rows += [(item, time, before) for item, time in zip(lists[row, :length].tolist(), stamps, strict=True)]
            own = samples[dataset.time_field][row] if dataset.time_field in samples.columns else stamps[-1] + 1
            rows.append((int(targets[row]), int(own), number))
    flat = [(user, *entry) for user in sorted(found) for entry in found[user]]
    users_, items, stamps_, part = (np.array(column, dtype=np.int64) for column in zip(*flat, strict=True))
    return users_, items, stamps_, part
