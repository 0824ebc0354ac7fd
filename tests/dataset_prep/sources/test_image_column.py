"""Where an item's picture is, from a column or from a folder of files named by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typed import run

TABLE = "table --interactions i.csv --items p.csv --name shop"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("i.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,b,2\nu,z,3\n")
    Path("p.csv").write_text(
        "item_id,text,picture\na,A,https://x/a.jpg  https://x/s.jpg\nb,B,\nc,C,sub/c.png\na,later,no\n"
    )
    Path("s.csv").write_text("user_id,item_ids\nu,a b z\n")
    Path("pictures/more").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "b.JPEG", "c.gif", "z.webp", "unknown.jpg", "b.txt", "more/b.jpg"):
        Path("pictures", name).write_bytes(b"")
    Path("pictures/z.jpg").mkdir()
    return tmp_path


def item_lines(name: str = "shop") -> list[str]:
    return Path(f"dataset/{name}/{name}.item").read_text().splitlines()


@pytest.mark.parametrize("source", [TABLE, "sequences --sequences s.csv --items p.csv --name shop"])
def test_a_column_of_addresses(files: Path, capsys: pytest.CaptureFixture[str], source: str) -> None:
    assert run(f"{source} --columns image=picture") == 0
    assert item_lines() == [
        "item_id:token\ttext:token_seq\timage:token",
        "a\tA\thttps://x/a.jpg https://x/s.jpg",
        "b\tB\t",
        "c\tC\tsub/c.png",
        "z\t\t",
    ]
    assert "2 items with image" in capsys.readouterr().out


@pytest.mark.parametrize("source", [TABLE, "sequences --sequences s.csv --items p.csv --name shop"])
def test_a_folder_of_pictures_named_by_item(files: Path, source: str) -> None:
    assert run(f"{source} --images pictures") == 0
    assert [line.split("\t")[2] for line in item_lines()[1:]] == ["a.jpg", "b.JPEG", "c.gif", "z.webp"]
    assert str(files) not in Path("dataset/shop/shop.prep.json").read_text()


def test_without_being_asked_there_is_no_such_column(files: Path) -> None:
    assert run(TABLE) == 0
    assert item_lines()[:2] == ["item_id:token\ttext:token_seq", "a\tA"]


ROWS = [{"item_id": "a", "text": "A", "image": "https://x/a.jpg"}, {"item_id": "b", "text": "B", "image": None}]


def write_items(file: str, rows: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(rows)
    if file.endswith("csv"):
        frame.to_csv(file, index=False)
    elif file.endswith("jsonl"):
        Path(file).write_text("".join(json.dumps({k: v for k, v in row.items() if v}) + "\n" for row in rows))
    else:
        frame.to_parquet(file)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["table --interactions i.csv", "sequences --sequences s.csv"])
def test_a_column_called_image_needs_no_naming(
    files: Path, capsys: pytest.CaptureFixture[str], source: str, kind: str
) -> None:
    write_items(f"q.{kind}", ROWS)
    assert run(f"{source} --items q.{kind} --name shop") == 0
    assert item_lines()[:3] == ["item_id:token\ttext:token_seq\timage:token", "a\tA\thttps://x/a.jpg", "b\tB\t"]
    named = Path("dataset/shop/shop.prep.json").read_bytes()
    assert "1 items with image" in capsys.readouterr().out
    assert run(f"{source} --items q.{kind} --name shop --columns image=image") == 0
    assert Path("dataset/shop/shop.prep.json").read_bytes() == named
    capsys.readouterr()
    assert run(f"{source} --items q.{kind} --name other --images pictures") == 0
    assert "column 'image' of the item table is not used, for pictures are named by --images" in capsys.readouterr().out
    assert item_lines("other")[1] == "a\tA\ta.jpg"


@pytest.mark.parametrize(
    "file",
    [
        ("q.jsonl", [{"item_id": "a", "text": "A", "image": ["https://x/a.jpg"]}, {"item_id": "b", "text": "B"}]),
        ("q.parquet", [{"item_id": "a", "text": "A", "image": {"bytes": b"\xff"}}]),
        ("q.csv", [{"item_id": "a", "text": "A", "image": ""}]),
        ("q.csv", [{"item_id": "a", "text": "A", "title": "T"}]),
    ],
)
def test_a_column_that_says_of_no_picture_where_it_is_is_none(files: Path, file: tuple[str, Any]) -> None:
    write_items(*file)
    assert run(f"table --interactions i.csv --items {file[0]} --name shop") == 0
    assert item_lines()[:2] == ["item_id:token\ttext:token_seq", "a\tA"]
    assert "image" not in Path("dataset/shop/shop.prep.json").read_text()


def test_a_column_called_image_may_be_something_else(files: Path) -> None:
    write_items("q.csv", ROWS)
    assert run("table --interactions i.csv --items q.csv --name shop --columns text=image") == 0
    assert item_lines()[:2] == ["item_id:token\ttext:token_seq", "a\thttps://x/a.jpg"]


def test_pictures_for_a_set_of_recbole(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures/50.jpg").write_bytes(b"")
    assert run("recbole ml-100k --images pictures") == 0
    head, *lines = item_lines("ml-100k")
    assert head.endswith("\ttext:token_seq\timage:token")
    assert [line.split("\t")[0] for line in lines if not line.endswith("\t")] == ["50"]
    assert lines[49].endswith("Star Wars (1977). Action Adventure Romance Sci-Fi War.\t50.jpg")
    assert "1 items with image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--images none", "--images none: no such folder"),
        ("--images pictures/more --k-core 9", "'9-core' removed the last 3 interactions"),
        ("--images dataset_of_none", "--images dataset_of_none: no picture of any item"),
        ("--images pictures --columns image=picture", "--columns names an image column, too; give one of the two"),
        ("--columns image=pictur", "no column 'pictur' among item_id, text, picture; did you mean 'picture'?"),
    ],
)
def test_mistakes_are_one_line(files: Path, capsys: pytest.CaptureFixture[str], options: str, said: str) -> None:
    Path("dataset_of_none").mkdir()
    assert run(f"{TABLE} {options}") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("dataset").exists()
