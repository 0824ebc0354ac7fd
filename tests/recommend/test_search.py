"""Items by words and pictures, alone and with a history; encoders are stand-ins, so that nothing is fetched."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_shop import ITEMS, NO_PICTURE, NO_TEXT, USES, shape_of
from PIL import Image

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.encoders.pictures import read_picture
from recbole_mmm4rec.recommend import encoders
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.results import Recommendations
from recbole_mmm4rec.recommend.search import beside_history, standardised

SHAPES = [shape_of(number) for number in range(6)]


class Words:
    """Words to the same vectors as the shop's texts: one number a shape, one a use."""

    loads = 0

    def __init__(self, *_: Any) -> None:
        type(self).loads += 1

    def prepare(self, source: Any) -> Any:
        assert source == " ".join(source.split())
        return source

    def encode(self, prepared: Any) -> np.ndarray:
        return np.array([[float(word in text.split()) for word in [*SHAPES, *USES]] for text in prepared])


class Colours(Words):
    """A picture whose red is 10 n shows shape n."""

    def prepare(self, source: Any) -> Any:
        picture: Any = read_picture(source)
        return picture.getpixel((0, 0))[0] // 10

    def encode(self, prepared: Any) -> np.ndarray:
        return np.eye(6)[list(prepared)]


def picture(shape: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (10 * shape, 0, 0))


def file_of(shape: int) -> bytes:
    made = io.BytesIO()
    picture(shape).save(made, "PNG")
    return made.getvalue()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(made: Any, name: str | None = None, device: str = "auto") -> Any:
        if name == "nowhere":
            raise UserError(f"the {made['modality']} encoder of this shop, {made['encoder']}: no such folder")
        return (Words if made["modality"] == "text" else Colours)()

    monkeypatch.setattr(encoders, "encoder_of", load)


@pytest.fixture
def recommender(model_folder: Path) -> Recommender:
    return Recommender.load(model_folder)


def ids(found: Recommendations) -> list[str]:
    return [entry.item for entry in found.items]


def test_words_find_the_items_of_that_text(recommender: Recommender) -> None:
    for number in (0, 13, 35):
        found = recommender.search(f"  {shape_of(number)} for the\n{USES[number // 6]}", k=3)
        assert ids(found)[0] == ITEMS[number]
        assert 0.9 < found.items[0].score <= 1 + 1e-6
        assert found.items[0].text == f"{shape_of(number)} for the {USES[number // 6]}"
    every = recommender.search("square", k=36)
    assert set(ids(every)[:5]) <= set(ITEMS[2::6])
    assert set(ids(every)) == set(ITEMS) - set(NO_TEXT)
    assert every.notes == ("only 35 items are left to choose from",)


def test_ready_vectors_stand_for_words(recommender: Recommender) -> None:
    vector = Words().encode(["square for the garden"])[0]
    asked = recommender.search(vectors={"text": vector})
    assert asked == recommender.search("square for the garden")
    assert recommender.search(image=picture(1), vectors={"text": vector}) == recommender.search(
        "square for the garden", image=picture(1)
    )
    for vectors, line in (
        ({"text": vector[1:]}, "text: the query's vector has the shape (11,); 12 numbers are wanted"),
        ({"text": [float("nan")] * 12}, "text: the query's vector has a number that is none"),
        ({"sound": vector}, "sound: this model has no sound of its items; search by text or image"),
    ):
        with pytest.raises(UserError) as error:
            recommender.search(vectors=vectors)
        assert str(error.value) == line


@pytest.mark.parametrize("kind", ["bytes", "path", "pil", "bytearray"])
def test_a_picture_finds_the_items_that_look_like_it(recommender: Recommender, tmp_path: Path, kind: str) -> None:
    (tmp_path / "p.png").write_bytes(file_of(3))
    given = {"bytes": file_of(3), "path": tmp_path / "p.png", "pil": picture(3), "bytearray": bytearray(file_of(3))}
    found = recommender.search(image=given[kind], k=6)
    assert set(ids(found)) == set(ITEMS[3::6])
    assert not set(NO_PICTURE) & set(ids(recommender.search(image=given[kind], k=34)))


def test_words_and_a_picture_add_up(recommender: Recommender) -> None:
    found = recommender.search("garden", image=picture(2), k=36)
    assert ids(found)[0] == "k02"
    assert len(found.items) == 36  # k05 by its text, k30 by its picture
    words, shapes = (recommender.search(**asked, k=36) for asked in ({"text": "garden"}, {"image": picture(2)}))
    total = dict.fromkeys(ITEMS, 0.0)
    for part in (words, shapes):
        values = np.array([entry.score for entry in part.items])
        for name, value in zip(ids(part), (values - values.mean()) / values.std(), strict=True):
            total[name] += value
    for entry in found.items:
        assert entry.score == pytest.approx(total[entry.item], abs=1e-4)


