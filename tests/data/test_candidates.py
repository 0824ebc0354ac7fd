"""Which items get an internal id."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_data import (
    ITEMS,
    make_dataset,
    rows_of,
    six_users,
    write_items,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_users(tmp_path)


@pytest.mark.parametrize("load_items", [False, True])
@pytest.mark.parametrize(("choice", "count"), [(None, 7), ("interactions", 7), ("all", 9)])
def test_candidates(root: Path, choice: str | None, count: int, load_items: bool) -> None:
    write_items(root, dict.fromkeys(ITEMS[::-1], "some words"))
    load_col = {"inter": ["user_id", "item_id", "timestamp"], **({"item": ["item_id", "text"]} if load_items else {})}
    dataset = make_dataset(root, candidates=choice, load_col=load_col)
    assert dataset.item_num == count + 1
    assert dataset.features["text"].shape[0] == count + 1
    tokens = dataset.field2id_token["item_id"]
    assert set(tokens[1:8]) == {row[1] for row in rows_of([9, 1, 5, 2, 7, 4])}
    assert tokens[8:].tolist() == (["i8", "i7"] if choice == "all" else [])
    assert [dataset.token2id("item_id", token) for token in tokens] == list(range(count + 1))
    if load_items:
        assert len(dataset.item_feat) == count + 1


def test_all_candidates_come_from_the_stores_without_an_item_file(root: Path) -> None:
    dataset = make_dataset(root, candidates="all")
    assert dataset.field2id_token["item_id"][8:].tolist() == ["i7", "i8"]
    assert bool(dataset.present["text"][1:].all())
