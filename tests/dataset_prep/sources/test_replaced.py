"""What becomes of pictures and vectors when another set takes the place of theirs, or the same set comes anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_server import picture
from typed import run

from dataset_prep.images.files import find_pictures, picture_stem
from dataset_prep.images.report import EMBED, Missing, read_report, report_path, write_report
from recbole_mmm4rec.features.manifest import Manifest

pytestmark = pytest.mark.usefixtures("own_folder")
SHOP = Path("dataset/shop")
STORES = ("features/text", "features/image")


def write(items: dict[str, tuple[str, str]]) -> None:
    """Tables of items, each a text and an image."""
    Path("i.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,{item},{item}\n" for item in items))
    rows = "".join(f"{item},{text},{image}\n" for item, (text, image) in items.items())
    Path("p.csv").write_text("item_id,text,picture\n" + rows)


def prepare(items: dict[str, tuple[str, str]], options: str = "--columns image=picture") -> None:
    write(items)
    assert run(f"table --interactions i.csv --items p.csv --name shop --force {options}") == 0


def folder_of(kind: str, size: int) -> None:
    Path(kind).mkdir()
    for item in "123":
        Path(kind, f"{item}.jpg").write_bytes(picture(kind="JPEG", size=(size, size)))


def pictures() -> dict[str, bytes]:
    found = find_pictures(SHOP / "images")
    return {item: found[picture_stem(item)].read_bytes() for item in "1234" if picture_stem(item) in found}


def put_pictures(items: str) -> None:
    (SHOP / "images").mkdir()
    for item in items:
        (SHOP / "images" / f"{picture_stem(item)}.png").write_bytes(item.encode())


def bring_vectors() -> None:
    np.savez("v.npz", ids=np.array(["1", "2", "3"]), table=np.ones((3, 4), np.float32))
    assert run("vectors shop --text v.npz --image v.npz") == 0


def stores() -> list[str]:
    return [store for store in STORES if (SHOP / store).exists()]


def test_cars_get_no_pictures_of_shoes(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, size in (("shoes", 8), ("cars", 9)):
        folder_of(kind, size)
        prepare({item: (f"{kind} {item}", "") for item in "123"}, f"--images {kind}")
        assert run(f"images shop --images {kind}") == 0
        assert "3 of 3 items have a picture, 3 of them new" in capsys.readouterr().out
        assert pictures() == {item: Path(kind, f"{item}.jpg").read_bytes() for item in "123"}
    assert run("images shop --images cars") == 0
    assert "3 of 3 items have a picture, 0 of them new" in capsys.readouterr().out


def test_a_local_picture_of_another_kind_takes_the_place_of_the_old() -> None:
    folder_of("shoes", 8)
    prepare({"1": ("shoe", "1.jpg")})
    assert run("images shop --images shoes") == 0
    Path("shoes/1.jpg").write_bytes(picture(kind="PNG"))
    assert run("images shop --images shoes") == 0
    assert [file.suffix for file in (SHOP / "images").iterdir()] == [".png"]


def test_only_pictures_of_items_that_are_others_or_gone_are_removed(caplog: pytest.LogCaptureFixture) -> None:
    prepare({"1": ("a", "https://x/red"), "2": ("b", "https://x/b"), "3": ("c", ""), "4": ("d", "")})
    put_pictures("1234")
    write_report(report_path(SHOP), [Missing(item, EMBED, "damaged") for item in "1234"])
    prepare({"1": ("a", "https://x/blue"), "2": ("another text", "https://x/b"), "3": ("c", "")})
    assert pictures() == {"2": b"2", "3": b"3"}
    assert list(read_report(report_path(SHOP))) == ["2", "3"]
    assert "dataset/shop: removed, for it belonged to the set before: 2 pictures" in caplog.text


def test_vectors_that_nothing_checks_go_with_their_items(caplog: pytest.LogCaptureFixture) -> None:
    items = {item: (f"shoe {item}", "") for item in "123"}
    prepare(items)
    bring_vectors()
    (SHOP / "features/.cache").mkdir()
    for suffix in ("textfeat", "user"):
        (SHOP / f"shop.{suffix}").write_text("user_id:token\nu\n")
    prepare({item: (f"car {item}", "") for item in "123"})
    assert stores() == []
    assert (SHOP / "features/.cache").exists()
    assert not list(SHOP.glob("shop.*feat")) + list(SHOP.glob("*.user"))
    assert "before: shop.textfeat, features/text, features/image, shop.user" in caplog.text


def test_a_shop_that_grows_keeps_its_vectors(caplog: pytest.LogCaptureFixture) -> None:
    items = {item: (f"shoe {item}", "") for item in "123"}
    prepare(items)
    bring_vectors()
    prepare({**{item: items[item] for item in "12"}, "4": ("a new shoe", "")})
    assert stores() == list(STORES)
    assert not caplog.text
    prepare({"7": ("of a set without any of these items", "")})
    assert stores() == []


def test_texts_that_training_checks_stay_for_its_message() -> None:
    prepare({item: (f"shoe {item}", "") for item in "123"})
    bring_vectors()
    file = SHOP / "features/text/manifest.json"
    known = Manifest.from_json(file.read_text())
    file.write_text(Manifest(**{**vars(known), "input_hash": "of the texts"}).to_json())
    prepare({item: (f"car {item}", "") for item in "123"})
    assert stores() == ["features/text"]
    file.write_text(Manifest(**{**vars(known), "input_hash": "x", "settings": {"column": "title"}}).to_json())
    prepare({item: (f"bus {item}", "") for item in "123"})  # without a column title nothing is checked
    assert stores() == []


def test_the_same_set_again_removes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    prepare({item: (f"shoe {item}", "") for item in "123"})
    bring_vectors()
    put_pictures("123")
    (SHOP / "shop.user").write_text("user_id:token\nu\n")
    (SHOP / "shop.inter").unlink()
    prepare({item: (f"shoe {item}", "") for item in "123"})
    assert (len(pictures()), stores(), (SHOP / "shop.user").exists()) == (3, list(STORES), True)
    assert not caplog.text


def test_a_set_that_nobody_can_read_is_replaced() -> None:
    SHOP.mkdir(parents=True)
    (SHOP / "shop.item").write_text("name:token\na\n")
    prepare({"1": ("a", "")})
    assert (SHOP / "shop.item").read_text().startswith("item_id:token")