def test_a_history_is_added(recommender: Recommender) -> None:
    history, times = ["k00", "k06", "k07"], [1, 2, 3]
    found = recommender.search("office", k=35, history=history, timestamps=times)
    query = {entry.item: entry.score for entry in recommender.search("office", k=35).items}
    scores = recommender.scores(history, timestamps=times)[0]
    liked = dict(zip(recommender.items.ids, (scores - scores.mean()) / scores.std(), strict=True))
    values = np.array(list(query.values()))
    for entry in found.items:
        wanted = (query[entry.item] - values.mean()) / values.std() + liked[entry.item]
        assert entry.score == pytest.approx(wanted, abs=1e-4)
    assert found.notes == ()
    office = [item for item in ids(found) if item in ITEMS[12:18]]
    assert office == sorted(office, key=lambda item: -found.items[ids(found).index(item)].score)
    assert recommender.search("office", history=history).notes[0].startswith("no time stamps were given")


def test_a_history_that_the_shop_does_not_know(recommender: Recommender) -> None:
    found = recommender.search("office", k=3, history=["x"])
    assert found.unknown == ("x",)
    assert found.notes == ("the shop has none of the history's items: the query alone counts",)
    assert found.items == recommender.search("office", k=3).items
    assert recommender.search("office", k=3, history=[]) == recommender.search("office", k=3)


def test_more_of_a_part_never_lowers_an_item() -> None:
    query, liked = torch.tensor([-torch.inf, 0.1, 0.5, -torch.inf, 0.2]), torch.tensor([3.0, 1.0, 9.0, 2.0])
    found = beside_history(query, liked)
    assert torch.isinf(found).tolist() == [True, False, False, True, False]
    more = beside_history(query + torch.tensor([0, 0.05, 0, 0, 0]), liked)
    assert more[1] > found[1]
    assert standardised(torch.tensor([2.0, 2.0, -torch.inf])).tolist() == [0, 0, -torch.inf]
    assert standardised(torch.tensor([-torch.inf])).tolist() == [-torch.inf]


def test_items_to_choose_from(recommender: Recommender) -> None:
    kitchen = recommender.search("square", k=36, where={"category": "kitchen"}, exclude=["k08"])
    assert set(ids(kitchen)) == set(ITEMS[6:12]) - {"k08"}
    assert ids(recommender.search("square", k=2, only=["k01", "k02"])) == ["k02", "k01"]
    assert recommender.search("square", k=2, only=NO_TEXT).notes == ("no item is left to choose from",)


def test_encoders_are_loaded_once(recommender: Recommender) -> None:
    before = Words.loads, Colours.loads
    for _ in range(2):
        recommender.search("square", k=1)
        recommender.search("square", image=picture(0), k=1)
    assert (Words.loads, Colours.loads) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "search: nothing is asked for; give text, image, or both"),
        ({"text": ""}, "text: the query is empty; give words"),
        ({"text": " \n"}, "text: the query is empty; give words"),
        ({"text": 7}, "text='7': must be words"),
        ({"image": b""}, "image: empty file"),
        ({"image": b"no picture"}, "image: no known picture format"),
        ({"image": file_of(1)[:45]}, "image: damaged"),
        ({"image": Path("nowhere.jpg")}, "image nowhere.jpg: cannot be read (No such file or directory)"),
        ({"image": "/etc/passwd"}, "image='/etc/passwd': must be a file's bytes, its Path, or a PIL image"),
        ({"text": "a", "k": 0}, "k=0: must be 1 to 36"),
        ({"text": "a", "history": "k00"}, "'k00' is no list of item ids"),
        ({"text": "a", "history": ["k00"], "timestamps": [1, 2]}, "timestamps: 2 for 1 items"),
        ({"text": "a", "where": {"colour": "red"}}, "the items have no column 'colour'"),
    ],
)
def test_mistakes_are_told_in_one_line(recommender: Recommender, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as told:
        recommender.search(**given)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_shop_without_pictures_is_told(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recommender, "modalities", ("text",))
    with pytest.raises(UserError, match="image: this model has no pictures of its items; search by text"):
        recommender.search(image=file_of(1))


def test_vectors_that_were_brought_have_no_encoder(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match="image: the vectors of this shop were brought ready-made"):
        Recommender.load(model_folder).search(image=file_of(1))


def test_the_command(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(model_folder), "--text", "ring kitchen", "--k", "2", "--history", "k00 x"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "after  k00  disc for the garden"
    assert any("k07  " in line for line in shown[3:5])
    assert "not in the shop, left out: x" in shown
    (tmp_path / "p.png").write_bytes(file_of(4))
    given = ["search", str(model_folder), "--image", str(tmp_path / "p.png"), "--k", "6", "--json"]
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["item"] for entry in found["items"]} == set(ITEMS[4::6])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--text or --image is missing"),
        (["--text", ""], "text: the query is empty"),
        (["--image", "nowhere.jpg"], "image nowhere.jpg: cannot be read"),
        (["--text", "ring", "--text-encoder", "nowhere"], "the text encoder of this shop, drawn: no such folder"),
    ],
)
def test_the_commands_mistakes(
    model_folder: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(model_folder), *given]) == 2
    assert message in capsys.readouterr().err
