"""Splits that come as files: the same samples for every sequential model, with histories or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recbole.data.dataset import SequentialDataset
from tiny_data import ITEMS, make_config, make_dataset, write_inter, write_vectors

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.dataset import MMM4RecDataset

PARTS = ["train", "valid", "test"]
LISTS = "user_id:token item_id_list:token_seq item_id:token"
TIMES = f"{LISTS} timestamp:float timestamp_list:float_seq"
Samples = list[tuple[list[str], str]]


@pytest.fixture(params=[SequentialDataset, MMM4RecDataset])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def write_parts(root: Path, columns: str, rows: dict[str, list[tuple[Any, ...]]]) -> Path:
    for part, of_part in rows.items():
        write_inter(root, of_part, columns, suffix=f".{part}")
    write_vectors(root, ITEMS)
    return root


def three_users(root: Path, columns: str = LISTS) -> Path:
    """Users a, b, c with i0 … i4 in their own order: every prefix trains, the last two are left out."""
    rows: dict[str, list[tuple[Any, ...]]] = {part: [] for part in PARTS}
    for user, order in {"a": "01234", "b": "43210", "c": "20413"}.items():
        items = [f"i{number}" for number in order]
        for end in range(1, 5):
            part = "train" if end < 3 else PARTS[end - 2]
            rows[part].append((user, " ".join(items[:end]), items[end]))
    return write_parts(root, columns, rows)


def samples(dataset: Any, part: Any, item: str = "item_id") -> Samples:
    """(history, target) of each sample, as tokens."""
    feat = part.inter_feat[:]
    tokens = dataset.field2id_token[item]
    histories = [
        tokens[row[:length]].tolist()
        for row, length in zip(feat[f"{item}_list"].numpy(), feat["item_length"].tolist(), strict=True)
    ]
    return list(zip(histories, tokens[feat[item].numpy()].tolist(), strict=True))


def built(kind: Any, root: Path, **keys: Any) -> tuple[Any, list[Samples]]:
    item = keys.get("ITEM_ID_FIELD", "item_id")
    dataset = kind(make_config(root, benchmark_filename=PARTS, **keys))
    return dataset, [samples(dataset, part, item) for part in dataset.build()]


@pytest.mark.parametrize("keys", [{}, {"load_col": None}, {"alias_of_item_id": ["item_id_list"]}])
def test_histories_without_time_have_the_ids_of_their_items(tmp_path: Path, kind: Any, keys: dict[str, Any]) -> None:
    """RecBole #1318: two numberings of the same items unless alias_of_item_id is set."""
    dataset, (train, valid, test) = built(kind, three_users(tmp_path), **keys)
    assert dataset.item_num == 6
    assert train[:2] == [(["i0"], "i1"), (["i0", "i1"], "i2")]
    assert len(train) == 6
    assert valid[1] == (["i4", "i3", "i2"], "i1")
    assert test == [
        (["i0", "i1", "i2", "i3"], "i4"),
        (["i4", "i3", "i2", "i1"], "i0"),
        (["i2", "i0", "i4", "i1"], "i3"),
    ]


def test_the_latest_items_of_a_history_count(tmp_path: Path, kind: Any) -> None:
    dataset, (train, _, test) = built(kind, three_users(tmp_path), MAX_ITEM_LIST_LENGTH=3)
    assert test[0] == (["i1", "i2", "i3"], "i4")
    assert train[0] == (["i0"], "i1")
    for part in dataset.copy(dataset.inter_feat), dataset:
        assert part.inter_feat["item_id_list"].shape == (12, 3)


def test_another_name_of_the_item(tmp_path: Path, kind: Any) -> None:
    root = three_users(tmp_path, "user_id:token p_id_list:token_seq p_id:token")
    _, (train, _, _) = built(kind, root, ITEM_ID_FIELD="p_id", load_col={"inter": ["user_id", "p_id"]})
    assert train[1] == (["i0", "i1"], "i2")


def test_files_without_histories_give_them_together(tmp_path: Path, kind: Any) -> None:
    times = {"train": (3, 1, 2), "valid": (4,), "test": (5,)}
    rows = {part: [(user, f"i{t}", t) for t in of_part for user in "ba"] for part, of_part in times.items()}
    write_parts(tmp_path, "user_id:token item_id:token timestamp:float", rows)
    _, parts = built(kind, tmp_path)
    assert parts == [
        [(["i1"], "i2"), (["i1", "i2"], "i3")] * 2,
        [(["i1", "i2", "i3"], "i4")] * 2,
        [(["i1", "i2", "i3", "i4"], "i5")] * 2,
    ]


