"""Merging: ids, rows of vectors, masks, pictures, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import contents, write_set, write_vectors
from tiny_data import make_config

from dataset_prep.cli import main
from dataset_prep.embed.inputs import read_pictures
from dataset_prep.images.files import find_pictures, picture_stem
from dataset_prep.sources.merge.command import merge_sets
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.dataset import MMM4RecDataset
from recbole_mmm4rec.features.store import FeatureStore, hash_inputs, write_store
from recbole_mmm4rec.features.tables import FeatureSource


def open_checked(out: Path, name: str, modality: str = "text") -> FeatureStore:
    """A store as training opens it: refused when it does not go with the set's texts."""
    return FeatureSource(name, out / name / "features", out / name / f"{name}.item").open(modality)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for name, texts in (("food", ["apple", "pear", ""]), ("home-2", ["lamp", "desk", "rug", "mug", "bed"])):
        write_set(tmp_path, name, texts)
        write_vectors(tmp_path, name)
    return tmp_path


def test_ids_get_the_name_of_their_set(out: Path) -> None:
    said = merge_sets(["food", "home-2"], "mix", out)
    assert "mix: 8 users, 8 items, 16 interactions; 7 items (87.5 %) with text" in said
    lines = (out / "mix/mix.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert lines[1:3] == ["food:u0\tfood:i0\t1600000000", "food:u0\tfood:i1\t1600000001"]
    assert lines[7] == "home-2:u0\thome-2:i0\t1600000000"
    assert len(lines) == 17
    assert (out / "mix/mix.item").read_text() == (
        "item_id:token\ttext:token_seq\nfood:i0\tapple\nfood:i1\tpear\nfood:i2\t\n"
        "home-2:i0\tlamp\nhome-2:i1\tdesk\nhome-2:i2\trug\nhome-2:i3\tmug\nhome-2:i4\tbed\n"
    )


def test_what_training_leaves_out_is_merged_neither(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose user or item is a missing value become no users and items of the merged set."""
    for name, more in (("food", ["NA i0", " i1", "nan nan", "u9 i0"]), ("home-2", ["u0 null", "u0 ", "NaNa i1"])):
        with (out / name / f"{name}.inter").open("a") as handle:
            handle.writelines("9\t{}\t1\t{}\n".format(*row.split(" ")) for row in more)
    with (out / "food/food.item").open("a") as handle:
        handle.write("NA\ta text of no item\n")
    items, texts = read_item_column(out / "food/food.item", "text")
    present = np.array([bool(text) for text in texts])
    known = hash_inputs(zip(items, texts, strict=True))
    write_vectors(out, "food", items=items, present=present, chunks=[np.ones((4, 4), np.float32)], input_hash=known)
    said = merge_sets(["food", "home-2"], "mix", out)
    assert "5 interactions without a user or an item left out" in said
    found = {}
    for name in ("food", "home-2", "mix"):
        monkeypatch.setattr("tiny_data.NAME", name)
        columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]}
        data = MMM4RecDataset(make_config(out, load_col=columns))
        found[name] = np.array([data.user_num - 1, data.item_num - 1, data.inter_num])
    assert found["mix"].tolist() == (found["food"] + found["home-2"]).tolist() == [10, 8, 18]
    counts = json.loads((out / "mix/mix.prep.json").read_text())["counts"]
    assert [counts[key] for key in ("users", "items", "interactions")] == [10, 8, 18]
    store = open_checked(out, "mix")
    assert (store.manifest.rows, "food:NA" in store.items, store.manifest.input_hash is None) == (8, False, False)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    dtypes=st.lists(st.sampled_from(["float16", "float32"]), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_every_item_keeps_its_vector(lengths: list[int], dtypes: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"{letter}set" for letter in "abcd"[: len(lengths)]]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dataset_prep.sources.merge.stores.BLOCK_ROWS", 3)
        out = Path(folder)
        for name, length, dtype in zip(names, lengths, dtypes, strict=False):
            write_set(out, name, ["x" if rng.random() < 0.7 else "" for _ in range(length)])
            write_vectors(out, name, dtype=dtype)
        merge_sets(names, "mix", out)
        merged = open_checked(out, "mix")
        assert merged.manifest.input_hash is not None
        tokens, start = read_item_column(out / "mix/mix.item", "item_id")[0], 0
        assert merged.items == tokens
        for name, length in zip(names, lengths, strict=True):
            store = FeatureStore.open(out / name / "features/text")
            here = slice(start, start + length)
            np.testing.assert_array_equal(merged.table[here], np.asarray(store.table, dtype=merged.manifest.dtype))
            np.testing.assert_array_equal(merged.present[here], store.present)
            assert tokens[here] == [f"{name}:{item}" for item in store.items]
            start += length
        assert merged.manifest.dtype == ("float32" if "float32" in dtypes[: len(names)] else "float16")


def test_a_store_in_another_order_is_followed_by_id(out: Path) -> None:
    table = np.arange(16, dtype=np.float32).reshape(4, 4)
    write_vectors(
        out,
        "food",
        items=["i1", "only-in-the-store", "i0", "i7"],
        present=np.array([True, True, True, False]),
        chunks=[table],
        input_hash=None,
    )
    merge_sets(["food", "home-2"], "mix", out)
    store = open_checked(out, "mix")
    vectors, present = store.align(["food:i0", "food:i1", "food:i2", "food:only-in-the-store", "food:i7"])
    np.testing.assert_array_equal(vectors[[0, 1, 3]], table[[2, 0, 1]])
    assert present.tolist() == [True, True, False, True, False]
    assert store.manifest.input_hash is None


def test_items_of_a_set_without_the_modality_are_absent(out: Path) -> None:
    images = write_vectors(out, "home-2", "image", settings={})
    said = merge_sets(["food", "home-2"], "mix", out)
    assert "image: 5 of 8 items have a vector, by letters; food without" in said
    store = open_checked(out, "mix", "image")
    assert store.present.tolist() == [False] * 3 + [True] * 5
    np.testing.assert_array_equal(store.table[3:], images)
    assert not store.table[:3].any()


@pytest.mark.parametrize(("text", "known"), [("word", False), ("", True)])
def test_texts_that_were_not_encoded_leave_the_inputs_unknown(out: Path, text: str, known: bool) -> None:
    # Else `embed` would take the merged set for finished and never encode them.
    write_set(out, "toys", [text, text])
    merge_sets(["food", "toys"], "mix", out)
    assert (open_checked(out, "mix").manifest.input_hash is not None) == known


def test_without_any_store_there_is_nothing_to_join(out: Path) -> None:
    for name in ("toys", "cars"):
        write_set(out, name, ["word", name])
    said = merge_sets(["toys", "cars"], "mix", out)
    assert "next: mmm4rec prep embed mix" in said
    assert not (out / "mix/features").exists()


def test_another_encoded_column_comes_along(out: Path) -> None:
    for name in ("toys", "cars"):
        items = write_set(out, name, ["word", name], "text:token_seq\ttitle:token_seq", "\tnew " + name)
        titles = [f"new {name}"] * 2
        write_vectors(out, name, settings={"column": "title"}, input_hash=hash_inputs(zip(items, titles, strict=True)))
    merge_sets(["toys", "cars"], "mix", out)
    assert read_item_column(out / "mix/mix.item", "title")[1] == ["new toys"] * 2 + ["new cars"] * 2
    assert open_checked(out, "mix").manifest.input_hash is not None
    (out / "mix/mix.item").write_text((out / "mix/mix.item").read_text().replace("new cars", "old cars"))
    with pytest.raises(UserError, match="changed since"):
        open_checked(out, "mix")


def test_pictures_come_along_under_the_names_of_the_merged_items(out: Path) -> None:
    for name in ("food", "home-2"):
        (out / name / "images").mkdir()
    (out / f"food/images/{picture_stem('i1')}.png").write_bytes(b"pear")
    (out / f"home-2/images/{picture_stem('i1')}.jpg").write_bytes(b"desk")
    for name in ("food", "home-2"):
        hashed = read_pictures(out / name / f"{name}.item").hash
        write_vectors(out, name, "image", settings={}, input_hash=hashed)
    before = contents(out)
    assert "2 pictures" in merge_sets(["food", "home-2"], "mix", out)
    pictures = {file.name: file.read_bytes() for file in (out / "mix/images").iterdir()}
    assert pictures == {f"{picture_stem('food:i1')}.png": b"pear", f"{picture_stem('home-2:i1')}.jpg": b"desk"}
    assert before.items() <= contents(out).items()
    assert open_checked(out, "mix", "image").manifest.input_hash == read_pictures(out / "mix/mix.item").hash
    # A picture that the set lost, one of another kind, one that was fetched for the merged set, a leftover.
    (out / f"food/images/{picture_stem('i1')}.png").unlink()
    (out / f"home-2/images/{picture_stem('i1')}.jpg").rename(out / f"home-2/images/{picture_stem('i1')}.png")
    (out / f"mix/images/{picture_stem('food:i0')}.gif").write_bytes(b"fetched")
    (out / f"mix/images/{picture_stem('gone')}.gif").write_bytes(b"stray")
    (out / "mix/images/.half.tmp").write_bytes(b"half")
    merge_sets(["food", "home-2"], "mix", out)
    assert set(find_pictures(out / "mix/images")) == {
        picture_stem(f"{item}") for item in ("food:i0", "food:i1", "home-2:i1")
    }
    assert (out / f"mix/images/{picture_stem('home-2:i1')}.png").read_bytes() == b"desk"
    assert len(list((out / "mix/images").iterdir())) == 3


def test_the_image_column_comes_along(out: Path) -> None:
    write_set(
        out, "toys", ["word"] * 2, "text:token_seq\timage:token", "\thttps://x.example/a.png https://x.example/b.png"
    )
    merge_sets(["food", "toys"], "mix", out)
    assert (
        read_item_column(out / "mix/mix.item", "image")[1]
        == [""] * 3 + ["https://x.example/a.png https://x.example/b.png"] * 2
    )
    assert (out / "mix/mix.item").read_text().startswith("item_id:token\ttext:token_seq\timage:token\n")


def test_the_same_command_gives_the_same_bytes(out: Path) -> None:
    merge_sets(["food", "home-2"], "mix", out)
    first = contents(out / "mix")
    assert "already up to date" in merge_sets(["food", "home-2"], "mix", out)
    assert contents(out / "mix") == first
    for file in (out / "mix").rglob("*"):
        if file.is_file():
            file.unlink()
    subprocess.run(
        [sys.executable, "-m", "dataset_prep", "merge", "food", "home-2", "--name", "mix", "--out", "."],
        check=True,
        cwd=out,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "5"},
    )
    assert contents(out / "mix") == first


def test_a_run_that_was_stopped_is_finished_by_the_next(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vectors(out, "food", "image", settings={})
    merge_sets(["food", "home-2"], "whole", out)
    calls = []

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(options["modality"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write_store(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("dataset_prep.sources.merge.stores.write_store", stop)
        with pytest.raises(KeyboardInterrupt):
            merge_sets(["food", "home-2"], "mix", out)
    assert not (out / "mix/features/image").exists()
    merge_sets(["food", "home-2"], "mix", out)
    renamed = {name.replace("whole", "mix"): data for name, data in contents(out / "whole").items()}
    made = contents(out / "mix")
    assert {name: data.replace(b"whole", b"mix") for name, data in renamed.items()} == made


def test_a_replaced_set_leaves_no_store_behind(out: Path) -> None:
    write_vectors(out, "food", "image", settings={})
    merge_sets(["food", "home-2"], "mix", out)
    write_set(out, "toys", ["word", "word"])
    write_vectors(out, "toys")
    with pytest.raises(UserError, match="holds another data set"):
        merge_sets(["home-2", "toys"], "mix", out)
    assert open_checked(out, "mix", "image").manifest.rows == 8
    merge_sets(["home-2", "toys"], "mix", out, force=True)
    assert not (out / "mix/features/image").exists()
    assert open_checked(out, "mix").items[-1] == "toys:i1"


def test_a_store_made_for_the_merged_set_stays(out: Path) -> None:
    merge_sets(["food", "home-2"], "mix", out)
    tokens = read_item_column(out / "mix/mix.item", "item_id")[0]
    write_vectors(out, "mix", "image", settings={}, items=tokens)
    merge_sets(["food", "home-2"], "mix", out)
    assert open_checked(out, "mix", "image").items == tokens


def test_a_merged_set_can_be_merged(out: Path) -> None:
    merge_sets(["food", "home-2"], "mix", out)
    write_set(out, "toys", ["word", "word"])
    write_vectors(out, "toys")
    merge_sets(["mix", "toys"], "all", out)
    store = open_checked(out, "all")
    assert store.items[0] == "mix:food:i0"
    assert store.manifest.rows == 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "words"}, "encoder 'letters', .* has 'words'"),
        ({"encoder_hash": "h2"}, "encoder_hash 'h1', .* has 'h2'"),
        ({"dim": 5}, "dim 4, .* has 5"),
        ({"normalized": True}, "normalized False, .* has True"),
        ({"settings": {"column": "text", "max_seq_length": 9}}, "settings {'column': 'text'}, .* has"),
    ],
)
def test_vectors_of_different_makes_are_refused(out: Path, change: dict[str, Any], said: str) -> None:
    write_vectors(out, "home-2", **change)
    with pytest.raises(UserError, match=said) as refused:
        merge_sets(["food", "home-2"], "mix", out)
    assert str(out / "food/features/text") in str(refused.value)
    assert str(out / "home-2/features/text") in str(refused.value)
    assert not (out / "mix").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("food --name mix", "one set is no merger"),
        ("food food --name mix", "set 'food' is named twice"),
        ("food home-2 --name food", "--name food: is one of the sets to merge"),
        ("food home-2 --name m:x", "--name 'm:x': use letters"),
        ("food none --name mix", "none.inter: no such file"),
        ("food od:d --name mix", "set 'od:d': its name comes before each id"),
        ("food copy --name mix", "sets 'food' and 'copy' hold the same;"),
        ("food stale --name mix", "changed since the embeddings were made"),
        ("food broken --name mix", "broken.inter line 3: 2 fields where the header has 4"),
        ("food cut --name mix", "table.npy: has "),
    ],
)
def test_mistakes_are_one_line(out: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    write_set(out, "od:d", ["word"])
    (out / "copy").mkdir()
    for suffix in ("inter", "item"):
        shutil.copy(out / f"food/food.{suffix}", out / f"copy/copy.{suffix}")
    write_set(out, "stale", ["word"] * 4)
    write_vectors(out, "stale")
    write_set(out, "stale", ["new"] * 4)
    write_set(out, "cut", ["word"] * 6)
    write_vectors(out, "cut")
    table = out / "cut/features/text/table.npy"
    table.write_bytes(table.read_bytes() + b"more")
    write_set(out, "broken", ["word"] * 2)
    lines = (out / "broken/broken.inter").read_text().splitlines()
    (out / "broken/broken.inter").write_text("\n".join([*lines[:2], "5\tu1", *lines[2:]]) + "\n")
    assert main(["merge", *line.split(), "--out", str(out)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ")
    assert said in captured
    assert captured.count("\n") == 1
    assert not (out / "mix").exists()
