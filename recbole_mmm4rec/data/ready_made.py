"""Splits that come as files (key ``benchmark_filename``): rows with histories, or plain interactions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_mmm4rec.base.atomic_files import line_of
from recbole_mmm4rec.base.errors import UserError


def history_field(config: Any) -> str:
    """The column that holds the items before a row's own, ``item_id_list`` as a rule."""
    return f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"


def has_histories(dataset: Any) -> bool:
    """Whether a sequential data set is read from files that hold histories; else these are made."""
    return dataset.benchmark_filename_list is not None and history_field(dataset.config) in dataset.inter_feat


def with_histories(config: Any, columns: set[str] | None) -> set[str] | None:
    """The columns of interactions to load, the history among them: a split's rows mean something else without it.

    Args:
        config: RecBole's configuration.
        columns: those that ``load_col`` names; None for all.
    """
    if columns is None or config["benchmark_filename"] is None:
        return columns
    return columns | {history_field(config), f"{config['TIME_FIELD']}{config['LIST_SUFFIX']}"}


def item_aliases(dataset: Any, alias_name: str, fields: Sequence[str]) -> list[str]:
    """The fields that share ids under a name: those that RecBole takes, and the history's with the items'.

    Without it ``item_id`` and ``item_id_list`` are numbered apart, and a model trains on histories of other items than
    those it predicts (RUCAIBox/RecBole issue 1318).
    """
    return [*fields, history_field(dataset.config)] if alias_name == "item_id" and has_histories(dataset) else [*fields]


def note_histories(dataset: Any) -> None:
    """RecBole's ``_benchmark_presets``, for any name of the item's field, and for files without histories.

    Args:
        dataset: a sequential data set whose interactions are still a frame.

    Raises:
        UserError: a history is empty, or lists of one row have different lengths; names file and line.
    """
    if not has_histories(dataset):
        return
    frame, main = dataset.inter_feat, history_field(dataset.config)
    lengths = frame[main].map(len)
    for field in history_fields(dataset, frame):
        setattr(dataset, f"{field.removesuffix(dataset.config['LIST_SUFFIX'])}_list_field", field)
        differing = np.flatnonzero(frame[field].map(len) != lengths)
        if len(differing):
            row = int(differing[0])
            counts = f"{len(frame[field].iloc[row])} in {field}, {lengths.iloc[row]} in {main}"
            raise UserError(f"{place_of(dataset, row)}: lists of different lengths ({counts}); mend the line")
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise UserError(
            f"{place_of(dataset, int(empty[0]))}: {main} is empty ({len(empty)} such rows); leave them out: there is "
            "no history to predict from"
        )
    length_field = dataset.item_list_length_field
    dataset.set_field_property(length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
    frame[length_field] = lengths


def history_fields(dataset: Any, frame: pd.DataFrame) -> list[str]:
    """The fields that hold a list for each row: of the items, of the times, and of other columns of the frame."""
    suffix = dataset.config["LIST_SUFFIX"]
    bases = {dataset.iid_field, dataset.time_field, *map(str, frame)}
    return [field for field in map(str, frame) if field.endswith(suffix) and field[: -len(suffix)] in bases]


def refuse_missing_ids(dataset: Any) -> None:
    """Refuse rows of ready-made splits that lack an id, which RecBole would read as the padding, or the history.

    Raises:
        UserError: naming file and line.
    """
    if dataset.benchmark_filename_list is None:
        return
    histories = [history_field(dataset.config)] if has_histories(dataset) else []  # of some files, perhaps
    for field in (dataset.uid_field, dataset.iid_field, *histories):
        missing = np.flatnonzero(dataset.inter_feat[field].isna())
        if len(missing):
            raise UserError(f"{place_of(dataset, int(missing[0]))}: {field} is missing ({len(missing)} such rows)")


def check_listed_times(dataset: Any, field: str) -> None:
    """Refuse times of histories from which no gap can be computed.

    Args:
        dataset: a data set with histories.
        field: the column of their times; it need not be there.

    Raises:
        UserError: a time is not finite or negative; names file and line.
    """
    if field not in dataset.inter_feat:
        return
    lists = dataset.inter_feat[field].to_list()
    wrong = np.flatnonzero([not (np.isfinite(times) & (times >= 0)).all() for times in lists])
    if len(wrong):
        raise UserError(
            f"{place_of(dataset, int(wrong[0]))}: {field} holds a time that is negative or no finite number; "
            "mend it, or set is_time: False to leave time gaps out of the model"
        )


def place_of(dataset: Any, row: int) -> str:
    """File and line of a row of ready-made splits.

    Args:
        dataset: the data set.
        row: among the rows of all files, from 0.
    """
    folder, name = Path(dataset.config["data_path"]), dataset.dataset_name
    ends = np.cumsum(dataset.file_size_list)
    number = int(np.searchsorted(ends, row, side="right"))
    file = folder / f"{name}.{dataset.benchmark_filename_list[number]}.inter"
    row -= int(ends[number]) - dataset.file_size_list[number]
    return f"{file} line {line_of(file, row, dataset.config['encoding'] or 'utf-8')}"


def files_of(dataset: Any) -> np.ndarray:
    """The number of the file that each row is from, (R,) int64."""
    return np.repeat(np.arange(len(dataset.file_size_list)), dataset.file_size_list)
