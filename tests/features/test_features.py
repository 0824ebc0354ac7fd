"""The feature store: what was written comes back, and every kind of damage is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import (
    FeatureStore,
    Manifest,
    hash_inputs,
    settle,
    store_path,
    write_store,
)

ITEMS = ["a", "b", "c", "d"]
TEXTS = ["one", "", "three", "four"]
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
PRESENT = np.array([True, False, True, True])


def make(path: Path, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "modality": "text",
        "encoder": "hand",
        "encoder_hash": None,
        "encoder_version": None,
        "settings": {"pooling": "mean"},
        "dim": 3,
        "dtype": "float32",
        "normalized": False,
        "input_hash": hash_inputs(zip(ITEMS, TEXTS, strict=True)),
        "dataset": "shop",
        "items": ITEMS,
        "present": PRESENT,
        "chunks": [TABLE[:1], TABLE[1:]],
    }
    return write_store(path, **{**fields, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = store_path(tmp_path / "shop", "text")
    make(path)
    return path


def test_what_was_written_comes_back_in_the_order_asked_for(store: Path) -> None:
    opened = FeatureStore.open(store)
    assert opened.items == ITEMS
    assert opened.manifest.rows == 4
    vectors, present = opened.align(["d", "b", "a", "d"])
    np.testing.assert_array_equal(vectors, [[10, 11, 12], [0, 0, 0], [1, 2, 3], [10, 11, 12]])
    assert vectors.dtype == np.float32
    assert present.tolist() == [True, False, True, True]


def test_the_table_is_mapped_read_only(store: Path) -> None:
    table = FeatureStore.open(store).table
    assert isinstance(table, np.memmap)
    assert not table.flags.writeable


@settings(max_examples=30)
@given(data=st.data(), dtype=st.sampled_from(["float16", "float32"]))
def test_any_table_survives_any_chunking(
    data: st.DataObject, dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows, dim = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    numbers = st.floats(-100, 100, width=16)
    table = data.draw(hnp.arrays(np.float32, (rows, dim), elements=numbers))
    present = data.draw(hnp.arrays(bool, rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    # Line separators of Unicode are no line breaks of items.txt.
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")
    items = data.draw(st.lists(st.text(letters, min_size=1, max_size=4), min_size=rows, max_size=rows, unique=True))
    path = tmp_path_factory.mktemp("any") / "text"
    make(path, items=items, present=present, dtype=dtype, dim=dim, chunks=np.split(table, cuts))
    opened = FeatureStore.open(path)
    wanted = data.draw(st.lists(st.sampled_from(range(rows)), max_size=8))
    vectors, mask = opened.align([items[row] for row in wanted])
    np.testing.assert_array_equal(vectors, np.where(present[:, None], table, 0)[wanted])
    np.testing.assert_array_equal(mask, present[wanted])


def test_aligning_gathers_in_blocks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.features.store.GATHER_ROWS", 2)
    vectors, _ = FeatureStore.open(store).align(["d", "c", "b", "a", "c"])
    assert vectors[:, 0].tolist() == [10, 7, 0, 1, 7]


def test_unknown_items_are_named_with_both_sides(store: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 items are not in it, first 'x', 'y'.*data set shop has 4 items"):
        FeatureStore.open(store).align(["x", "a", "y"])


def test_nan_in_a_needed_row_is_named_and_elsewhere_does_no_harm(store: Path) -> None:
    table = TABLE.copy()
    table[2, 1] = np.nan
    np.save(store / "table.npy", table)
    opened = FeatureStore.open(store)
    opened.align(["a", "d"])
    with pytest.raises(UserError, match=r"NaN or infinite values for 1 items, first 'c'"):
        opened.align(["a", "c"])


def test_changed_texts_are_noticed(store: Path) -> None:
    opened = FeatureStore.open(store)
    opened.check_inputs(ITEMS, TEXTS)
    for tokens, texts in ((ITEMS, ["one", "", "three", "five"]), (["a", "b", "c", "e"], TEXTS)):
        with pytest.raises(UserError, match=r"texts of shop\.item changed.*mmm4rec prep embed shop"):
            opened.check_inputs(tokens, texts)


def test_vectors_brought_by_the_user_have_no_inputs_to_compare(tmp_path: Path) -> None:
    make(tmp_path / "text", input_hash=None)
    FeatureStore.open(tmp_path / "text").check_inputs(ITEMS, ["whatever"] * 4)


def test_the_input_hash_tells_where_strings_end() -> None:
    assert hash_inputs([("ab", "c")]) != hash_inputs([("a", "bc")])
    assert hash_inputs([("a", "b"), ("c", "d")]) != hash_inputs([("c", "d"), ("a", "b")])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        manifest = json.loads(file.read_text())
        manifest[key] = value
        file.write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("table.npy", Path.unlink, "missing"),
        ("items.txt", Path.unlink, "missing"),
        ("present.npy", Path.unlink, "missing"),
        ("manifest.json", Path.unlink, "missing"),
        ("table.npy", cut, "cannot be read"),
        ("table.npy", lambda file: file.write_bytes(file.read_bytes()[:20]), "cannot be read"),
        ("table.npy", lambda file: file.write_bytes(b""), "cannot be read"),
        ("table.npy", lambda file: file.write_bytes(file.read_bytes() + b"x"), "bytes where"),
        ("table.npy", lambda file: np.save(file, TABLE[:3]), r"holds \(3, 3\) float32, the manifest says \(4, 3\)"),
        ("table.npy", lambda file: np.save(file, TABLE.astype(np.float64)), "holds .* float64"),
        ("table.npy", lambda file: np.save(file, np.array([{}]), allow_pickle=True), "cannot be read"),
        ("present.npy", cut, "cannot be read"),
        ("present.npy", lambda file: np.save(file, np.ones(4)), "holds .* float64"),
        ("items.txt", cut, "the manifest says 4"),
        ("items.txt", lambda file: file.write_text("a\nb\nc\nx\n"), "items_hash"),
        ("items.txt", lambda file: file.write_text("a\nb\nc\nc\n"), "names an item twice"),
        ("items.txt", lambda file: file.write_bytes(b"a\nb\n\xff\nd\n"), "cannot be read"),
        ("manifest.json", cut, "cut off or no JSON"),
        ("manifest.json", lambda file: file.write_text("[]"), "no JSON object"),
        ("manifest.json", edit("format", 2), "format 2; this version reads format 1"),
        ("manifest.json", edit("rows", True), "wrong kind of value for 'rows'"),
        ("manifest.json", edit("rows", -1), "rows -1"),
        ("manifest.json", edit("dim", "3"), "wrong kind of value for 'dim'"),
        ("manifest.json", edit("modality", "sound"), "'sound'"),
        ("manifest.json", edit("encoderr", "x"), "unknown key 'encoderr'; did you mean 'encoder'"),
    ],
)
def test_damage_is_named_with_the_way_out(store: Path, name: str, damage: Callable[[Path], Any], said: str) -> None:
    damage(store / name)
    with pytest.raises(UserError, match=said) as caught:
        FeatureStore.open(store)
    message = str(caught.value)
    assert str(store / name) in message
    assert f"mmm4rec prep embed shop --out {store.parents[2]}" in message
    assert "\n" not in message


def test_a_manifest_survives_json() -> None:
    manifest = Manifest("image", "é", None, "1", {"a": 1}, 0, 2, "float16", True, None, "h", "set")
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert list(json.loads(manifest.to_json())) == sorted(json.loads(manifest.to_json()))


def test_a_store_of_no_items_opens(tmp_path: Path) -> None:
    make(tmp_path / "text", items=[], present=np.zeros(0, dtype=bool), chunks=[])
    vectors, present = FeatureStore.open(tmp_path / "text").align([])
    assert vectors.shape == (0, 3)
    assert present.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"items": ["a", "b", "c", "a"]}, "there twice"),
        ({"items": ["a", "b", "c", "d\n"]}, "line break"),
        ({"chunks": [TABLE[:3]]}, "3 vectors for 4 items"),
        ({"chunks": [TABLE, TABLE]}, "does not fit"),
        ({"chunks": [TABLE[:, :2]]}, "does not fit"),
        ({"chunks": [TABLE * np.float32(1e6)], "dtype": "float16"}, "outside float16 for 3 items, first 'a', 'c', 'd'"),
    ],
)
def test_what_cannot_be_written_leaves_the_older_store(store: Path, changes: dict[str, Any], said: str) -> None:
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    with pytest.raises(UserError, match=said):
        make(store, **changes)
    assert {file.name: file.read_bytes() for file in store.iterdir()} == before
    assert [file.name for file in store.parent.iterdir()] == ["text"]


def test_a_kill_between_the_renames_leaves_the_older_store_readable(store: Path) -> None:
    aside, part = store.with_name(".text.old"), store.with_name(".text.tmp")
    store.rename(aside)
    part.mkdir()
    assert FeatureStore.open(store).items == ITEMS
    settle(store)
    assert [file.name for file in store.parent.iterdir()] == ["text"]
    assert FeatureStore.open(store).items == ITEMS


def test_a_kill_after_the_renames_leaves_the_newer_store(store: Path) -> None:
    store.rename(store.with_name(".text.old"))
    make(store.with_name("new"), chunks=[TABLE * 2])
    store.with_name("new").rename(store)
    settle(store)
    assert [file.name for file in store.parent.iterdir()] == ["text"]
    assert FeatureStore.open(store).align(["a"])[0].tolist() == [[2, 4, 6]]


def test_an_older_store_is_replaced_and_its_mapping_stays_valid(store: Path) -> None:
    older = FeatureStore.open(store)
    make(store, chunks=[TABLE * 2])
    assert older.table[0].tolist() == [1, 2, 3]
    assert FeatureStore.open(store).table[0].tolist() == [2, 4, 6]


def test_an_older_store_of_the_same_bytes_stays(store: Path) -> None:
    """With the times of change, by which a training that was broken off knows its data again."""

    def states() -> dict[str, tuple[int, int]]:
        return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in store.iterdir()}

    before = states()
    make(store)
    assert states() == before
    assert [file.name for file in store.parent.iterdir()] == ["text"]
    table = store / "table.npy"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + b"x")
    make(store)
    assert table.read_bytes() == whole
    (store / "more").touch()
    make(store)
    assert states().keys() == before.keys()
    assert states() != before


def test_there_are_two_modalities(tmp_path: Path) -> None:
    assert store_path(tmp_path, "image") == tmp_path / "features" / "image"
    with pytest.raises(UserError, match="unknown modality 'sound'"):
        store_path(tmp_path, "sound")
