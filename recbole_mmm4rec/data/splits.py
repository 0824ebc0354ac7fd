"""RecBole's ways of splitting samples into training, validation and test, without a loop over samples.

Every function returns the positions of the parts in the order in which RecBole's own functions
(``recbole.data.dataset.Dataset``) would list them: user by user in the order of appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.coded_tokens import appearance
from recbole_mmm4rec.data.sorting import stable_order


@dataclass(frozen=True)
class Groups:
    """Samples grouped by a key.

    Attributes:
        order: int64 (N,), positions of the samples, group by group, groups in order of first appearance.
        rank: integers (N,), the place of ``order[n]`` in its group, from 0.
        size: integers (N,), the size of the group of ``order[n]``.
    """

    order: np.ndarray
    rank: np.ndarray
    size: np.ndarray

    @classmethod
    def by(cls, keys: np.ndarray) -> Groups:
        """Group the samples by ``keys``, integers (N,) not negative; the order inside a group stays."""
        if (keys[1:] >= keys[:-1]).all():  # as samples lie before anything is shuffled: groups are runs
            starts = np.flatnonzero(np.diff(keys, prepend=-1))
            sizes = np.diff(starts, append=len(keys))
            return cls._of(np.arange(len(keys)), starts, sizes)
        count = int(keys.max()) + 1
        appearing = appearance(keys, count)
        place = np.zeros(count, dtype=np.int64)
        place[appearing] = np.arange(len(appearing))
        order = stable_order(place[keys])
        sizes = np.bincount(keys, minlength=count)[appearing]
        return cls._of(order, np.cumsum(sizes) - sizes, sizes)

    @classmethod
    def _of(cls, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> Groups:
        kind = np.int32 if len(order) < 2**31 else np.int64
        sizes = sizes.astype(kind)
        rank = np.arange(len(order), dtype=kind) - np.repeat(starts.astype(kind), sizes)
        return cls(order, rank, np.repeat(sizes, sizes))


def leave_out(groups: Groups, count: int) -> list[np.ndarray]:
    """Leave the last ``count`` samples of every group out, one for each part; a group keeps at least its first.

    Returns:
        ``count`` + 1 arrays of positions: what stays, then the parts in the order of time.
    """
    from_end = groups.size - 1 - groups.rank
    stays = (from_end >= count) | (groups.rank == 0)
    left_out = np.flatnonzero(~stays)
    part, positions = count - from_end[left_out], groups.order[left_out]
    return [groups.order[stays], *(positions[part == number] for number in range(1, count + 1))]


def by_ratio(groups: Groups, parts: int, boundaries: Callable[[int], Sequence[int]]) -> list[np.ndarray]:
    """Split every group at the boundaries that belong to its size.

    Args:
        groups: the samples.
        parts: the number of parts.
        boundaries: from a group's size to the ``parts`` - 1 places at which it is cut.

    Returns:
        ``parts`` arrays of positions.
    """
    part = np.zeros(len(groups.order), dtype=np.int64)
    sizes, member = np.unique(groups.size, return_inverse=True)
    cuts = np.array([boundaries(int(size)) for size in sizes], dtype=np.int64).reshape(len(sizes), parts - 1)
    for cut in cuts.T:
        part += groups.rank >= cut[member]
    return [groups.order[part == number] for number in range(parts)]


def by_time(groups: Groups, times: np.ndarray, ratios: Sequence[float]) -> list[np.ndarray]:
    """Test on all that happened after one moment; of what came before, each group's latest samples validate.

    Args:
        groups: the samples, each group in order of time.
        times: int64 (N,), time of each sample, by position.
        ratios: three shares that add up to one.

    Returns:
        Positions for training, validation and test.
    """
    moment = np.percentile(times, 100 * (1 - ratios[-1]))
    before = times[groups.order] <= moment
    start = np.arange(len(groups.order)) - groups.rank
    counted = np.concatenate([[0], np.cumsum(before)])
    before_count = counted[start + groups.size] - counted[start]
    kept = (before_count * (ratios[0] / (1 - ratios[2]))).astype(np.int64)
    return [
        groups.order[before & (groups.rank < kept)],
        groups.order[before & (groups.rank >= kept)],
        groups.order[~before],
    ]


class SplitsWithoutLoops:
    """The splitting methods of RecBole's ``Dataset``, for a data set whose ``inter_feat`` can take a ``subset``."""

    inter_feat: Any
    dataset_name: str
    time_field: str
    copy: Callable[[Any], Any]
    _calcu_split_ids: Callable[[int, Sequence[float]], Sequence[int]]
    _drop_unused_col: Callable[[], None]

    def _parts(self, positions: Sequence[np.ndarray]) -> list[Any]:
        self._drop_unused_col()
        return [self.copy(self.inter_feat.subset(index)) for index in positions]

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Any]:
        """Leave each user's last samples out.

        Args:
            group_by: the field of users.
            leave_one_mode: "valid_and_test", "valid_only" or "test_only".

        Raises:
            UserError: another mode.
        """
        groups = Groups.by(self.inter_feat[group_by].numpy())
        none = np.array([], dtype=np.int64)
        if leave_one_mode == "valid_and_test":
            return self._parts(leave_out(groups, 2))
        if leave_one_mode == "valid_only":
            return self._parts([*leave_out(groups, 1), none])
        if leave_one_mode == "test_only":
            train, test = leave_out(groups, 1)
            return self._parts([train, none, test])
        raise UserError(f"eval_args: split LS: '{leave_one_mode}' is none of valid_and_test, valid_only, test_only")

    def split_by_ratio(self, ratios: Sequence[float], group_by: str | None = None) -> list[Any]:
        """Split by shares, of each user's samples or of all.

        Args:
            ratios: shares of the parts; they need not add up to one.
            group_by: the field of users, or None.
        """
        shares = [ratio / sum(ratios) for ratio in ratios]
        keys = np.zeros(len(self.inter_feat), dtype=np.int64) if group_by is None else self.inter_feat[group_by].numpy()
        groups = Groups.by(keys)
        return self._parts(by_ratio(groups, len(shares), lambda size: self._calcu_split_ids(size, shares)))

    def time_based_split(self, ratios: Sequence[float], group_by: str) -> list[Any]:
        """Test on what happened after one moment; validate on each user's latest samples before it.

        Args:
            ratios: shares of training, validation and test; they need not add up to one.
            group_by: the field of users.
        """
        shares = [ratio / sum(ratios) for ratio in ratios]
        groups = Groups.by(self.inter_feat[group_by].numpy())
        return self._parts(by_time(groups, self.inter_feat[self.time_field].numpy(), shares))
