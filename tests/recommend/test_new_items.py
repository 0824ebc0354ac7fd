"""New items in a model folder: scored as if they had been there, the rest as it was, mistakes in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from any_input import rows, steady, told
from hypothesis import given
from hypothesis import strategies as st
from model_shop import ITEMS, USES, shape_of
from more_items import TEXT, like, state_of
from PIL import Image

from recbole_mmm4rec import Recommender
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.locks import claimed
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.encoders.pictures import read_picture
from recbole_mmm4rec.model_folder import manifest
from recbole_mmm4rec.recommend.item_rows import read_items

HISTORY = ["k00", "k01", "k07"]


class Words:
    """An encoder of the shop's texts: words to the numbers that the shop's vectors have for them."""

    dim, batches = 12, 0

    def prepare(self, source: str) -> str:
        return source

    def encode(self, texts: list[str]) -> np.ndarray:
        self.batches += 1
        names = [*(shape_of(n) for n in range(6)), *USES]
        return np.array([[float(name in text.split()) for name in names] for text in texts], dtype=np.float32)


class Colours:
    """An encoder of pictures: the mean colour."""

    dim = 6

    def prepare(self, source: Any) -> np.ndarray:
        return np.asarray(read_picture(source), dtype=np.float32)

    def encode(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.tile(picture.mean((0, 1)) / 255, 2) for picture in pictures])


def with_encoders(folder: Path) -> Recommender:
    recommender = Recommender.load(folder)
    recommender.encoders.loaded.update({"text": Words(), "image": Colours()})  # type: ignore[dict-item]
    return recommender


def test_what_was_there_keeps_its_scores_and_what_is_new_has_the_networks(folder_copy: Path) -> None:
    recommender = Recommender.load(folder_copy)
    before, similar, ids = recommender.scores([HISTORY]), recommender.similar("k03", 5), recommender.items.ids
    side = recommender.side.fused.clone()
    rows = [like(3), {**like(20), "image_vector": None}, {**like(9), "text": "", "text_vector": None}]
    added = recommender.add_items(rows)
    assert added.items == ("n3", "n20", "n9")
    for found in (recommender, Recommender.load(folder_copy)):
        assert found.items.ids == [*ids, "n3", "n20", "n9"]
        assert torch.equal(found.side.fused[: len(side)], side)
        # a product with more columns may add up in another order
        np.testing.assert_allclose(found.scores([HISTORY])[:, : len(ITEMS)], before, rtol=1e-5, atol=1e-6)
        whole = found.network.items.side()  # projected again from features, masks and rows that were written
        torch.testing.assert_close(whole.fused, found.side.fused, rtol=1e-5, atol=1e-6)
        assert found.network.items.present[-3:].tolist() == [[True, True], [True, False], [False, True]]
        assert {one.item for one in similar.items} <= {one.item for one in found.similar("k03", 8).items}
        assert "k03" in [one.item for one in found.similar("n3", 3).items]
        assert "n20" in [one.item for one in found.recommend(HISTORY, len(found.items)).items]
        assert found.recommend(["n3", "n9"], 3).unknown == ()
        assert found.items.popularity[-3:].tolist() == [0, 0, 0]


def test_a_new_item_takes_the_place_of_its_twin(folder_copy: Path) -> None:
    """An item with the features of a well known one is recommended to whom that one is."""
    recommender = Recommender.load(folder_copy)
    best = [one.item for one in recommender.recommend(HISTORY, 3, neighbours=False).items]
    recommender.add_items([like(ITEMS.index(item)) for item in best])
    found = [one.item for one in recommender.recommend(HISTORY, 8, neighbours=False).items]
    assert {f"n{ITEMS.index(item)}" for item in best} & set(found)


def test_texts_and_pictures_go_through_the_shops_encoders(folder_copy: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (255, 0, 0)).save(tmp_path / "t1.png")
    pd.DataFrame(
        {
            "item_id": ["t1", "t2"],
            "text": [f" {shape_of(2)}  for the\tgarden", f"{shape_of(4)} for the office"],
            "category": ["garden", None],
            "price": ["7.5", ""],
            "colour": ["red", "blue"],
        }
    ).to_csv(tmp_path / "new.csv", index=False)
    recommender = with_encoders(folder_copy)
    added = recommender.add_items(tmp_path / "new.csv", images=tmp_path)
    assert added.notes == ("columns that the shop's items do not have were left out: 'colour'",)
    row = recommender.items.row("t1")
    assert (row["text"], row["category"], row["price"]) == (f"{shape_of(2)} for the garden", "garden", 7.5)
    assert (recommender.items.row("t2")["category"], recommender.items.row("t2")["price"]) == (None, None)
    features = recommender.network.items.features
    assert features["text"].take(torch.tensor([37]))[0].tolist() == (TEXT[2] + TEXT[6]).tolist()
    assert features["image"].take(torch.tensor([37]))[0].tolist() == [1, 0, 0, 1, 0, 0]
    small = recommender.items.picture("t1")
    assert small is not None
    assert read_picture(small).size == (160, 107)
    assert recommender.items.picture("t2") is None
    kept = recommender.encoders.loaded["text"]
    recommender.add_items([{"item_id": "t3", "text": "disc", "image": (tmp_path / "t1.png").read_bytes()}])
    assert recommender.encoders.loaded["text"] is kept  # not loaded once more
    assert kept.batches == 2  # type: ignore[attr-defined]
    assert recommender.items.picture("t3") is not None


def test_in_memory_alone(model_folder: Path, folder_copy: Path) -> None:
    """The same as on disk, and a copy that serves meanwhile notices nothing."""
    written, held = Recommender.load(folder_copy), Recommender.load(model_folder)
    serving = copy.copy(held)
    rows = [like(3), {**like(20), "image_vector": None}]
    written.add_items(rows)
    assert held.add_items(rows, write=False).folder is None
    assert np.array_equal(held.scores([[*HISTORY, "n3"]]), written.scores([[*HISTORY, "n3"]]))
    assert held.items.ids == written.items.ids
    assert serving.items.number("n3") is None
    assert len(serving.recommend(HISTORY, len(ITEMS)).items) == len(ITEMS) - len(HISTORY)
    held.add_items([like(4)], write=False)
    assert held.recommend(["n3", "n4"], 5, modalities="text").unknown == ()
    assert len(Recommender.load(model_folder).items) == len(ITEMS)


def test_the_first_item_without_a_picture(model_folder: Path) -> None:
    """No training has touched what stands for a missing picture where all items had one: the mean stays what it is."""
    held = Recommender.load(model_folder)
    items = held.network.items
    items.present[:], items.scored[:], items.complete = True, True, True
    held.side = items.side()
    untrained, mean = items.missing["image"].clone(), items.unseen("image")
    assert not torch.allclose(untrained, mean)
    before = held.scores([HISTORY], modalities="text")
    held.add_items([{**like(20), "image_vector": None}], write=False)
    now = held.network.items
    assert now.present[-1].tolist() == [True, False]
    assert torch.equal(now.missing["image"], mean)
    assert torch.equal(items.missing["image"], untrained)  # the model of before is as it was
    np.testing.assert_allclose(held.scores([HISTORY], modalities="text")[:, :-1], before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(held.side.tables["image"][-1], mean + items.bias["image"][1:].mean(0))


def test_in_memory_of_a_folder_whose_table_stays_on_disk(
    folder_copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was read is given back; what was made in memory must not be."""
    many = 2_000  # rows of some pages
    rows = [{**like(number % 36), "item_id": f"m{number}"} for number in range(many)]
    Recommender.load(folder_copy).add_items(rows)
    monkeypatch.setattr("recbole_mmm4rec.model_folder.read.MAPPED_ABOVE", 1)
    held = Recommender.load(folder_copy)
    assert held._mapped
    held.add_items([like(3)], write=False)
    first, again = (held.recommend(HISTORY, 20).items for _ in range(2))
    assert first == again
    assert held.side.fused[1:].abs().sum(1).min() > 0
    with pytest.raises(UserError, match=r"added in memory alone before; save\(FOLDER\) and load that first"):
        held.add_items([like(4)])
    saved = Recommender.load(held.save(tmp_path / "saved"))
    assert saved.items.ids == held.items.ids
    assert saved.recommend(HISTORY, 20).items == first


