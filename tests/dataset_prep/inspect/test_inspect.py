"""Inspection: what is counted, which items are alike, and a page that nothing can break out of."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_prep.cli import main
from dataset_prep.images.files import picture_stem
from dataset_prep.inspect.command import inspect_set
from dataset_prep.inspect.plots import HEIGHT, WIDTH, histogram, popularity
from dataset_prep.inspect.stats import difference_hashes, normalised, spread, time_span
from dataset_prep.inspect.vectors import ArrayVectors, near_duplicates, nearest
from recbole_mmm4rec.features.store import hash_inputs, write_store

HOSTILE = """</td></style><script>alert(1)</script><img src="http://x.example/a.png" onerror='x'> & &amp; ]]>"""
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: texts, pictures, and a complaint about anything that is open or comes from outside."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.images: list[bytes] = []
        self.style = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object", "a", "base", "form")
        for name, value in attributes:
            assert name not in ("href", "srcset", "style", "action")
            assert not name.startswith("on")
            if name == "src":
                head, _, data = (value or "").partition(",")
                assert head == "data:image/jpeg;base64"
                self.images.append(base64.b64decode(data))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        elif data.strip():
            self.texts.append(data)


def write_set(out: Path, items: list[tuple[str, str]], bought: list[tuple[str, str, str]], name: str = "shop") -> None:
    folder = out / name
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{item}\t{text}\t\n" for item, text in items)
    (folder / f"{name}.item").write_text(f"item_id:token\ttext:token_seq\timage:token\n{lines}", "utf-8")
    lines = "".join(f"{user}\t{item}\t{time}\n" for user, item, time in bought)
    (folder / f"{name}.inter").write_text(f"user_id:token\titem_id:token\ttimestamp:float\n{lines}")


def write_picture(out: Path, item: str, colour: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> None:
    Image.new("RGB", size, colour).save(out / f"shop/images/{picture_stem(item)}.png")


def write_vectors(out: Path, items: list[tuple[str, str]], table: np.ndarray, modality: str = "text") -> None:
    write_store(
        out / "shop/features" / modality,
        modality=modality,
        encoder="letters",
        encoder_hash=None,
        encoder_version=None,
        settings={"column": "text"} if modality == "text" else {},
        dim=table.shape[1],
        dtype="float32",
        normalized=False,
        input_hash=hash_inputs(items) if modality == "text" else None,
        dataset="shop",
        items=[item for item, _ in items],
        present=np.array([bool(text) for _, text in items]),
        chunks=[table.astype(np.float32)],
    )


ITEMS = [("a", "Red mug"), ("b", "red  MUG!"), ("c", "A desk"), ("d", ""), ("e", HOSTILE), ("f", "Ｒｅｄ mug")]
BOUGHT = [
    ("u1", "a", "1500000000"),
    ("u1", "b", "1500086400"),
    ("u1", "a", "1500086401"),
    ("u2", "c", "1500172800.0"),
    ("u3", "z", "1500000001"),
]
TABLE = np.array([[1, 0], [2, 0], [0, 1], [9, 9], [1, 1], [1, 0.01]])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_set(tmp_path, ITEMS, BOUGHT)
    return tmp_path


def facts(said: str) -> dict[str, str]:
    return {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in said.splitlines()}


def page(out: Path) -> Page:
    return Page((out / "shop/inspect.html").read_text("utf-8"))


def test_counts(out: Path) -> None:
    write_vectors(out, ITEMS, TABLE)
    for item, colour in (("a", (9, 9, 9)), ("b", (9, 9, 9)), ("c", (200, 0, 0))):
        write_picture(out, item, colour)
    said = facts(inspect_set("shop", out))
    assert said["users"] == "3"
    assert said["items"] == "6, 3 of them without interactions"
    assert said["interactions"] == "5"
    assert said["density"].startswith(f"{100 * 5 / (3 * 4):.4g} %")
    assert said["interactions of a user"].startswith("mean 1.7, median 1 ")
    assert said["interactions of a user"].endswith("1 to 3")
    assert said["time"] == "2017-07-14 to 2017-07-16 UTC, 2 days"
    assert said["items missing from the .item file"] == "1"
    assert said["items with text"] == "5 of 6 (83.3 %)"
    assert said["equal texts"] == "3 items in 1 groups, the largest of 3"
    assert said["items with a text vector"] == "5 of 6 (83.3 %), 2 numbers each, by letters"
    assert said["near-duplicate texts"].startswith("3 of 5 (60.0 %)")
    assert said["items with a picture"] == "3 of 6 (50.0 %)"
    assert said["equal pictures"] == "2 items in 1 groups, the largest of 2"
    assert said["near-duplicate pictures by difference hash"].startswith("3 of 3 ")  # no edges in any of them
    assert said["items with an image vector"] == "none, not embedded"


def test_the_page_shows_the_same_and_loads_nothing(out: Path) -> None:
    write_vectors(out, ITEMS, TABLE)
    write_vectors(out, ITEMS, TABLE[::-1], "image")
    for item, text in ITEMS[:3]:
        write_picture(out, item, (len(text), 90, 120))
    said = facts(inspect_set("shop", out))
    seen = page(out)
    for name, value in said.items():
        if not name.startswith("written to"):
            assert name in seen.texts
            assert value in seen.texts
    assert HOSTILE in seen.texts
    for by in ("text", "picture", "both"):
        assert seen.texts.count(f"Nearest by {by}") == 5  # of six items one has no vectors
    assert len(seen.images) >= 3
    for data in seen.images:
        with Image.open(io.BytesIO(data)) as picture:
            assert max(picture.size) <= 160
    assert "@import" not in seen.style
    assert "url(" not in seen.style
    assert "default-src 'none'" in (out / "shop/inspect.html").read_text("utf-8")


@pytest.mark.parametrize("char", ["\x0b", "\x1b", "\ufffe", "\u202e", "<", "\U0001f600"])
def test_odd_characters_stay_on_the_page(out: Path, char: str) -> None:
    write_set(out, [("a", f"mug {char} cup"), ("b", "plate")], [("u", "a", "1500000000"), ("u", "b", "1500000001")])
    inspect_set("shop", out)
    shown = [text for text in page(out).texts if text.startswith("mug ")]
    assert shown
    assert all(text.endswith(" cup") and "\x0b" not in text for text in shown)


def test_the_same_set_gives_the_same_page(out: Path) -> None:
    write_vectors(out, ITEMS, TABLE)
    write_picture(out, "a", (1, 2, 3))
    inspect_set("shop", out)
    first = (out / "shop/inspect.html").read_bytes()
    (out / "shop/inspect.html").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "dataset_prep", "inspect", "shop", "--out", "."],
        cwd=out,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "shop/inspect.html").read_bytes() == first
    assert str(out).encode() not in first
    assert {file.name for file in (out / "shop").iterdir()} == {
        "shop.inter",
        "shop.item",
        "images",
        "features",
        "inspect.html",
    }


def test_a_full_page_leaves_pictures_out(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for item, _ in ITEMS:
        noise = rng.integers(0, 255, (160, 160, 3), dtype=np.uint8)
        Image.fromarray(noise).save(out / f"shop/images/{picture_stem(item)}.png")
    inspect_set("shop", out)
    whole = page(out).images
    assert len(whole) >= 6
    monkeypatch.setattr("dataset_prep.inspect.page.MOST_PICTURE_BYTES", 30_000)
    inspect_set("shop", out)
    seen = page(out)
    assert 0 < len(seen.images) < len(whole)
    assert "left out, the page is full" in seen.texts
    assert (out / "shop/inspect.html").stat().st_size < 30_000 + 60_000


def test_long_texts_are_cut(out: Path) -> None:
    write_set(out, [("a", "word " * 4000), ("b" * 3000, "x")], [("u", "a", "1"), ("u", "b" * 3000, "2")])
    said = facts(inspect_set("shop", out))
    assert said["time"] == "1 to 2: positions, no dates"
    assert max(map(len, page(out).texts)) <= 300
    assert (out / "shop/inspect.html").stat().st_size < 20_000


def test_pictures_that_are_none_are_said_to_be_unreadable(out: Path) -> None:
    (out / f"shop/images/{picture_stem('a')}.png").write_bytes(b"<html>")
    said = facts(inspect_set("shop", out))
    assert said["near-duplicate pictures by difference hash"] == (
        "none of the items compared have another with cosine >= 0.875"
    )
    assert "unreadable" in page(out).texts


def test_a_store_that_cannot_be_used_is_told(out: Path) -> None:
    write_vectors(out, ITEMS, TABLE)
    changed = [(item, text + " new") for item, text in ITEMS]
    write_set(out, changed, BOUGHT)
    said = facts(inspect_set("shop", out))
    assert said["items with a text vector"].startswith("cannot be used: ")
    assert "near-duplicate texts" not in said


def test_a_set_with_next_to_nothing_in_it(out: Path) -> None:
    write_set(out, [("a", "")], [])
    said = facts(inspect_set("shop", out))
    assert (said["users"], said["interactions"], said["time"], said["items with text"]) == (
        "0",
        "0",
        "none",
        "0 of 1 (0.0 %)",
    )
    assert "(no text)" in page(out).texts


@settings(max_examples=40)
@given(
    count=st.integers(1, 17),
    block=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    kinds=st.integers(1, 2),
)
def test_blocks_find_what_all_pairs_at_once_find(count: int, block: int, seed: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    spaces, cosines, present = [], [], np.ones(count, dtype=bool)
    for _ in range(kinds):
        table = rng.integers(-2, 3, (count, 3)).astype(np.float32) + np.array([0.5, 0.25, 0.125], dtype=np.float32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        here = rng.random(count) < 0.8
        spaces.append(ArrayVectors(table, here))
        cosines.append(table @ table.T)
        present &= here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dataset_prep.inspect.vectors.BLOCK", block)
        alone = spaces[0].present
        found = near_duplicates(spaces[0], 0.9)
        of = np.arange(count)
        lists = nearest(spaces, of, 3)
    alike = (cosines[0] >= 0.9) & alone[:, None] & alone & ~np.eye(count, dtype=bool)
    assert (found.items, found.compared) == (int(alike.any(axis=1).sum()), int(alone.sum()))
    assert all(alike[one, other] and one < other for one, other, _ in found.examples)
    mean = sum(cosines) / kinds
    for item, neighbours in enumerate(lists):
        others = [other for other in range(count) if other != item and present[other]] if present[item] else []
        best = sorted((float(mean[item, other]) for other in others), reverse=True)[:3]
        assert [value for _, value in neighbours] == pytest.approx(best, abs=1e-5)
        for other, value in neighbours:
            assert other in others
            assert value == pytest.approx(float(mean[item, other]), abs=1e-5)


def test_of_many_items_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_prep.inspect.vectors.MOST_COMPARED", 5)
    table = np.eye(20, dtype=np.float32)
    table[19] = table[0]
    found = near_duplicates(ArrayVectors(table, np.ones(20, dtype=bool)), 0.98)
    assert (found.items, found.compared) == (2, 5)
    assert found.examples == [(0, 19, 1.0)]


def test_the_difference_hash_survives_scaling_and_compression(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rough = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((240, 240))
    other = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((240, 240))
    rough.save(tmp_path / "a.png")
    rough.resize((90, 90)).save(tmp_path / "b.jpg", quality=60)
    other.save(tmp_path / "c.png")
    hashes = difference_hashes([tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png", None])
    rows = hashes.rows(np.arange(4))
    assert rows[0] @ rows[1] >= 0.875
    assert rows[0] @ rows[2] < 0.875
    assert hashes.present.tolist() == [True, True, True, False]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=60))
def test_the_histogram_counts_everyone_and_stays_inside(values: list[int]) -> None:
    svg = histogram(np.array(values), "interactions", "users")
    bars = svg.findall("rect")
    assert sum(int((bar.findtext("title") or "").rpartition(" ")[2]) for bar in bars) == len(values)
    for bar in bars:
        assert float(bar.get("x", "-1")) >= 0
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= WIDTH
        assert 0 <= float(bar.get("y", "-1")) <= HEIGHT
    assert "rect" in ET.tostring(svg, encoding="unicode")


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
def test_the_popularity_falls_and_stays_inside(values: list[int]) -> None:
    line = popularity(np.array(values)).find("polyline")
    assert line is not None
    points = np.array([[float(part) for part in pair.split(",")] for pair in line.get("points", "").split()])
    assert (np.diff(points[:, 1]) >= 0).all()  # y grows downwards
    assert points.min() >= 0
    assert (points <= [WIDTH, HEIGHT]).all()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Red Mug.", "red   mug", True),
        ("Ｒｅｄ", "red", True),
        ("Straße", "STRASSE", True),
        ("mug 1", "mug 2", False),
        ("***", "---", False),
    ],
)
def test_what_counts_as_the_same_text(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same


def test_words_for_spans_and_spreads() -> None:
    assert time_span(1_600_000_000, 1_600_000_001_000) == "1600000000 to 1600000001000: no seconds since 1970"
    assert spread(np.array([1, 2, 3, 4, 100])) == (
        "mean 22.0, median 3 (half of them 2 to 4, 95 % at most 100), 1 to 100"
    )
    assert spread(np.array([], dtype=np.int64)) == "none"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("none", "none.inter: no such file; see 'ls "),
        ("shop --cards 501", "--cards 501: must be 0 to 500"),
        ("bad", "bad.inter line 3: timestamp 'soon' is no finite number"),
    ],
)
def test_mistakes_are_one_line(out: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    write_set(out, ITEMS, [("u", "a", "1"), ("u", "a", "soon")], "bad")
    assert main(["inspect", *line.split(), "--out", str(out)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ")
    assert re.search(re.escape(said), captured)
    assert captured.count("\n") == 1
    assert not list(out.rglob("inspect.html"))
