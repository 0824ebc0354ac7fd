"""The demo shop: its bytes, its rules, and the arithmetic of its perfect reader."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_prep.cli import main
from dataset_prep.images.files import find_pictures, picture_stem
from dataset_prep.sources.demo.command import make_demo
from dataset_prep.sources.demo.pictures import draw
from dataset_prep.sources.demo.shop import KEEP, PURCHASES, SHAPES, USES, Shop, make_shop, perfect_hits
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.errors import UserError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "dataset_prep", "demo", "--users", "9", "--items", "120", "--out", hash_seed],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hash_seed},
        )
    first = contents(tmp_path / "1/demo")
    assert len(first) == 123
    assert contents(tmp_path / "2/demo") == first
    make_demo("demo", tmp_path / "3", users=9, items=120, seed=2)
    other = contents(tmp_path / "3/demo")
    assert other.keys() == first.keys()
    assert not [name for name in first if other[name] == first[name]]


def test_the_record_says_that_it_is_synthetic_and_what_can_be_reached(tmp_path: Path) -> None:
    said = make_demo("toy", tmp_path, users=50, items=240, seed=4)
    record = json.loads((tmp_path / "toy/toy.prep.json").read_text())
    assert record["synthetic"] is True
    hits = record["hit@10_of_a_perfect_reader"]
    assert hits == {reader: round(value, 4) for reader, value in perfect_hits(make_shop(50, 240, 4)).items()}
    assert f"texts {hits['text']:.3f}, pictures {hits['image']:.3f}, both {hits['both']:.3f}" in said


def test_every_item_has_a_title_of_its_use_and_a_picture(tmp_path: Path) -> None:
    make_demo("toy", tmp_path, users=9, items=150, seed=3)
    shop = make_shop(9, 150, 3)
    items, titles = read_item_column(tmp_path / "toy/toy.item", "text")
    pictures = find_pictures(tmp_path / "toy/images")
    assert set(pictures) == {picture_stem(item) for item in items}
    assert read_item_column(tmp_path / "toy/toy.item", "image")[1] == [f"{picture_stem(item)}.png" for item in items]
    phrases = list(USES.values())
    for title, use in zip(titles, shop.use, strict=True):
        assert [kind for kind, known in enumerate(phrases) if any(f" {phrase}," in title for phrase in known)] == [use]
        assert not set(title.lower().replace(",", " ").replace(".", " ").split()) & set(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_are_plain_and_show_one_object(shape: str) -> None:
    data = draw(shape, np.random.default_rng(7))
    assert data == draw(shape, np.random.default_rng(7))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size, picture.mode, picture.info) == ("PNG", (96, 96), "RGB", {})
    # The same dice for every shape: only the object's outline differs, not its paint nor its background.
    corner = np.asarray(Image.open(io.BytesIO(draw("disc", np.random.default_rng(7)))))[:10, :10]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[:10, :10], corner)
    others = {draw(other, np.random.default_rng(7)) for other in SHAPES}
    assert len(others) == len(SHAPES)


def test_purchases_follow_the_rules() -> None:
    shop = make_shop(4000, 600, 1)
    lengths = np.bincount(shop.user)
    assert (lengths.min(), lengths.max()) == PURCHASES
    inside = np.flatnonzero(np.diff(shop.user) == 0)
    assert (np.diff(shop.time)[inside] >= 60).all()
    shape, use = shop.shape[shop.item], shop.use[shop.item]
    follows = (shape[inside] + 1) % len(SHAPES) == shape[inside + 1]
    assert follows.mean() == pytest.approx(KEEP + (1 - KEEP) / len(SHAPES), abs=0.006)
    two_inside = np.flatnonzero(shop.user[2:] == shop.user[:-2])
    alternates = use[two_inside] == use[two_inside + 2]
    assert alternates.mean() == pytest.approx(KEEP + (1 - KEEP) / len(USES), abs=0.006)
    # Nothing else is to be learned: neither rule holds for the other attribute.
    assert (use[inside] == use[inside + 1]).mean() == pytest.approx(1 / len(USES), abs=0.01)
    np.testing.assert_allclose(np.bincount(shop.item, minlength=600) / len(shop.item), 1 / 600, rtol=0.7)


def test_the_perfect_reader_in_a_shop_of_ten_items_a_pair_is_worked_out_by_hand() -> None:
    hits = perfect_hits(make_shop(500, 1200, 5))
    shape, use = KEEP + (1 - KEEP) / 12, KEEP + (1 - KEEP) / 10
    # The most likely pair has ten items, the most likely use 120, the most likely shape 100.
    assert hits["both"] == pytest.approx(shape * use)
    assert hits["text"] == pytest.approx(use * 10 / 120)
    assert hits["image"] == pytest.approx(shape * 10 / 100)
    assert 0.8 <= hits["both"] <= 0.95
    assert hits["both"] >= 2 * max(hits["text"], hits["image"])


def ranked_hits(shop: Shop, use_known: bool, shape_known: bool) -> float:
    """Hit@10 of a list of all items, sorted by what a reader knows of each, equal ones by lot."""
    ends = np.flatnonzero(np.diff(shop.user, append=-1))
    rng = np.random.default_rng(0)
    hits = []
    for end in ends:
        before, before_that = shop.item[end - 1], shop.item[end - 2]
        score = np.ones(len(shop.titles))
        if shape_known:
            due = shop.shape == (shop.shape[before] + 1) % len(SHAPES)
            score *= np.where(due, KEEP, 0) + (1 - KEEP) / len(SHAPES)
        if use_known:
            due = shop.use == shop.use[before_that]
            score *= np.where(due, KEEP, 0) + (1 - KEEP) / len(USES)
        kind = (shop.shape if shape_known else 0) * len(USES) + (shop.use if use_known else 0)
        score /= np.bincount(kind)[kind]
        order = np.lexsort((rng.random(len(score)), -score))
        hits.append(shop.item[end] in order[:10])
    return float(np.mean(hits))


@pytest.mark.parametrize("items", [125, 700, 1200])
def test_the_perfect_reader_agrees_with_a_simulation(items: int) -> None:
    shop = make_shop(3000, items, 11)
    hits = perfect_hits(shop)
    for reader, knows in (("text", (True, False)), ("image", (False, True)), ("both", (True, True))):
        spread = np.sqrt(hits[reader] * (1 - hits[reader]) / 3000)
        assert ranked_hits(shop, *knows) == pytest.approx(hits[reader], abs=4 * spread), reader


def test_a_run_that_was_stopped_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_demo("demo", tmp_path / "whole", users=9, items=120)
    drawn = 0

    def stop(shape: str, rng: np.random.Generator) -> bytes:
        nonlocal drawn
        drawn += 1
        if drawn > 50:
            raise KeyboardInterrupt
        return draw(shape, rng)

    with monkeypatch.context() as patch:
        patch.setattr("dataset_prep.sources.demo.pictures.draw", stop)
        with pytest.raises(KeyboardInterrupt):
            make_demo("demo", tmp_path / "stopped", users=9, items=120)
    assert len(contents(tmp_path / "stopped/demo/images")) == 50
    (tmp_path / f"stopped/demo/images/.{picture_stem('x')}.tmp").write_bytes(b"half")
    assert "written to" in make_demo("demo", tmp_path / "stopped", users=9, items=120)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert "already up to date" in make_demo("demo", tmp_path / "stopped", users=9, items=120)


def test_a_smaller_shop_in_its_place_leaves_no_pictures_behind(tmp_path: Path) -> None:
    make_demo("demo", tmp_path, users=9, items=130)
    (tmp_path / "demo/images/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds another data set"):
        make_demo("demo", tmp_path, users=9, items=120)
    assert len(find_pictures(tmp_path / "demo/images")) == 130
    make_demo("demo", tmp_path, users=9, items=120, force=True)
    assert len(find_pictures(tmp_path / "demo/images")) == 120
    assert (tmp_path / "demo/images/notes.txt").read_text() == "mine"


def test_the_picture_of_another_kind_gives_way(tmp_path: Path) -> None:
    make_demo("demo", tmp_path, users=9, items=120)
    before = contents(tmp_path)
    picture = next((tmp_path / "demo/images").iterdir())
    picture.rename(picture.with_suffix(".jpg"))
    make_demo("demo", tmp_path, users=9, items=120)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--items 119", "--items 119: must be 120 to 9,999,999"),
        ("--users 0", "--users 0: must be 1 to"),
        ("--seed -1", "--seed -1: must be 0 to"),
        ("--name a/b", "--name 'a/b': use letters"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert main(["demo", *line.split(), "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: {said}")
    assert captured.count("\n") == 1
    assert not list(tmp_path.iterdir())
