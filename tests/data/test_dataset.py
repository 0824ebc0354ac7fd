"""MMM4RecDataset: RecBole's samples, exact time, splits, loaders, and splits that come as files."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import SequentialDataset
from recbole.data.utils import data_preparation
from recbole.sampler import Sampler
from recbole.utils import init_seed
from tiny_data import (
    ITEMS,
    make_config,
    make_dataset,
    rows_of,
    six_users,
    write_inter,
    write_vectors,
)

from recbole_mmm4rec.data.dataset import MMM4RecDataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_users(tmp_path)


def assert_same_samples(ours: Any, stock: Any) -> None:
    """Every field of every sample, in the same order; time stamps apart from RecBole's float32."""
    found, expected = ours.inter_feat[:], stock.inter_feat
    assert len(found) == len(expected)
    if len(found) == 0:
        return
    assert found.columns == expected.columns
    for field in expected.columns:
        if field.startswith("timestamp"):
            assert found[field].dtype == torch.int64
            assert torch.equal(found[field].float(), expected[field]), field
        else:
            assert found[field].dtype == expected[field].dtype
            assert torch.equal(found[field], expected[field]), field


# The same samples as RecBole's own augmentation.


@pytest.mark.parametrize("max_length", [3, 50])
@pytest.mark.parametrize(
    ("split", "group_by"),
    [
        ({"LS": "valid_and_test"}, "user"),
        ({"LS": "valid_only"}, "user"),
        ({"LS": "test_only"}, "user"),
        ({"RS": [0.6, 0.2, 0.2]}, "user"),
        ({"RS": [0.8, 0.1, 0.1]}, "none"),
        ({"TS": [0.6, 0.2, 0.2]}, "user"),
    ],
    ids=str,
)
def test_splits_equal_recboles(root: Path, split: dict[str, Any], group_by: str, max_length: int) -> None:
    eval_args = {"split": split, "group_by": group_by, "order": "TO", "mode": "full"}
    keys: dict[str, Any] = {"eval_args": eval_args, "MAX_ITEM_LIST_LENGTH": max_length}
    parts = zip(make_dataset(root, **keys).build(), SequentialDataset(make_config(root, **keys)).build(), strict=True)
    for ours, stock in parts:
        assert_same_samples(ours, stock)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=5).filter(lambda lengths: max(lengths) > 3),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_samples_read_as_defined(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], max_length: int, random: Any
) -> None:
    """Any order of lines, equal times among them: histories follow time, then the file."""
    root = tmp_path_factory.mktemp("data")
    rows = [(f"u{u}", f"i{random.randrange(5)}", random.randrange(4)) for u, n in enumerate(lengths) for _ in range(n)]
    rows = [*random.sample(rows, len(rows)), (rows[0][0], "i0", 9)]
    write_inter(root, rows)
    write_vectors(root, ITEMS)
    dataset = make_dataset(root, MAX_ITEM_LIST_LENGTH=max_length)
    parts = dataset.build()
    expected: list[list[tuple[Any, ...]]] = [[], [], []]
    for user in {row[0] for row in rows}:
        taken = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        samples = [(taken[n], taken[max(0, n - max_length) : n]) for n in range(1, len(taken))]
        for place, sample in enumerate(samples):
            from_end = len(samples) - 1 - place
            part = 2 - from_end if from_end < min(2, len(samples) - 1) else 0
            expected[part].append((*sample[0], *((row[1], row[2]) for row in sample[1])))
    for part, wanted in zip(parts, expected, strict=True):
        batch = part.inter_feat[:]
        found = []
        for n in range(len(part)):
            length = int(batch["item_length"][n])
            assert not batch["item_id_list"][n, length:].any()
            assert not batch["timestamp_list"][n, length:].any()
            items = dataset.id2token("item_id", batch["item_id_list"][n, :length].numpy())
            times = batch["timestamp_list"][n, :length].tolist()
            user, item = (
                dataset.id2token("user_id", batch["user_id"][n]),
                dataset.id2token("item_id", batch["item_id"][n]),
            )
            found.append((user, item, int(batch["timestamp"][n]), *zip(items, times, strict=True)))
        assert sorted(found) == sorted(wanted)


def ml_100k() -> Path:
    spec = importlib.util.find_spec("recbole")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "dataset_example" / "ml-100k"


def test_ml_100k_equals_recbole_sample_by_sample(tmp_path: Path) -> None:
    """Real data: ratings beside the items, histories longer than L, and every field of all three parts."""
    frame = pd.read_csv(ml_100k() / "ml-100k.inter", sep="\t", dtype=str)
    write_inter(tmp_path, frame.itertuples(index=False), " ".join(frame.columns))
    write_vectors(tmp_path, sorted(frame["item_id:token"].unique()))
    keys: dict[str, Any] = {
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 20,
    }
    stock_parts = SequentialDataset(make_config(tmp_path, **keys)).build()
    for ours, stock in zip(make_dataset(tmp_path, **keys).build(), stock_parts, strict=True):
        for part in (ours, stock):  # every user takes a film once: a key, whatever the order of the samples
            key = part.inter_feat["user_id"] * 10_000 + part.inter_feat["item_id"]
            part.inter_feat._reindex(torch.argsort(key))
        assert_same_samples(ours, stock)


