"""Splits that RecBole does not have: points in time that are the same for all, items or users held out of training.

``eval_args: {split: {global_time: [8, 1, 1]}}``, ``cold_items``, ``cold_users``. RecBole's own ``TS`` has one moment,
where the test begins; its validation takes the latest of each user's before it, so that models are chosen by what
happened before much of what they were trained on. Held-out users are those of Liang, Krishnan, Hoffman and Jebara,
Variational Autoencoders for Collaborative Filtering (WWW 2018, "strong generalization"), each asked for one item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.sorting import order_within_groups, stable_order

TRAIN, VALID, TEST = range(3)
NOWHERE = -1
"""The part of an interaction that no model is trained on or asked for: it may stand in a history."""
SEED = 2020
"""Of the draw of items and users, the same for every model and every seed of a comparison."""


@dataclass(frozen=True)
class Assignment:
    """Which part each interaction is the target of.

    Attributes:
        rows: int64 (K,), the interactions that are there at all, by (user, time), equal times as in the file.
        part: int8 (K,), :data:`TRAIN`, :data:`VALID`, :data:`TEST` or :data:`NOWHERE`.
        first: bool (K,), each user's first of them, which has no history and is no target of a sequential model.
        users: int64 (K,).
    """

    rows: np.ndarray
    part: np.ndarray
    first: np.ndarray
    users: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """int8 (K,): the part, :data:`NOWHERE` for first interactions that are not trained on."""
        return np.where(self.first & (self.part != TRAIN), NOWHERE, self.part)

    def counts(self) -> dict[str, int]:
        """``valid_users``, ``valid_targets``, ``test_users``, ``test_targets``; ``unknown_targets`` are those of the
        test whose user has no interaction in training."""
        found: dict[str, int] = {}
        for name, part in (("valid", VALID), ("test", TEST)):
            asked = self.users[self.targets == part]
            found |= {f"{name}_users": len(np.unique(asked)), f"{name}_targets": len(asked)}
        known = np.unique(self.users[self.part == TRAIN])
        return {**found, "unknown_targets": int((~np.isin(asked, known)).sum())}


Split = Callable[["_Table", Sequence[float]], tuple[np.ndarray, np.ndarray]]
"""A table and three shares → which rows stay, bool (R,), and their part, int8 (R,)."""


@dataclass(frozen=True)
class _Table:
    """Interactions by (user, time): users, items int64 (R,), times (R,), ``last`` bool (R,) each user's last one."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    last: np.ndarray
    user_tokens: np.ndarray
    item_tokens: np.ndarray


