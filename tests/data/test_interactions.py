"""Mistakes in files and keys: one line that names the place, the value and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recbole.data.dataset import SequentialDataset
from tiny_data import (
    NAME,
    make_config,
    make_dataset,
    rows_of,
    six_users,
    write_inter,
    write_vectors,
)

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.dataset import MMM4RecDataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_users(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "empty file"),
        (["user_id:token\titem_id:token\ttimestamp:float"], "no rows below the header"),
        (["user_id\titem_id:token\ttimestamp:float", "a\tb\t1"], "column 'user_id' has no known type"),
        (
            ["user:token\titem_id:token\ttimestamp:float", "a\tb\t1"],
            "no column 'user_id:token' among user:token, item_id",
        ),
        (["user_id:token\titem_ids:token\ttimestamp:float", "a\tb\t1"], "did you mean 'item_ids'"),
        (["user_id:token\titem_id:token", "a\tb"], "no column 'timestamp:float'"),
        (
            ["user_id:token\titem_id:token\ttimestamp:token", "a\tb\t1"],
            "must be 'timestamp:float', not 'timestamp:token'",
        ),
        (
            ["user_id:token\titem_id:token\ttimestamp:float", "a\tb\t1", "c\tc\t-2"],
            " line 3: timestamp of user 'c' is negative: -2",
        ),
        (
            ["user_id:token\titem_id:token\ttimestamp:float", "a\tb\t", "c\tc\t2"],
            " line 2: timestamp of user 'a' is not a finite",
        ),
        (["user_id:token\titem_id:token\ttimestamp:float", "a\tb\tinf", "c\tc\t2"], "not a finite number: inf"),
        (
            ["user_id:token\titem_id:token\ttimestamp:float", "a\tb\t3", "a\tc\t3"],
            "all 2 time stamps are 3.*is_time: False",
        ),
        (["user_id:token\titem_id:token\ttimestamp:float", "a\tb\t3", "c\tc\t4"], "no user has two interactions"),
    ],
)
def test_unusable_interactions(root: Path, lines: list[str], message: str) -> None:
    (root / NAME / f"{NAME}.inter").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(UserError, match=message) as error:
        make_dataset(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", ["valid_and_test", "valid_only", "test_only"])
def test_histories_too_short_to_leave_one_out(root: Path, mode: str) -> None:
    write_inter(root, rows_of([2, 2, 1]))
    eval_args = {"split": {"LS": mode}, "order": "TO", "mode": "full", "group_by": "user"}
    with pytest.raises(UserError, match="no user has three interactions"):
        make_dataset(root, eval_args=eval_args).build()


def test_split_without_training_samples(root: Path) -> None:
    eval_args = {"split": {"TS": [0.0, 0.5, 0.5]}, "order": "TO", "mode": "full", "group_by": "user"}
    with pytest.raises(UserError, match="leaves nothing to train on"):
        make_dataset(root, eval_args=eval_args).build()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH=0: it must be a whole number"),
        ({"MAX_ITEM_LIST_LENGTH": 2.5}, "MAX_ITEM_LIST_LENGTH=2.5: it must be a whole number"),
        ({"candidates": "interaction"}, "did you mean 'interactions'"),
        ({"modalities": ["txt"]}, "did you mean 'text'"),
        ({"modalities": []}, r"modalities: \[\] is neither"),
        ({"modalities": ["image"]}, r"no image store in .*features \(found: text\)"),
        (
            {"feature_path": "/nowhere"},
            "no feature store in /nowhere; make one with `mmm4rec prep embed tiny",
        ),
        ({"normalize_field": ["timestamp"]}, "normalize_field: 'timestamp' must stay"),
    ],
)
def test_unusable_keys(root: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_dataset(root, **keys)


def test_too_short_histories_for_a_pre_training(tmp_path: Path) -> None:
    """It splits by a key of its own, whatever eval_args say."""
    write_inter(tmp_path, [("a", "b", 1), ("a", "c", 2)])
    write_vectors(tmp_path, ["b", "c"])
    settings = {"model": "MMM4Rec", "stage": "pretrain"}
    with pytest.raises(UserError, match="nothing to validate on; use longer histories or pretrain_on: all") as error:
        MMM4RecDataset(make_config(tmp_path, **settings)).build()
    assert "eval_args" not in str(error.value)
    train, *others = MMM4RecDataset(make_config(tmp_path, **settings, pretrain_on="all")).build()
    assert [len(train), *map(len, others)] == [1, 0, 0]


def test_missing_files(root: Path) -> None:
    (root / NAME / f"{NAME}.inter").unlink()
    with pytest.raises(UserError, match=r"no file .*tiny\.inter; .*mmm4rec prep table"):
        make_dataset(root)
    (root / NAME).rename(root / "other")
    with pytest.raises(UserError, match=r"no folder .*tiny; .*mmm4rec prep table"):
        make_dataset(root)


@pytest.mark.parametrize(
    ("columns", "rows", "keys", "message"),
    [
        ("user_id:token item_id:token timestamp:token", [("a", "b", 1)], {}, "must be 'timestamp:float'"),
        ("user_id:float item_id:token timestamp:float", [(1, "b", 1)], {}, "must be 'user_id:token'"),
        ("user_id:token item_id:token", [("a", "b")], {}, "no column 'timestamp:float'"),
        (None, [("a", "b", ""), ("a", "c", 2)], {}, "line 2: timestamp of user 'a' is not a finite number: missing"),
        (None, [("a", "b", 1), ("c", "b", 2)], {}, "no user has two interactions"),
        (None, [("a", "b", 1), ("a", "c", 2)], {}, "no user has three interactions"),
        (None, [("a", "b", 1), ("a", "c", 2)], {"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH=0: it must be"),
        (None, [("a", "b", 1), ("a", "c", 2)], {"split": {"TS": [0.0, 0.5, 0.5]}}, "leaves nothing to train on"),
    ],
)
def test_what_holds_for_every_sequential_model(
    tmp_path: Path, columns: str | None, rows: list[tuple[Any, ...]], keys: dict[str, Any], message: str
) -> None:
    """Our data set refuses the same."""
    write_inter(tmp_path, rows, columns or "user_id:token item_id:token timestamp:float")
    write_vectors(tmp_path, ["b", "c"])
    split = keys.pop("split", {"LS": "valid_and_test"})
    keys["eval_args"] = {"split": split, "order": "TO", "mode": "full", "group_by": "user"}
    for kind in (SequentialDataset, MMM4RecDataset):
        with pytest.raises(UserError, match=message) as error:
            kind(make_config(tmp_path, **keys)).build()
        assert "\n" not in str(error.value)