def test_other_fields_keep_their_types_and_shapes(tmp_path: Path) -> None:
    rows = [(*row, n / 8, f"t{n % 3} t{n % 2}", f"{n} {n}.5") for n, row in enumerate(rows_of([6, 3, 4]))]
    write_inter(
        tmp_path,
        rows,
        "user_id:token item_id:token timestamp:float rating:float tags:token_seq sizes:float_seq",
    )
    write_vectors(tmp_path, ITEMS)
    keys: dict[str, Any] = {"load_col": None, "numerical_features": ["rating"]}
    stock_parts = SequentialDataset(make_config(tmp_path, **keys)).build()
    for ours, stock in zip(make_dataset(tmp_path, **keys).build(), stock_parts, strict=True):
        assert_same_samples(ours, stock)
    assert ours.inter_feat["rating_list"].shape[1:] == (5, 2)
    assert ours.inter_feat["tags_list"].shape[1:] == (5, 2)


# Time.


def test_time_is_exact(tmp_path: Path) -> None:
    base = 1_700_000_000_123  # milliseconds: float32 has steps of 131,072 here
    write_inter(tmp_path, [("u", f"i{n}", base + n) for n in (3, 0, 2, 1, 4)])
    write_vectors(tmp_path, ITEMS)
    dataset = make_dataset(tmp_path)
    parts = dataset.build()
    test = parts[2].inter_feat[:]
    assert test["timestamp"].dtype == test["timestamp_list"].dtype == torch.int64
    assert test["timestamp"].tolist() == [base + 4]
    assert test["timestamp_list"].tolist() == [[base, base + 1, base + 2, base + 3, 0]]
    assert dataset.id2token("item_id", test["item_id_list"][0, :4]).tolist() == ["i0", "i1", "i2", "i3"]


def test_removing_duplicates_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [("u", f"i{n}", 5) for n in random.permutation(40)] + [("u", "i7", 9), ("v", "i1", 1), ("v", "i2", 1)]
    write_inter(tmp_path, rows)
    write_vectors(tmp_path, [f"i{n}" for n in range(40)])
    dataset = make_dataset(tmp_path, rm_dup_inter="first", MAX_ITEM_LIST_LENGTH=50)
    test = dataset.build()[2].inter_feat
    last = test[int(torch.argmax(test["item_length"]))]
    items = [*last["item_id_list"][: int(last["item_length"])].tolist(), int(last["item_id"])]
    assert dataset.id2token("item_id", items).tolist() == [row[1] for row in rows[:40]]


def test_normalising_all_fields_leaves_time_alone(root: Path) -> None:
    plain, normalised = make_dataset(root), make_dataset(root, normalize_all=True)
    plain_times = plain.build()[0].inter_feat["timestamp_list"]
    assert torch.equal(normalised.build()[0].inter_feat["timestamp_list"], plain_times)


def test_time_may_be_missing_where_it_is_not_used(tmp_path: Path) -> None:
    write_inter(tmp_path, [("u", f"i{n}", value) for n, value in enumerate(["", "-3", "inf", "2"])])
    write_vectors(tmp_path, ITEMS)
    train, _, test = make_dataset(tmp_path, is_time=False).build()
    assert len(train) + len(test) + 1 == 3
    assert test.inter_feat["item_length"].tolist() == [3]


# RecBole's loaders, samplers and statistics.


def test_loaders_give_recboles_batches(root: Path) -> None:
    config = make_config(root, train_batch_size=4)
    loaders = data_preparation(config, MMM4RecDataset(config)), data_preparation(config, SequentialDataset(config))
    for ours, stock in zip(*loaders, strict=True):
        for found, expected in zip(ours, stock, strict=True):
            found, expected = (each[0] if isinstance(each, tuple) else each for each in (found, expected))
            assert found.columns == expected.columns
            for field in expected.columns:
                assert torch.equal(found[field].float(), expected[field].float()), field


def test_sampled_negatives_equal_recboles(root: Path) -> None:
    keys: dict[str, Any] = {
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2, "alpha": 1.0, "dynamic": False},
        "loss_type": "BPR",
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "uni3"},
    }
    batches = []
    for kind in (MMM4RecDataset, SequentialDataset):
        config = make_config(root, **keys)
        init_seed(7, True)
        train, _, test = data_preparation(config, kind(config))
        batches.append((next(iter(train)), *next(iter(test))))
    (train, test, rows, users, items), (stock_train, stock_test, *stock_rest) = batches
    for found, expected in ((train, stock_train), (test, stock_test)):
        assert set(found.columns) == set(expected.columns)
        for field in expected.columns:
            assert torch.equal(found[field].float(), expected[field].float()), field
    for found, expected in zip((rows, users, items), stock_rest, strict=True):
        assert torch.equal(found, expected)


def test_statistics_equal_recboles(root: Path) -> None:
    parts, stock_parts = make_dataset(root).build(), SequentialDataset(make_config(root)).build()
    for ours, stock in zip(parts, stock_parts, strict=True):
        assert ours.item_counter == stock.item_counter
        assert ours.user_counter == stock.user_counter
        assert (ours.inter_matrix("csr") != stock.inter_matrix("csr")).nnz == 0
        assert str(ours) == str(stock)
        histories = []
        for each in (ours, stock):
            torch.manual_seed(0)
            histories.append(each.history_item_matrix())
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(*histories, strict=True))
    phases = ["train", "valid", "test"]
    used, stock_used = Sampler(phases, parts).used_ids, Sampler(phases, stock_parts).used_ids
    assert all((used[phase] == stock_used[phase]).all() for phase in phases)


@pytest.mark.parametrize("built", [False, True])
def test_pickled_data_sets_give_the_same_samples(root: Path, built: bool) -> None:
    dataset = make_dataset(root)
    saved = pickle.dumps(dataset.build() if built else dataset)
    expected = make_dataset(root).build()
    found = pickle.loads(saved) if built else pickle.loads(saved).build()
    for part, same in zip(found, expected, strict=True):
        for field in same.inter_feat:
            assert torch.equal(part.inter_feat[field], same.inter_feat[field])
    if built:
        assert found[0].features["text"] is found[2].features["text"]
