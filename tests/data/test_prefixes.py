"""Samples as views: everything a copy of the histories would give, from one table."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import recbole.config  # noqa: F401
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

import recbole_mmm4rec  # noqa: F401 (RecBole works only when repaired)
from recbole_mmm4rec.data import splits
from recbole_mmm4rec.data.prefixes import PrefixColumns, PrefixInteraction, pad_latest, prefixes_of

HISTORIES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def table(lengths: list[int]) -> dict[str, torch.Tensor]:
    users = torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths))
    n = len(users)
    return {
        "user": users,
        "item": torch.arange(1, n + 1),
        "time": 2**40 + torch.arange(n),
        "rating": torch.linspace(0.5, 4.5, n),
        "tags": torch.arange(1, 3 * n + 1).reshape(n, 3),
    }


def views(lengths: list[int], max_length: int) -> PrefixInteraction:
    rows = table(lengths)
    target, length = prefixes_of(rows["user"].numpy(), max_length)
    columns = PrefixColumns(
        rows, "user", "length", "_list", max_length, torch.from_numpy(target), torch.from_numpy(length)
    )
    return PrefixInteraction(columns)


def copies(lengths: list[int], max_length: int) -> dict[str, torch.Tensor]:
    """The definition, read aloud: for each interaction but a user's first, what the user did just before."""
    rows = table(lengths)
    samples: dict[str, list[Any]] = {
        field: [] for field in (*rows, "length", *(f"{f}_list" for f in rows if f != "user"))
    }
    start = 0
    for count in lengths:
        for target in range(start + 1, start + count):
            before = list(range(start, target))[-max_length:]
            samples["length"].append(torch.tensor(len(before)))
            for field, values in rows.items():
                samples[field].append(values[target])
                if field != "user":
                    padded = torch.zeros((max_length, *values.shape[1:]), dtype=values.dtype)
                    for place, row in enumerate(before):
                        padded[place] = values[row]
                    samples[f"{field}_list"].append(padded)
        start += count
    return {field: torch.stack(values) for field, values in samples.items()}


def assert_same(found: Interaction, expected: dict[str, torch.Tensor]) -> None:
    assert found.columns == list(expected)
    for field, values in expected.items():
        assert found[field].dtype == values.dtype, field
        assert torch.equal(found[field], values), field


@given(HISTORIES.filter(lambda lengths: max(lengths) > 1), st.integers(1, 7), st.data())
def test_batches_equal_copied_histories(lengths: list[int], max_length: int, data: st.DataObject) -> None:
    inter, expected = views(lengths, max_length), copies(lengths, max_length)
    index = data.draw(st.lists(st.integers(-len(inter), len(inter) - 1), min_size=1, max_size=12))
    batch = inter[np.array(index)]
    assert type(batch) is Interaction
    assert_same(batch, {field: values[index] for field, values in expected.items()})
    for field, values in expected.items():
        assert torch.equal(inter[field], values)


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 7),
        [3, 1, 1],
        range(1, 4),
        np.array([5, 0]),
        torch.tensor([4, -1]),
        torch.tensor([False, True] * 5),
        [True, False] * 5,
        [],
        6,
        np.int64(2),
        -1,
    ],
    ids=str,
)
def test_every_kind_of_index_means_what_it_means_to_recbole(index: Any) -> None:
    inter = views([5, 1, 7], 3)
    stock = Interaction(copies([5, 1, 7], 3))
    assert len(inter) == len(stock) == 10
    assert_same(inter[index], stock[list(index) if isinstance(index, range) else index].interaction)
    assert len(inter[index]) == len(stock[list(index) if isinstance(index, range) else index])


@pytest.mark.parametrize("by", ["rating", "length", ["length", "user"], "tags"])
def test_sort_moves_samples_as_recbole_does(by: str | list[str]) -> None:
    inter, stock = views([4, 6, 2], 3), Interaction(copies([4, 6, 2], 3))
    for each in (inter, stock):
        each.sort("length")
        each.sort(by)
    assert_same(inter[:], stock.interaction)


def test_shuffle_keeps_each_history_with_its_target() -> None:
    inter, stock = views([4, 6, 2], 3), Interaction(copies([4, 6, 2], 3))
    for each in (inter, stock):
        torch.manual_seed(3)
        each.shuffle()
    assert_same(inter[:], stock.interaction)