def test_from_inside_the_folder(folder_copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(folder_copy)
    added = Recommender.load(".").add_items([like(3)])
    assert added.folder == folder_copy
    assert len(Recommender.load(folder_copy).items) == len(ITEMS) + 1


def test_another_folder_leaves_this_one_as_it_is(folder_copy: Path, tmp_path: Path) -> None:
    before = state_of(folder_copy)
    recommender = Recommender.load(folder_copy)
    assert recommender.add_items([like(3)], output=tmp_path / "more").folder == tmp_path / "more"
    assert state_of(folder_copy) == before
    assert len(Recommender.load(tmp_path / "more").items) == len(ITEMS) + 1


WRONG: list[tuple[Any, str]] = [
    ([{"item_id": "k03", "text": "disc"}], "items[0]: the shop has item 'k03' already"),
    ([like(1), {"item_id": "n", "text": " "}], "items[1]: item 'n' has no text or picture and no vector"),
    ([like(1), like(1)], "items[1]: item 'n1' is there twice, first in items[0]"),
    ([{**like(1), "text_vector": [1.0]}], "items[0]: the text vector of item 'n1' has 1 numbers, the shop's have 12"),
    ([{**like(1), "text_vector": [float("nan")] * 12}], "items[0]: text_vector must be a list of finite numbers"),
    ([{**like(1), "price": "much"}], "items[0]: price 'much' is no number"),
    ([{**like(1), "price": 10**400}], "items[0]: price: a number of more than 300 digits; leave it out"),
    ([{**like(1), "category": 10**4400}], "items[0]: category: a number of more than 4,300 digits; leave it out"),
    ([{"item_id": "a b", "text": "disc"}], "items[0]: item_id 'a b' holds a blank"),
    ([{"text": "disc"}], "items[0]: no item_id"),
    ([{"item_id": "n", "image": b"<html>"}], "items[0]: the picture of item 'n' cannot be used: it: no picture but an"),
    ([{"item_id": "n", "text": "disc", "image": "n.jpg"}], "items[0]: image 'n.jpg': give the folder that it is in"),
    ([{"item_id": "n", "text": "disc", "image": 3}], "items[0]: image of item 'n' must be a file's name, a Path or by"),
    (["disc"], "items[0]: must be a mapping with 'item_id', not str"),
    ([], "items: no item is in it"),
    (7, "items: must be a file, a list of rows, a data frame or an Arrow table"),
]


@pytest.mark.parametrize(("rows", "words"), WRONG, ids=[words for _, words in WRONG])
def test_mistakes_are_one_line_and_nothing_is_written(folder_copy: Path, rows: Any, words: str) -> None:
    before = state_of(folder_copy)
    recommender = with_encoders(folder_copy)
    with pytest.raises(UserError) as caught:
        recommender.add_items(rows)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert state_of(folder_copy) == before
    assert sorted(recommender.items.ids) == ITEMS


def test_file_and_line_are_named(folder_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "new.csv"
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    for text, more, words in (
        ("item_id,text\na,disc\nk03,disc\n", [], f"{table} line 3: the shop has item 'k03' already"),
        ("item_id,text,image\na,,bad.jpg\n", ["--images", str(tmp_path)], f"{table} line 2: the picture of item 'a'"),
        ("item_id,text,image\na,,../x.jpg\n", ["--images", str(tmp_path)], f"{table} line 2: image '../x.jpg' is out"),
        ("item_id,text,image\na,,none.jpg\n", ["--images", str(tmp_path)], f"{table} line 2: image 'none.jpg': there"),
        ("id,text\na,disc\n", [], f"{table}: no column 'item_id' among id, text"),
        ("item_id,text\na,disc\n", ["--vectors", "text"], "--vectors text: write text=… or image=…"),
        ("item_id,text\na,disc\n", ["--vectors", f"text={table}"], f"{table}: no .npy file of numbers"),
        ("item_id,text\na,disc\n", ["--images", "nowhere"], "images nowhere: no such folder"),
        ("item_id,text\na,disc\n", ["--images", str(tmp_path)], f"images {tmp_path}: no picture of any item is in it"),
        ("item_id,text\na,disc\n", [], "the text encoder of this shop, drawn: "),  # not installed
    ):
        table.write_text(text)
        before = state_of(folder_copy)
        assert main(["add", str(folder_copy), str(table), *more]) == 2
        said = capsys.readouterr().err
        if "bad.jpg" not in text:  # there the encoder of pictures is missing first
            assert said.startswith(f"error: {words}")
        assert said.count("\n") == 1
        assert state_of(folder_copy) == before


def test_the_command_adds_ready_vectors(folder_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"item_id": f"v{n}", "price": n}) + "\n" for n in range(3)))
    np.save(tmp_path / "text.npy", TEXT[:3])
    arguments = ["add", str(folder_copy), str(tmp_path / "new.jsonl"), "--vectors", f"text={tmp_path / 'text.npy'}"]
    assert main(arguments) == 0
    assert "3 items added to 36 in " in capsys.readouterr().out
    assert Recommender.load(folder_copy).items.row("v2")["price"] == 2.0
    assert main(arguments) == 2  # they are there now
    assert "the shop has item 'v0' already" in capsys.readouterr().err