def _global_time(table: _Table, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Everything after one moment validates, everything after another tests; equal times stay together."""
    ordered = np.sort(table.times)
    count, total = len(ordered), sum(shares)
    ends = [round(count * sum(shares[: at + 1]) / total) for at in (TRAIN, VALID)]
    moments = [ordered[end - 1] if end else -np.inf for end in ends]
    part = sum((table.times > moment).astype(np.int8) for moment in moments)
    return np.ones(count, dtype=bool), np.asarray(part, dtype=np.int8)


def _cold_items(table: _Table, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A held-out item is there only where it is a user's last one: no history has it, as before it was sold."""
    group = _groups(table.items, table.item_tokens, shares)[table.items]
    return (group == TRAIN) | table.last, group


def _cold_users(table: _Table, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """All interactions of training users train; the last one of a held-out user is asked for."""
    group = _groups(table.users, table.user_tokens, shares)[table.users]
    return np.ones(len(group), dtype=bool), np.where((group == TRAIN) | table.last, group, NOWHERE).astype(np.int8)


def _leave_one_out(table: _Table, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """RecBole's ``{LS: valid_and_test}`` as sequential models have it: of three interactions the second is trained on,
    users of fewer are trained on alone."""
    from_end, many = _places_from_end(table.last), np.bincount(table.users)[table.users]
    part = np.where(many >= 3, np.maximum(TEST - from_end, TRAIN), TRAIN)
    part[(many == 3) & (part == VALID)] = TRAIN
    return np.ones(len(part), dtype=bool), part.astype(np.int8)


def _leave_one_out_of_two(table: _Table, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The same as RecBole's other models have it: users of two interactions are tested, those of three validated."""
    from_end, many = _places_from_end(table.last), np.bincount(table.users)[table.users]
    part = np.where(many >= 2, np.maximum(TEST - from_end, TRAIN), TRAIN)
    part[(many == 2) & (part == VALID)] = TRAIN
    return np.ones(len(part), dtype=bool), part.astype(np.int8)


def _places_from_end(last: np.ndarray) -> np.ndarray:
    """int64 (R,): how many interactions of the same user come after each."""
    ends = np.flatnonzero(last)
    places: np.ndarray = ends[np.cumsum(np.append(0, last[:-1]))] - np.arange(len(last))
    return places


SPLITS: dict[str, Split] = {"global_time": _global_time, "cold_items": _cold_items, "cold_users": _cold_users}
"""Name in ``eval_args`` to what it does."""
LEAVE_ONE_OUT, LEAVE_ONE_OUT_OF_TWO = "leave_one_out", "leave_one_out_of_two"
"""RecBole's split as its sequential models have it, and as its others do."""


def split_of(config: Any) -> tuple[str, Sequence[float]] | None:
    """Name and shares of a configuration's split where it is one of these, else None."""
    split = (config["eval_args"] or {}).get("split")
    if config["benchmark_filename"] or not isinstance(split, dict) or len(split) != 1:
        return None
    ((name, shares),) = split.items()
    return (name, shares) if name in SPLITS else None


def assign(dataset: Any, name: str, shares: Sequence[float]) -> Assignment:
    """Assign the interactions of a data set whose ids are numbers and whose interactions are still a data frame.

    Args:
        dataset: RecBole's data set.
        name, shares: what :func:`split_of` gives; or :data:`LEAVE_ONE_OUT` or :data:`LEAVE_ONE_OUT_OF_TWO`, whose
            shares count for nothing.

    Raises:
        UserError: a part is left empty.
    """
    frame = dataset.inter_feat
    users, times = frame[dataset.uid_field].to_numpy(), time_numbers(frame[dataset.time_field].to_numpy())
    order = order_within_groups(users, times)
    users, items, times = users[order], frame[dataset.iid_field].to_numpy()[order], times[order]
    last = np.append(users[1:] != users[:-1], True)
    tokens = (dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field))
    divide = {**SPLITS, LEAVE_ONE_OUT: _leave_one_out, LEAVE_ONE_OUT_OF_TWO: _leave_one_out_of_two}[name]
    kept, part = divide(_Table(users, items, times, last, *tokens), shares)
    users = users[kept]
    first = np.concatenate([[True], users[1:] != users[:-1]])
    found = Assignment(order[kept], part[kept], first, users)
    sizes = [int((found.targets == number).sum()) for number in (TRAIN, VALID, TEST)]
    if min(sizes) == 0 and name in SPLITS:  # RecBole itself tells of the other
        raise UserError(
            f"eval_args on {dataset.dataset_name!r}: split {name}: {list(shares)} leaves {sizes[0]:,} interactions to "
            f"train on, {sizes[1]:,} to validate on and {sizes[2]:,} to test on; none may be 0: give other shares"
        )
    return found


def parts_of(dataset: Any, found: Assignment) -> list[Any]:
    """Training, validation and test data sets.

    Args:
        dataset: RecBole's data set, of any kind; its interactions are replaced.
        found: what :func:`assign` gave for it.

    Returns:
        the three; the first one's ``popularity``, int64 (I+1,), counts the interactions of each item in training,
        alike for every kind of model, and its ``part_of_rows`` is ``found.part``.
    """
    sequential = hasattr(dataset, "item_list_length_field")
    rows, part = found.rows, found.targets
    trained = dataset.inter_feat[dataset.iid_field].to_numpy()[rows[found.part == TRAIN]]
    if not sequential:  # RecBole orders these by time alone
        by_time = stable_order(time_numbers(dataset.inter_feat[dataset.time_field].to_numpy()[rows]))
        rows, part = rows[by_time], part[by_time]
    dataset.inter_feat = dataset.inter_feat.iloc[rows].reset_index(drop=True)
    dataset._change_feat_format()
    if sequential:
        part = part[~found.first]  # a sample is an interaction with those before it
    dataset._drop_unused_col()
    chosen = getattr(dataset.inter_feat, "subset", dataset.inter_feat.__getitem__)
    made = [dataset.copy(chosen(np.flatnonzero(part == number))) for number in (TRAIN, VALID, TEST)]
    made[TRAIN].part_of_rows = found.part
    made[TRAIN].popularity = np.bincount(trained, minlength=dataset.item_num)
    return made


def drawn(ids: Iterable[str], shares: Sequence[float], seed: int = SEED) -> list[list[str]]:
    """Ids at random, those of training, validation and test.

    Args:
        ids: in any order; the draw depends on their sorted order alone.
        shares: of training, validation and test; they need not add up to one.
        seed: of the draw.
    """
    names = np.random.default_rng(seed).permutation(sorted(set(ids))).tolist()
    test, valid = (round(len(names) * shares[part] / sum(shares)) for part in (TEST, VALID))
    return [names[test + valid :], names[test : test + valid], names[:test]]


def number_held_out_last(dataset: Any) -> None:
    """Under ``cold_items`` number the items that are trained on first, so that a training can leave the rest out.

    ``dataset.trained_rows`` is then K + 1: rows 1 … K of an item table are those items. Without that split it is not
    there, and all items are trained on.

    Args:
        dataset: a RecBole data set whose tokens have just got their ids.
    """
    name, shares = split_of(dataset.config) or ("", ())
    if name != "cold_items":
        return
    tokens = dataset.field2id_token[dataset.iid_field]
    trained = _groups(dataset.inter_feat[dataset.iid_field].to_numpy(), tokens, shares) == TRAIN
    order = np.argsort(~trained, kind="stable")
    order = np.append(0, order[order != 0])  # of the new numbers the old ones; padding is no item and stays the first
    number = np.argsort(order)
    names = tokens[order]
    numbers = dict(zip(names, range(len(names)), strict=True))
    for field in dataset.alias["item_id"]:
        dataset.field2id_token[field], dataset.field2token_id[field] = names, numbers
        for feat in (getattr(dataset, feat) for feat in dataset.feat_name_list):
            if field in feat:
                listed = dataset.field2type[field].value == "token_seq"
                feat[field] = [number[ids] for ids in feat[field]] if listed else number[feat[field].to_numpy()]
    dataset.trained_rows = int(trained.sum()) + 1


def short_histories(dataset: Any) -> int:
    """How many users leave-one-out divides otherwise for sequential models than for others.

    Those with two interactions, whom sequential models do not test, and with three, of whom sequential ones train on
    the second interaction and others validate on it.

    Args:
        dataset: RecBole's data set, after its filters.
    """
    per_user = np.bincount(np.asarray(dataset.inter_feat[dataset.uid_field]))
    return int(((per_user == 2) | (per_user == 3)).sum())


def _groups(numbers: np.ndarray, tokens: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """int8, one a token: the group that it is drawn into; :data:`NOWHERE` for those that are not in ``numbers``."""
    number_of = {str(tokens[number]): number for number in np.unique(numbers)}
    group = np.full(len(tokens), NOWHERE, dtype=np.int8)
    for part, names in enumerate(drawn(number_of, shares)):
        group[[number_of[name] for name in names]] = part
    return group


def time_numbers(times: np.ndarray) -> np.ndarray:
    """Times as numbers; of pairs, as ``numerical_features`` makes them, the first ones."""
    return np.array([value[0] for value in times], dtype=np.float64) if times.dtype == object else times