def test_places_in_the_history_stand_for_times(tmp_path: Path) -> None:
    parts = make_dataset(three_users(tmp_path), benchmark_filename=PARTS).build()
    assert parts[2].inter_feat["timestamp_list"].tolist() == [[0, 1, 2, 3, 0]] * 3
    shorter = make_dataset(tmp_path, benchmark_filename=PARTS, MAX_ITEM_LIST_LENGTH=2).build()
    assert shorter[2].inter_feat["timestamp_list"].tolist() == [[2, 3]] * 3
    without = make_dataset(tmp_path, benchmark_filename=PARTS, is_time=False).build()
    assert "timestamp_list" not in without[0].inter_feat


def test_places_also_where_only_the_targets_have_times(tmp_path: Path) -> None:
    rows = {part: [("a", "i1 i2", "i3", 7)] for part in PARTS}
    write_parts(tmp_path, f"{LISTS} timestamp:float", rows)
    train = make_dataset(tmp_path, benchmark_filename=PARTS).build()[0].inter_feat
    assert (train["timestamp"].tolist(), train["timestamp_list"].tolist()) == ([7], [[0, 1, 0, 0, 0]])


def test_times_of_histories_are_exact(tmp_path: Path) -> None:
    late = 1_700_000_001
    rows = {
        "train": [("a", "i1 i2", "i3", 3, "1 2")],
        "valid": [("a", "i1 i2 i3 i5", "i1", 9, f"1 2 3 {late}")],
        "test": [("b", "i4", "i2", late + 1, f"{late}")],
    }
    dataset = make_dataset(write_parts(tmp_path, TIMES, rows), benchmark_filename=PARTS, MAX_ITEM_LIST_LENGTH=3)
    train, valid, test = (part.inter_feat for part in dataset.build())
    assert valid["timestamp_list"].tolist() == [[2, 3, late]]
    assert (train["item_length"].tolist(), valid["item_length"].tolist()) == ([2], [3])
    assert (test["timestamp_list"].tolist(), test["timestamp"].tolist()) == ([[late, 0, 0]], [late + 1])
    assert dataset.features["text"].shape == (6, 6)


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        (LISTS, ("a", "", "i1"), r"tiny\.valid\.inter line 3: item_id_list is empty \(1 such rows\); leave them out"),
        (LISTS, ("a", "i1", ""), r"tiny\.valid\.inter line 3: item_id is missing"),
        (LISTS, ("NA", "i1", "i2"), r"tiny\.valid\.inter line 3: user_id is missing"),
        (TIMES, ("a", "i1 i2", "i3", 1, "1"), r"line 3: lists of different lengths \(1 in timestamp_list, 2 in item"),
        (LISTS.replace("token_seq", "token"), ("a", "i1", "i2"), "'item_id_list' must be 'item_id_list:token_seq'"),
        (LISTS.replace("item_id:", "item:"), ("a", "i1", "i2"), "no column 'item_id:token'"),
        ("user_id:token item_id:token", ("a", "i1"), "no column 'timestamp:float'"),
    ],
)
def test_unusable_rows_are_named(tmp_path: Path, kind: Any, columns: str, row: tuple[Any, ...], said: str) -> None:
    good = ("a", "i1", "i2", 1, "1")[: len(row)]
    write_parts(tmp_path, columns, {"train": [good], "valid": [good, row], "test": [good]})
    with pytest.raises(UserError, match=said) as caught:
        built(kind, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("times", ["1 -2", "1 inf"])
def test_times_of_histories_must_be_such(tmp_path: Path, times: str) -> None:
    write_parts(tmp_path, TIMES, {part: [("a", "i1 i2", "i3", 3, times)] for part in PARTS})
    with pytest.raises(UserError, match=r"tiny\.train\.inter line 2: timestamp_list holds a time that is negative"):
        make_dataset(tmp_path, benchmark_filename=PARTS)
    make_dataset(tmp_path, benchmark_filename=PARTS, is_time=False).build()


def test_a_training_file_with_first_interactions_alone(tmp_path: Path, kind: Any) -> None:
    rows = {"train": [("a", "i1", 1)], "valid": [("a", "i2", 2)], "test": [("a", "i3", 3)]}
    write_parts(tmp_path, "user_id:token item_id:token timestamp:float", rows)
    with pytest.raises(UserError, match=r"benchmark_filename=.* no sample is left to train on \(samples: 0, 1, 1\)"):
        built(kind, tmp_path)


def test_single_files_are_as_before(tmp_path: Path) -> None:
    """A column of histories in a single file is a column like others: the histories are made from the rows."""
    write_inter(tmp_path, [("a", "i9", f"i{t}", t) for t in range(3)], f"{LISTS} timestamp:float")
    dataset = SequentialDataset(make_config(tmp_path, load_col=None))
    dataset.build()
    assert dataset.item_num == 4
