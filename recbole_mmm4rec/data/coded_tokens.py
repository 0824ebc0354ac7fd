"""Columns of tokens as codes into a list of distinct tokens: a hundred bytes less a row than one string each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureType


def first_seen(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """What ``pandas.factorize`` gives, from 1 on, without a look at the strings of a column of categories.

    Args:
        values: (R,), tokens or categories of tokens.

    Returns:
        int64 (R,), the number of each token in the order of first appearance, from 1, 0 for a missing one; and the
        tokens in that order.
    """
    codes, names = coded(values)
    order = appearance(codes, len(names))
    number = np.zeros(len(names) + 1, dtype=np.int64)  # the last one is for the code -1, a missing token
    number[order] = np.arange(1, len(order) + 1)
    return number[codes], names[order]


def coded(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column of tokens as integers (R,), -1 where one is missing, and the tokens they stand for, in any order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(), values.cat.categories.to_numpy(dtype=object)
    return pd.factorize(values.to_numpy(dtype=object))


def appearance(codes: np.ndarray, count: int) -> np.ndarray:
    """Codes in the order of their first appearance.

    Args:
        codes: integers (R,) below ``count``; negative ones are left out.
        count: how many codes there may be.

    Returns:
        int64 (C,), the codes that occur.
    """
    first = np.full(count + 1, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    first = first[:count]
    occurring = np.flatnonzero(first < len(codes))
    ordered: np.ndarray = occurring[np.argsort(first[occurring])]
    return ordered


class CodedTokens:
    """RecBole's steps from tokens to ids, for a data set whose tokens may be categories; the same ids and filters."""

    inter_feat: Any
    user_feat: Any
    item_feat: Any
    uid_field: str
    iid_field: str
    config: Any
    field2id_token: dict[str, np.ndarray]
    field2token_id: dict[str, dict[str, int]]
    _parse_intervals_str: Callable[[str | None], list[tuple[str, float, float, str]] | None]
    _within_intervals: Callable[[np.ndarray, Any], np.ndarray]

    def _remap(self, remap_list: list[tuple[Any, str, FeatureType]]) -> None:
        """RecBole's, which makes strings of categories and compares each with all before it."""
        if not remap_list or any(kind != FeatureType.TOKEN for _, _, kind in remap_list):
            super()._remap(remap_list)  # type: ignore[misc]
            return
        columns = [first_seen(feat[field]) for feat, field, _ in remap_list]
        if len(columns) == 1:
            tokens, new_ids = columns[0][1], [columns[0][0]]
        else:
            places, tokens = pd.factorize(np.concatenate([distinct for _, distinct in columns]))
            ends = np.cumsum([len(distinct) for _, distinct in columns])[:-1]
            new_ids = [
                np.concatenate([place + 1, [0]])[numbers - 1]  # the last place is for 0, a missing token
                for (numbers, _), place in zip(columns, np.split(places, ends), strict=True)
            ]
        names = ["[PAD]", *tokens]
        id_token, token_id = np.array(names), dict(zip(names, range(len(names)), strict=True))
        for (feat, field, _), ids in zip(remap_list, new_ids, strict=True):
            self.field2id_token.setdefault(field, id_token)
            self.field2token_id.setdefault(field, token_id)
            feat[field] = ids

    def _filter_inter_by_user_or_item(self) -> None:
        """RecBole's, which copies all interactions also where there is nothing to compare them with."""
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_inter_by_user_or_item()  # type: ignore[misc]

    def _filter_by_inter_num(self) -> None:
        """RecBole's, which counts tokens in Python: leave out users and items with too few or too many interactions."""
        sides = [
            _Side(self, self.uid_field, "user_feat", self.config["user_inter_num_interval"]),
            _Side(self, self.iid_field, "item_feat", self.config["item_inter_num_interval"]),
        ]
        if all(side.intervals is None for side in sides):
            return
        rows = np.ones(len(self.inter_feat), dtype=bool)
        while True:
            banned = [side.banned(rows) for side in sides]
            if not any(each.any() for each in banned):
                break
            for side, each in zip(sides, banned, strict=True):
                side.alive &= ~each
                rows &= side.alive[side.codes]
        for side in sides:
            side.drop_features()
        if not rows.all():
            self.inter_feat = self.inter_feat[rows]

    @property
    def avg_actions_of_users(self) -> float:
        """The mean number of interactions of those users that have any."""
        return _mean_count(self.inter_feat[self.uid_field])

    @property
    def avg_actions_of_items(self) -> float:
        """The mean number of interactions of those items that have any."""
        return _mean_count(self.inter_feat[self.iid_field])


def _mean_count(ids: Any) -> float:
    """RecBole's mean of all counts, by which it counts in Python: rows by distinct ids."""
    return float(len(ids) / max(np.count_nonzero(np.bincount(np.asarray(ids))), 1))


class _Side:
    """Users or items in the filter by number of interactions.

    Args:
        dataset: the data set.
        field: the field of users or items.
        feat_name: the attribute that holds their features, or None.
        interval: the key's value.
    """

    def __init__(self, dataset: CodedTokens, field: str, feat_name: str, interval: str | None) -> None:
        self._dataset, self._field, self._feat_name = dataset, field, feat_name
        self.intervals = dataset._parse_intervals_str(interval) or None
        self.codes, tokens = coded(dataset.inter_feat[field])
        feat = getattr(dataset, feat_name)
        self._listed, self.names = np.zeros(len(tokens), dtype=bool), tokens
        if feat is not None:
            listed = feat[field].dropna().unique()
            self.names = np.concatenate([tokens, pd.Index(listed, dtype=object).difference(pd.Index(tokens))])
            self._listed = pd.Index(self.names).isin(listed)
        self.alive = np.ones(len(self.names), dtype=bool)

    def banned(self, rows: np.ndarray) -> np.ndarray:
        """Which of the names that are left have too few or too many of the interactions ``rows``, bool (R,)."""
        if self.intervals is None:
            return np.zeros(len(self.names), dtype=bool)
        counts = np.bincount(self.codes if rows.all() else self.codes[rows], minlength=len(self.names))
        wrong = (counts > 0) & ~self._dataset._within_intervals(counts, self.intervals)
        lowest = self.intervals[0][1]  # RecBole compares those with features with the first interval's start alone
        banned: np.ndarray = self.alive & (wrong | (self._listed & (counts < lowest)))
        return banned

    def drop_features(self) -> None:
        """Take the rows of banned names out of their features."""
        feat = getattr(self._dataset, self._feat_name)
        if feat is not None and not self.alive.all():
            setattr(self._dataset, self._feat_name, feat[~feat[self._field].isin(self.names[~self.alive])])