def test_memory_grows_with_interactions_only() -> None:
    def stored(inter: PrefixInteraction) -> int:
        columns = inter.interaction
        tensors = [
            columns.target,
            columns.length,
            *(c.values for c in columns._fields.values() if c.values is not None),
        ]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())

    lengths = [60] * 20
    table_bytes = sum(values.untyped_storage().nbytes() for values in table(lengths).values())
    assert stored(views(lengths, 5)) == stored(views(lengths, 50)) == table_bytes + 2 * 4 * 20 * 59


def test_splits_share_the_table() -> None:
    inter = views([6, 6], 3)
    part = inter.subset([8, 2])
    assert_same(part[:], {field: values[[8, 2]] for field, values in copies([6, 6], 3).items()})
    shared = inter.interaction._fields["item_list"].values, part.interaction._fields["item_list"].values
    assert shared[0] is shared[1]


def test_own_columns_follow_the_samples() -> None:
    inter = views([4, 3], 2)
    inter["weight"] = torch.arange(5) * 10
    inter["place"] = 5 - torch.arange(5)
    inter.sort("place")
    assert inter["weight"].tolist() == [40, 30, 20, 10, 0]
    assert inter[[1, 2]]["weight"].tolist() == [30, 20]
    del inter["rating"]
    assert "rating" not in inter
    assert "rating" not in inter[:2]
    assert "rating_list" in inter
    with pytest.raises(KeyError):
        inter["rating"]


def test_rest_of_recboles_interface() -> None:
    inter, stock = views([4, 3], 2), Interaction(copies([4, 3], 2))
    assert list(inter) == list(stock)
    assert inter.item_list.tolist() == stock.item_list.tolist()
    assert str(inter) == str(stock)
    assert_same(inter.to("cpu"), stock.to("cpu").interaction)
    assert_same(inter.repeat(2), stock.repeat(2).interaction)
    assert inter.numpy().keys() == stock.numpy().keys()
    inter.add_prefix("neg_")
    stock.add_prefix("neg_")
    assert_same(inter[:], stock.interaction)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda inter: pickle.loads(pickle.dumps(inter))])
def test_copies_and_pickles_are_whole_and_apart(duplicate: Any) -> None:
    inter = views([4, 3], 2)
    other = duplicate(inter)
    other.sort("length")
    assert_same(inter[:], copies([4, 3], 2))
    assert other["length"].tolist() == [1, 1, 2, 2, 2]
    assert other["item"].tolist() == [2, 6, 3, 4, 7]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=6), st.integers(1, 8))
def test_padding_keeps_the_latest(lists: list[list[int]], length: int) -> None:
    expected = [values[-length:] + [0] * (length - len(values[-length:])) for values in lists]
    found = pad_latest([np.array(values, dtype=np.int64) for values in lists], length)
    assert found.tolist() == expected


KEYS = st.lists(st.integers(0, 5), min_size=1, max_size=40).map(np.array)


@given(KEYS, st.sampled_from([1, 2]))
def test_leave_out_equals_recbole(keys: np.ndarray, count: int) -> None:
    expected = Dataset._split_index_by_leave_one_out(None, Dataset._grouped_index(None, keys), count)
    assert [part.tolist() for part in splits.leave_out(splits.Groups.by(keys), count)] == expected


@given(KEYS, st.sampled_from([[0.8, 0.1, 0.1], [0.5, 0.5], [0.6, 0.2, 0.2], [0.98, 0.01, 0.01]]))
def test_ratio_equals_recbole(keys: np.ndarray, ratios: list[float]) -> None:
    expected: list[list[int]] = [[] for _ in ratios]
    for group in Dataset._grouped_index(None, keys):
        cuts = Dataset._calcu_split_ids(None, len(group), ratios)
        for part, start, end in zip(expected, [0, *cuts], [*cuts, len(group)], strict=True):
            part.extend(group[start:end])
    found = splits.by_ratio(
        splits.Groups.by(keys), len(ratios), lambda size: Dataset._calcu_split_ids(None, size, ratios)
    )
    assert [part.tolist() for part in found] == expected


@given(KEYS, st.randoms(use_true_random=False))
def test_time_split_reads_as_defined(keys: np.ndarray, random: Any) -> None:
    times = np.sort([random.randrange(30) for _ in keys])
    moment = np.percentile(times, 90)
    train, valid, test = [], [], []
    for group in Dataset._grouped_index(None, keys):
        before = [n for n in group if times[n] <= moment]
        kept = int(len(before) * (0.8 / (1 - 0.1)))
        train += before[:kept]
        valid += before[kept:]
        test += [n for n in group if times[n] > moment]
    found = splits.by_time(splits.Groups.by(keys), times, [0.8, 0.1, 0.1])
    assert [part.tolist() for part in found] == [train, valid, test]