def test_two_at_once_and_a_kill_leave_the_folder_whole(folder_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state_of(folder_copy)
    recommender = Recommender.load(folder_copy)
    lock = claimed(folder_copy.with_name(f".{folder_copy.name}.lock"))
    with pytest.raises(UserError, match="another command is changing this model folder"):
        recommender.add_items([like(3)])
    lock.close()
    for step in ("_write_json", "write_tensors", "write_manifest", "card_of"):
        with monkeypatch.context() as patch:
            patch.setattr(f"recbole_mmm4rec.model_folder.write.{step}", _killed)
            with pytest.raises(KeyboardInterrupt):
                recommender.add_items([like(3)])
        assert state_of(folder_copy) == before
        assert sorted(recommender.items.ids) == ITEMS
    recommender.add_items([like(3)])
    assert sorted(file.name for file in folder_copy.parent.iterdir()) == [folder_copy.name]


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_what_another_process_has_added_is_not_lost(folder_copy: Path) -> None:
    one, other = Recommender.load(folder_copy), Recommender.load(folder_copy)
    one.add_items([like(3)])
    other.add_items([like(4)])
    assert Recommender.load(folder_copy).items.ids[-2:] == other.items.ids[-2:] == ["n3", "n4"]
    with pytest.raises(UserError, match="already"):
        one.add_items([like(4)])


def test_what_else_lies_in_the_folder_stays(folder_copy: Path) -> None:
    """Somebody's notes, and an export, of which is said that it is of the model as it was."""
    (folder_copy / "notes.txt").write_text("mine")
    (folder_copy / "export").mkdir()
    (folder_copy / "export/index").write_text("of 36 items")
    (folder_copy / "link").symlink_to("notes.txt")
    added = Recommender.load(folder_copy).add_items([like(3)])
    assert added.notes == (
        f"{folder_copy}/export: of the model as it was; `mmm4rec export {folder_copy} --force` makes it anew",
    )
    assert (folder_copy / "notes.txt").read_text() == "mine"
    assert (folder_copy / "export/index").read_text() == "of 36 items"
    assert (folder_copy / "link").readlink() == Path("notes.txt")
    Recommender.load(folder_copy).add_items([like(4)])
    assert (folder_copy / "notes.txt").stat().st_nlink == 1  # the old folder is gone


def test_what_is_no_model_folder_is_never_replaced(
    folder_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    (tmp_path / "file").write_text("mine")
    recommender = Recommender.load(folder_copy)
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=f"{name}: is there already, and no model folder; name another place"):
            recommender.add_items([like(3)], output=tmp_path / name)
        with pytest.raises(UserError, match="no model folder"):
            recommender.save(tmp_path / name)
    assert (tmp_path / "mine/thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    recommender.save(tmp_path / "empty")
    assert len(Recommender.load(tmp_path / "empty").items) == len(ITEMS)


def test_a_link_stays_a_link(folder_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("model")
    Recommender.load(tmp_path / "current").add_items([like(3)])
    assert (tmp_path / "current").readlink() == Path("model")
    assert Recommender.load(folder_copy).items.ids[-1] == "n3"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["current", "model"]


def test_who_reads_while_another_adds_has_one_of_the_two(folder_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's folder takes the place of this one when the first file has been read."""
    waiting, check = [Recommender.load(folder_copy)], manifest.check_file

    def late(*given: Any) -> Path:
        found = check(*given)
        if waiting:
            waiting.pop().add_items([like(3)])
        return found

    monkeypatch.setattr("recbole_mmm4rec.model_folder.read.check_file", late)
    assert Recommender.load(folder_copy).items.ids[-1] == "n3"
    (folder_copy / "items.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"items\.parquet: has 0 bytes"):  # damage is told all the same
        Recommender.load(folder_copy)


def test_damaged_features_get_no_new_hash(folder_copy: Path) -> None:
    recommender = Recommender.load(folder_copy)
    file = folder_copy / "features/text.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"features/text\.safetensors: changed since it was written"):
        recommender.add_items([like(3)])


@steady
@given(
    content=rows(("item_id", "text", "image", "price"), ",") | rows(("item_id", "text"), "\t"),
    ending=st.sampled_from([".csv", ".tsv", ".jsonl"]),
)
def test_any_table_of_items(tmp_path_factory: pytest.TempPathFactory, content: str, ending: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_items"
    folder.mkdir(exist_ok=True)
    (folder / f"new{ending}").write_text(content, encoding="utf-8", newline="")
    told(lambda: read_items(folder / f"new{ending}", folder))


@pytest.mark.parametrize("name", ["x" * 1_000 + ".png", "a\0b", "../" * 40 + "etc/hostname", "/etc/hostname", "link"])
def test_a_name_of_a_picture_leads_to_no_other_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"items\[0\]: image .*(no such file|is outside of|leads out of)"):
        read_items([{"item_id": "a", "image": name}], tmp_path)


def test_vectors_whose_header_is_damaged(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((1, 12), np.float32))
    whole = (tmp_path / "v.npy").read_bytes()
    (tmp_path / "v.npy").write_bytes(whole.replace(b"(1, 12)", b"(1, 12("))
    with pytest.raises(UserError, match=r"v\.npy: no \.npy file of numbers \(has a damaged header\)"):
        read_items([{"item_id": "a", "text": "x"}], None, {"text": tmp_path / "v.npy"})
