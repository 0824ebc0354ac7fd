"""MMM4Rec's data set: RecBole's ``SequentialDataset`` with exact time, views instead of copies, and feature tables."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource as Source
from recbole.utils import FeatureType
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.candidates import candidate_choice, remap_items
from recbole_mmm4rec.data.coded_tokens import CodedTokens
from recbole_mmm4rec.data.columns import load_feat
from recbole_mmm4rec.data.interactions import (
    check_parts,
    check_repeated_users,
    check_time_passes,
    check_times,
    require_files,
    require_interactions,
    whole_seconds,
)
from recbole_mmm4rec.data.prefixes import PrefixColumns, PrefixInteraction, pad_latest, prefixes_of
from recbole_mmm4rec.data.ready_made import (
    check_listed_times,
    files_of,
    has_histories,
    history_field,
    history_fields,
    item_aliases,
    note_histories,
    refuse_missing_ids,
    with_histories,
)
from recbole_mmm4rec.data.sorting import order_within_groups
from recbole_mmm4rec.data.splits import SplitsWithoutLoops
from recbole_mmm4rec.features.tables import FeatureSource, FeatureTables, choose_modalities
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

logger = logging.getLogger(__name__)


class MMM4RecDataset(CodedTokens, SplitsWithoutLoops, SequentialDataset):
    """Interactions of users in order of time, and frozen feature tables of the items.

    Time stamps stay int64 from the file to the batch, and interactions are ordered by (user, time) in 64 bits, equal
    times in the order of the file. RecBole rounds them to float32 first, steps of 128 s for today's dates
    (RUCAIBox/RecBole issues 1653 and 2204). Samples are views into one table (``prefixes.py``); batches hold the
    fields, shapes and dtypes of RecBole's own augmentation. Feature tables are attributes of the data set and never
    part of a batch.

    Keys beside RecBole's: ``modalities`` (``auto`` or a list such as ``[text]``), ``feature_path`` (by default
    ``DATASET_DIR/features``), ``features_in``, ``candidates`` (``interactions`` or ``all``) and ``is_time``.

    Args:
        config: RecBole's configuration.

    Raises:
        UserError: a key, the interactions or a feature store are unusable.
    """

    uses_features = True
    """Whether there must be a feature store; without, there are no tables."""
    inter_feat: Any  # a data frame until the samples are made, an Interaction from then on

    def __init__(self, config: Any) -> None:
        candidate_choice(config)
        time_field = config["TIME_FIELD"]
        for key in ("normalize_field", "numerical_features", "discretization"):
            if time_field in (config[key] or []):
                raise UserError(f"{key}: '{time_field}' must stay a number of seconds; take it out of {key}")
        self._file_of_row: np.ndarray | None = None
        super().__init__(config)

    @property
    def features(self) -> dict[str, Tensor | FrozenTable]:
        """Modality to its table, (I + 1, F) as stored; row 0 and the rows of absent items are zeros."""
        return self._tables.features

    @property
    def present(self) -> dict[str, Tensor]:
        """Modality to (I + 1,) bool: which items have a text or an image; row 0, the padding, is False."""
        return self._tables.present

    @property
    def feature_tables(self) -> FeatureTables:
        """The tables with what their stores say about themselves."""
        return self._tables

    def get_preload_weight(self, field: str) -> np.ndarray:
        """A modality's table, (I + 1, F) float32, or RecBole's preloaded weight of that name.

        Args:
            field: "text", "image", or a field of the key ``preload_weight``.

        Raises:
            ValueError: there is neither.
        """
        if field in self.features and field not in self._preloaded_weight:
            return self._tables.array(field)
        weight: np.ndarray = super(SequentialDataset, self).get_preload_weight(field)
        return weight

    # Loading: RecBole's steps, each with its checks.

    def _load_data(self, token: str, dataset_path: str) -> None:
        parts = self.benchmark_filename_list
        names = [f"{token}.inter"] if parts is None else [f"{token}.{part}.inter" for part in parts]
        require_files(Path(dataset_path), names, token)
        source = FeatureSource.of(self.config)
        self._modalities = choose_modalities(self.config["modalities"], source) if self.uses_features else []
        super()._load_data(token, dataset_path)
        refuse_missing_ids(self)
        if self._needs_time() and not has_histories(self):
            check_time_passes(self.inter_feat[self.time_field].to_numpy(), Path(dataset_path) / names[0])

    def _needs_time(self) -> bool:
        return bool(self.config["is_time"])  # models that look at no gaps have no such setting

    def _get_load_and_unload_col(self, source: Source | str) -> tuple[set[str] | None, set[str] | None]:
        load, unload = super()._get_load_and_unload_col(source)
        if source == Source.INTERACTION:
            needed = {self.uid_field, self.iid_field, self.time_field}
            load = with_histories(self.config, None if load is None else load | needed)
            unload = None if unload is None else unload - needed
        return load, unload

    def _load_feat(self, filepath: str, source: Source | str) -> pd.DataFrame | None:
        path = Path(filepath)
        if source != Source.INTERACTION:
            return load_feat(self, path, source)
        require_interactions(self, path, time=True)
        frame = load_feat(self, path, source, coded=True)
        if self.config["is_time"] is not False and frame is not None and self.time_field in frame:
            encoding = self.config["encoding"] or "utf-8"
            check_times(frame, self.uid_field, self.time_field, path, encoding, gaps=self._needs_time())
        return frame

    def _data_processing(self) -> None:
        super()._data_processing()
        check_repeated_users(self)
        tokens = self.field2id_token[self.iid_field]
        self._tables = FeatureTables(FeatureSource.of(self.config), self._modalities, tokens)

    def _remove_duplication(self) -> None:
        """RecBole's, with a stable order of time: of equal times the file's first counts as the earlier."""
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            ordered = self.inter_feat.sort_values(self.time_field, kind="stable")
            self.inter_feat = ordered.drop_duplicates([self.uid_field, self.iid_field], keep=keep)

    def _remap_ID_all(self) -> None:
        # Past SequentialDataset, whose method `install_stock_item_features` may have replaced.
        remap_items(self, super(SequentialDataset, self)._remap_ID_all)

    def _normalize(self) -> None:
        """RecBole's, which would squeeze the time stamps into [0, 1] under ``normalize_all``."""
        times = {f: self.inter_feat[f].copy() for f in (self.time_field, self._time_list) if f in self.inter_feat}
        super()._normalize()
        for field, values in times.items():
            self.inter_feat[field] = values

    # From data frames to samples.

    def _change_feat_format(self) -> None:
        """Order the interactions by user and time and make the samples; RecBole's ``data_augmentation`` is not used."""
        for name in self.feat_name_list:
            if name != "inter_feat":
                setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))
        if has_histories(self):
            self.inter_feat = self._listed_samples(self.inter_feat)
            return
        frame = self.inter_feat
        users = frame[self.uid_field].to_numpy()
        order = order_within_groups(users, frame[self.time_field].to_numpy())
        if self.benchmark_filename_list is not None:
            self._file_of_row = files_of(self)[order]
        self._aug_presets()
        del users
        rows = {field: self._column(frame, field, order) for field in map(str, list(frame))}
        target, length = prefixes_of(rows[self.uid_field].numpy(), self.max_item_list_len)
        columns = PrefixColumns(
            rows,
            self.uid_field,
            self.item_list_length_field,
            self.config["LIST_SUFFIX"],
            self.max_item_list_len,
            torch.from_numpy(target),
            torch.from_numpy(length),
        )
        self.inter_feat = PrefixInteraction(columns)

    def _column(self, frame: pd.DataFrame, field: str, order: np.ndarray | slice) -> Tensor:
        """Take a field out of a frame of interactions: a tensor of RecBole's dtype, int64 for the time, reordered."""
        values, kind = frame.pop(field), self.field2type[field]
        if field == self.time_field:
            return torch.from_numpy(whole_seconds(values.to_numpy(dtype=np.float64)[order]))
        if kind == FeatureType.TOKEN:
            return torch.from_numpy(np.array(values.to_numpy(dtype=np.int64)[order]))
        if kind == FeatureType.FLOAT and field not in self.config["numerical_features"]:
            return torch.from_numpy(np.array(values.to_numpy(dtype=np.float32)[order]))
        column: Tensor = self._dataframe_to_interaction(values.to_frame())[field]
        return column[order]

    # Splits that come as files (key benchmark_filename).

    def _set_alias(self, alias_name: str, default_value: list[str]) -> None:
        super()._set_alias(alias_name, item_aliases(self, alias_name, default_value))

    def _benchmark_presets(self) -> None:
        note_histories(self)
        if has_histories(self) and self._needs_time():
            check_listed_times(self, self._time_list)

    @property
    def _time_list(self) -> str:
        return f"{self.time_field}{self.config['LIST_SUFFIX']}"

    def _listed_samples(self, frame: pd.DataFrame) -> Interaction:
        """Samples of files that hold histories: the latest L entries of each list, padded to L.

        Where the files hold no times of the histories, the place in the history is the time, as it is in the data sets
        of ``dataset_prep sequences``.
        """
        histories = history_fields(self, frame)
        own = frame.drop(columns=histories)
        samples = {field: self._column(own, field, slice(None)) for field in map(str, list(own))}
        samples[self.item_list_length_field].clamp_(max=self.max_item_list_len)
        for field in histories:
            values = pad_latest(frame[field].to_list(), self.max_item_list_len)
            if field == self._time_list:
                samples[field] = torch.from_numpy(whole_seconds(values.astype(np.float64)))
            elif self.field2type[field] == FeatureType.TOKEN_SEQ:
                samples[field] = torch.from_numpy(values.astype(np.int64))
            else:
                samples[field] = torch.from_numpy(values.astype(np.float32))
        if self._needs_time() and self._time_list not in samples:
            logger.info("no column %s in the files: the place in a history stands for its time", self._time_list)
            places = [np.arange(len(items)) for items in frame[history_field(self.config)]]
            samples[self._time_list] = torch.from_numpy(pad_latest(places, self.max_item_list_len))
        return Interaction(samples)

    def build(self) -> list[MMM4RecDataset]:
        """Make the samples and split them as ``eval_args`` says.

        Returns:
            Training, validation and test data sets, which share one table of interactions.

        Raises:
            UserError: nothing is left to train on.
        """
        parts: list[MMM4RecDataset]
        if self.benchmark_filename_list is not None and not has_histories(self):
            self._change_feat_format()
            assert self._file_of_row is not None
            file = self._file_of_row[self.inter_feat.interaction.target.numpy()]
            parts = self._parts([np.flatnonzero(file == number) for number in range(len(self.file_size_list))])
        else:
            parts = super().build()
        check_parts(self, parts)
        return parts
