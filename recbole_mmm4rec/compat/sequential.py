"""Repairs of RecBole's sequential data sets: what is read is checked, and ready-made splits are of use.

Our own data set does the same for itself; here are RecBole's models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch


def check_sequences(module: ModuleType) -> None:
    """Refuse interactions of which no sequences can be made, each in one line.

    Broken: ``SequentialDataset`` orders by a column of tokens, by missing stamps, which it fills with the mean, and
    ends in an IndexError or a KeyError where a column, every repeated user or all of a split is missing.
    """
    from recbole.utils import FeatureSource

    from recbole_mmm4rec.data import interactions as checks
    from recbole_mmm4rec.data.columns import load_feat
    from recbole_mmm4rec.data.ready_made import refuse_missing_ids

    sequential = module.SequentialDataset
    build, process = sequential.build, sequential._data_processing

    def _load_feat(self: Any, filepath: str, source: Any) -> pd.DataFrame | None:
        path = Path(filepath)
        if source != FeatureSource.INTERACTION:
            return load_feat(self, path, source)
        checks.require_interactions(self, path, time=self.config["eval_args"]["order"] == "TO")
        frame = load_feat(self, path, source)
        if frame is not None and self.time_field in frame:
            encoding = self.config["encoding"] or "utf-8"
            checks.check_times(frame, self.uid_field, self.time_field, path, encoding, gaps=False)
        return frame

    @wraps(process)
    def _data_processing(self: Any) -> None:
        refuse_missing_ids(self)
        super(sequential, self)._data_processing()
        checks.check_repeated_users(self)

    @wraps(build)
    def _build(self: Any) -> list[Any]:
        parts: list[Any] = build(self)
        checks.check_parts(self, parts)
        return parts

    sequential._load_feat, sequential._data_processing, sequential.build = _load_feat, _data_processing, _build


def use_ready_made_splits(module: ModuleType) -> None:
    """Let sequential models train on splits that come as files, with histories or without.

    Broken: ``_benchmark_presets`` (data/dataset/sequential_dataset.py:155) knows no name but ``item_id_list`` and no
    files without it ("no attribute 'item_id_list_field'": #1069, #1304, #1442, #1593, #1933); items of histories get
    numbers of their own (#1318); histories longer than MAX_ITEM_LIST_LENGTH, of which the latest items count, end in an
    IndexError, and shorter ones are padded to the longest of them, which some models cannot take.
    """
    from recbole_mmm4rec.data import ready_made

    sequential = module.SequentialDataset
    columns = sequential._get_load_and_unload_col

    @wraps(columns)
    def _get_load_and_unload_col(self: Any, source: Any) -> tuple[set[str] | None, set[str] | None]:
        load, unload = super(sequential, self)._get_load_and_unload_col(source)
        wanted = load and source == module.FeatureSource.INTERACTION
        return (ready_made.with_histories(self.config, load) if wanted else load), unload

    def _set_alias(self: Any, alias_name: str, default_value: list[str]) -> None:
        super(sequential, self)._set_alias(alias_name, ready_made.item_aliases(self, alias_name, default_value))

    def _change_feat_format(self: Any) -> None:
        convert = super(sequential, self)._change_feat_format
        if self.benchmark_filename_list is None:
            convert()
            self.data_augmentation()
        elif ready_made.has_histories(self):
            _convert_histories(self, convert)
        else:
            _make_histories(self, convert)

    sequential._get_load_and_unload_col, sequential._set_alias = _get_load_and_unload_col, _set_alias
    sequential._benchmark_presets = ready_made.note_histories
    sequential._change_feat_format = _change_feat_format


def _convert_histories(dataset: Any, convert: Callable[[], None]) -> None:
    """The latest L entries of each list, padded to L."""
    from recbole_mmm4rec.data.ready_made import history_fields

    frame, longest = dataset.inter_feat, dataset.max_item_list_len
    fields = [f for f in history_fields(dataset, frame) if f not in dataset.config["numerical_features"]]
    for field in fields:
        frame[field] = [values[-longest:] for values in frame[field]]
        dataset.field2seqlen[field] = longest
    length_field = dataset.item_list_length_field
    frame[length_field] = frame[length_field].clip(upper=longest)
    convert()
    for field in fields:
        values = dataset.inter_feat[field]
        padded = torch.zeros(len(values), longest, dtype=values.dtype)
        padded[:, : values.shape[1]] = values
        dataset.inter_feat.interaction[field] = padded


def _make_histories(dataset: Any, convert: Callable[[], None]) -> None:
    """Histories from the interactions of all files together, each sample in the part of its own interaction."""
    from recbole_mmm4rec.data.ready_made import files_of
    from recbole_mmm4rec.data.sorting import order_within_groups

    frame = dataset.inter_feat
    users = frame[dataset.uid_field].to_numpy()
    order = order_within_groups(users, frame[dataset.time_field].to_numpy())
    users, files = users[order], files_of(dataset)[order]
    dataset.inter_feat = frame.iloc[order].reset_index(drop=True)
    convert()
    dataset.data_augmentation()
    files = files[1:][users[1:] == users[:-1]]  # each user's first interaction is no sample
    dataset.inter_feat._reindex(torch.from_numpy(np.argsort(files, kind="stable")))
    dataset.file_size_list = np.bincount(files, minlength=len(dataset.file_size_list)).tolist()
