"""Repairs of how RecBole reads, fills and orders interactions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compat.tools import ModuleView

_NAMING_COLUMNS = (
    "alias_of_user_id",
    "alias_of_item_id",
    "val_interval",
    "threshold",
    "normalize_field",
    "numerical_features",
    "discretization",
    "preload_weight",
)


_OF_NUMBERS = ("threshold", "normalize_field", "numerical_features", "discretization")
_FILTERS = ("val_interval", "user_inter_num_interval", "item_inter_num_interval", "rm_dup_inter")


def read_atomic_files(module: ModuleType) -> None:
    """Read atomic files as RecBole's format has them.

    Broken: ``_load_feat`` (data/dataset/dataset.py:424) reads them as CSV. A field that begins with a quotation mark
    swallows what follows, line ends among it, up to the next mark: rows are lost without a word. A byte order mark
    becomes part of a name, a line with too few fields is filled up, and a header with a name too few moves all columns.
    """
    from recbole_mmm4rec.data.columns import load_feat

    def _load_feat(self: Any, filepath: str, source: Any) -> pd.DataFrame | None:
        return load_feat(self, Path(filepath), source)

    module.Dataset._load_feat = _load_feat


def name_unloaded_columns(module: ModuleType) -> None:
    """Name the setting that means a column which is not there, and what to do.

    Broken: a name in ``alias_of_item_id`` ends in a KeyError (the check in data/dataset/dataset.py:555 compares NumPy's
    False with ``is``), others in "Field [x] not defined in dataset". Vectors of an additional file whose ids have no
    alias get numbers of their own, and ``preload_weight`` hands the rows to other items. A column of another kind than
    the setting needs ends in an error of pandas or NumPy, and filters of ready-made splits are not applied, silently.
    """
    original = module.Dataset._init_alias

    @wraps(original)
    def _init_alias(self: Any) -> None:
        for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
            if self.config[key] is not None and self.config[key] not in self.inter_feat:
                raise UserError(
                    f"{key}: column '{self.config[key]}' of {self.dataset_name}'s interactions is not there or not "
                    f"loaded (loaded are {', '.join(self.inter_feat)})"
                )
        for key in _NAMING_COLUMNS:
            named = self.config[key] or ()
            for field in [*named, *(named.values() if key == "preload_weight" and named else ())]:
                if field not in self.field2type:
                    raise UserError(
                        f"{key}: column '{field}' is not loaded (loaded are {', '.join(self.field2type)}); add it to "
                        f"load_col, or take it out of {key}"
                    )
                _check_kind(self, key, field)
        _check_vectors(self)
        wanted = self.config["load_col"] if isinstance(self.config["load_col"], dict) else {}
        absent = [
            name
            for names in wanted.values()
            if isinstance(names, list)
            for name in names
            if name not in self.field2type
        ]
        if absent and self.config["benchmark_filename"] is None:
            self.logger.warning(f"load_col: no file of {self.dataset_name} has the columns {', '.join(absent)}")
        if self.config["benchmark_filename"] is not None:
            idle = [key for key in _FILTERS if self.config[key] not in (None, "[0,inf)")]
            if idle:
                self.logger.warning(f"{', '.join(idle)}: ready-made splits (benchmark_filename) are not filtered")
        original(self)
        suffixes = self.config["additional_feat_suffix"] or ()
        for id_field in self.config["preload_weight"] or ():
            known = id_field in np.concatenate(list(self.alias.values()))
            if self.field2source.get(id_field) in suffixes and not known:
                raise UserError(
                    f"preload_weight: '{id_field}' of {self.dataset_name}.{self.field2source[id_field]} has ids of its "
                    f"own, which are not those of the items; set alias_of_item_id: [{id_field}]"
                )

    module.Dataset._init_alias = _init_alias


def _check_kind(dataset: Any, key: str, field: str) -> None:
    """Refuse a column of another kind than a setting needs, by a UserError."""
    from recbole.utils import FeatureType

    kind = dataset.field2type[field]
    if key == "threshold" and field == dataset.time_field:
        raise UserError(f"threshold: column '{field}' would become the label, and is TIME_FIELD; name another column")
    if key in _OF_NUMBERS and kind not in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
        raise UserError(
            f"{key}: column '{field}' is of type {kind.value}, not of numbers (float); take it out of {key}"
        )
    if key == "val_interval":
        value = dataset.config[key][field]
        wanted: dict[Any, tuple[type, str]] = {
            FeatureType.FLOAT: (str, "an interval such as '[3,inf)'"),
            FeatureType.TOKEN: (list, "a list of names"),
        }
        if kind not in wanted:
            raise UserError(
                f"{key}: column '{field}' is a sequence ({kind.value}), which cannot be filtered; leave it out"
            )
        if not isinstance(value, wanted[kind][0]):
            raise UserError(
                f"{key}: {field}={value!r}: column '{field}' is of type {kind.value} and needs {wanted[kind][1]}"
            )


def _check_vectors(dataset: Any) -> None:
    """Refuse a ``preload_weight`` that names vectors where ids belong or ids where vectors do, by a UserError."""
    from recbole.utils import FeatureType

    numbers = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
    for ids, vectors in (dataset.config["preload_weight"] or {}).items():
        if dataset.field2type[ids] is not FeatureType.TOKEN or dataset.field2type[vectors] not in numbers:
            kinds = ", ".join(f"'{field}' is of type {dataset.field2type[field].value}" for field in (ids, vectors))
            raise UserError(
                f"preload_weight: {ids}: {vectors}: {kinds}; it maps a column of ids (token) to one of vectors "
                "(float_seq), as in {item_id: vector}"
            )


def sort_times_in_64_bits(module: ModuleType) -> None:
    """Order interactions by their time stamps before those lose their last digits.

    Broken: ``_change_feat_format`` turns time stamps into float32 (data/dataset/dataset.py:2207), whose step is 128 s
    at 1.5e9 s, and sorts afterwards (dataset.py:1829, sequential_dataset.py:100; #2204, #1653): sequences come out of
    order and users are tested on items that are not their last. Here the table is sorted first, in 64 bits, equal
    stamps in the order of the file. RecBole's later sorts are stable and rounding keeps the order, so they undo
    nothing. Random order and ready-made splits (``benchmark_filename``) keep the order of their files.
    """
    change_feat_format = module.Dataset._change_feat_format
    remove_duplication = module.Dataset._remove_duplication

    @wraps(change_feat_format)
    def _change_feat_format(self: Any) -> None:
        if _ordered_by_time(self):
            order = np.argsort(_first_values(self.inter_feat[self.time_field]), kind="stable")
            self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        change_feat_format(self)

    @wraps(remove_duplication)
    def _remove_duplication(self: Any) -> None:
        remove_duplication(self)  # sorts by time, but not stably
        if _ordered_by_time(self):
            self.inter_feat = self.inter_feat.sort_index()

    module.Dataset._change_feat_format = _change_feat_format
    module.Dataset._remove_duplication = _remove_duplication


def _ordered_by_time(dataset: Any) -> bool:
    return (
        dataset.config["eval_args"]["order"] == "TO"
        and dataset.benchmark_filename_list is None
        and dataset.time_field in dataset.inter_feat
    )


def _first_values(column: pd.Series) -> np.ndarray:
    """The numbers of a column; of a column of pairs, as ``numerical_features`` makes them, the first ones."""
    if column.dtype == object:
        return np.array([value[0] for value in column], dtype=np.float64)
    return column.to_numpy()


def keep_times_between_users(module: ModuleType) -> None:
    """Keep the order in 64 bits between users where a split depends on it.

    Broken: as in :func:`sort_times_in_64_bits`. ``data_augmentation`` (data/dataset/sequential_dataset.py:77) regroups
    the table by user; a split by ratio over all users together then orders users within 128 s by number. The other
    splits look at one user at a time, or at one boundary.
    """
    data_augmentation = module.SequentialDataset.data_augmentation

    @wraps(data_augmentation)
    def _data_augmentation(self: Any) -> None:
        users = self.inter_feat[self.uid_field].numpy()  # in the order of time
        data_augmentation(self)
        by_ratio = self.benchmark_filename_list is None and "RS" in self.config["eval_args"]["split"]
        if self.config["eval_args"]["group_by"] == "user" or not by_ratio:
            return
        by_user = np.argsort(users, kind="stable")
        grouped = users[by_user]
        targets = by_user[1:][grouped[1:] == grouped[:-1]]  # everything but each user's first
        self.inter_feat._reindex(torch.from_numpy(np.argsort(targets)))

    module.SequentialDataset.data_augmentation = _data_augmentation


def measure_sequences(module: ModuleType) -> None:
    """Take the lengths of the sequences in a column, not the length of the column.

    Broken: ``feat[field].agg(len)`` (data/dataset/dataset.py:712, 792, 809, 1217, kg_dataset.py:316,
    sequential_dataset.py:165) applies ``len`` to the column as a whole since pandas 3, and warns before it. The
    module's own name ``len`` hides the built-in one; it differs for columns of sequences only.
    """
    vars(module)["len"] = _lengths
    dataset_class = vars(module).get("Dataset")
    for name in ("_remap", "_normalize", "_discretization"):
        if dataset_class is not None and dataset_class.__module__ == module.__name__:
            setattr(dataset_class, name, _without_aggregation_warning(getattr(dataset_class, name)))


def _lengths(value: Any) -> Any:
    return value.map(len) if isinstance(value, pd.Series) and value.dtype == object else len(value)


def _without_aggregation_warning(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* in Series.agg cannot aggregate")
            return method(*args, **kwargs)

    return quiet


def sort_tensors(module: ModuleType) -> None:
    """Sort interactions without NumPy's conversion of foreign arrays.

    Broken: ``np.argsort`` of a tensor (data/interaction.py:341) relies on a conversion that NumPy 2 has deprecated.
    """

    def argsort(key: torch.Tensor, kind: Any = None) -> torch.Tensor:
        return torch.from_numpy(np.argsort(key.numpy(), kind=kind))

    vars(module)["np"] = ModuleView(np, argsort=argsort)


def copy_read_only_columns(module: ModuleType) -> None:
    """Give tensors memory of their own where that of the column must not be written to.

    Broken: since pandas 3 a column's values are read-only; ``torch.LongTensor(value)`` (data/dataset/dataset.py:2202)
    shares and could change them; PyTorch warns.
    """
    constructors = {name: _owning(getattr(module.torch, name)) for name in ("LongTensor", "FloatTensor")}
    vars(module)["torch"] = ModuleView(module.torch, **constructors)


def _owning(constructor: Callable[[Any], torch.Tensor]) -> Callable[[Any], torch.Tensor]:
    def construct(values: Any) -> torch.Tensor:
        read_only = isinstance(values, np.ndarray) and not values.flags.writeable
        return constructor(values.copy() if read_only else values)

    return construct


def finish_downloads(module: ModuleType) -> None:
    """Let a download end well in a single process.

    Broken: ``_download`` (data/dataset/dataset.py:255) waits for other processes even when there are none, and fails
    with "Default process group has not been initialized" (#1989).
    """
    distributed = module.torch.distributed

    def barrier(*args: Any, **kwargs: Any) -> None:
        if distributed.is_initialized():
            distributed.barrier(*args, **kwargs)

    vars(module)["torch"] = ModuleView(module.torch, distributed=ModuleView(distributed, barrier=barrier))
