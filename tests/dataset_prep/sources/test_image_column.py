"""Where an item's picture is, from a column or from a folder of files named by item."""

from __future__ import annotations

from pathlib import Path

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
