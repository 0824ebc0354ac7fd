"""Repairs of what RecBole does with values that are missing."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np


def leave_out_rows_without_ids(module: ModuleType) -> None:
    """Leave out the interactions that lack a user or an item, and no others.

    Broken: ``_filter_nan_user_or_item`` (data/dataset/dataset.py:833) takes the labels of rows for their places.
    Where rows without a user have gone, those without an item are others than it removes, or lie beyond the end: an
    IndexError.
    """
    original = module.Dataset._filter_nan_user_or_item

    @wraps(original)
    def _filter_nan_user_or_item(self: Any) -> None:
        rows = self.inter_feat
        for field in filter(None, (self.uid_field, self.iid_field)):
            lacking = rows.index[rows[field].isnull()]
            if len(lacking):
                lines = [int(row) + 2 for row in lacking]
                self.logger.warning(f"In inter_feat, line {lines}, {field} do not exist, so they will be removed.")
                rows.drop(lacking, inplace=True)
        original(self)

    module.Dataset._filter_nan_user_or_item = _filter_nan_user_or_item


def fill_missing_values(module: ModuleType) -> None:
    """Fill missing values in a way that pandas 3 does not ignore.

    Broken: ``df[field].fillna(..., inplace=True)`` (data/dataset/dataset.py:648, 650) fills a copy since pandas 3, and
    warns before it.
    """
    module.Dataset._fill_nan = _fill_nan


def _fill_nan(dataset: Any) -> None:
    """Missing tokens become 0, missing numbers the mean of their column, missing sequences empty ones."""
    from recbole.utils import FeatureType

    for name in dataset.feat_name_list:
        feat = getattr(dataset, name)
        for field in feat:
            kind = dataset.field2type[field]
            if kind == FeatureType.TOKEN:
                feat[field] = feat[field].fillna(0).astype(np.int64)
            elif kind == FeatureType.FLOAT:
                feat[field] = feat[field].fillna(feat[field].mean())
            else:
                empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                feat[field] = feat[field].apply(lambda value, empty=empty: empty if isinstance(value, float) else value)
