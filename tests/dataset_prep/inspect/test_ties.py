"""Ties in time: told by the preparation, its record and the inspection."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from dataset_prep.cli import main
from dataset_prep.files.set_files import SetFiles
from dataset_prep.inspect.command import inspect_set
from recbole_mmm4rec.base.tied_times import order_of_ties

pytestmark = pytest.mark.usefixtures("own_folder")
ROWS = ["u,a,5", "v,b,5", "u,c,5", "u,d,9", "v,a,6"]  # in no order of users


def prepared(capsys: pytest.CaptureFixture[str], rows: list[str], *options: str) -> str:
    """What is said of a shop of these interactions."""
    Path("items.csv").write_text("item_id,text\n" + "".join(f"{name},text {name}\n" for name in "abcd"))
    Path("rows.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    command = ["table", "--interactions", "rows.csv", "--items", "items.csv", "--name", "shop", "--force"]
    assert main([*command, *options]) == 0
    return capsys.readouterr().out


def test_ties_in_time_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    said = prepared(capsys, ROWS)
    words = "20 % of the interactions share their time with the one before of their user"
    assert f"{words}: the order of the file decides" in said
    record = json.loads(Path("dataset/shop/shop.prep.json").read_text())
    assert record["interactions_at_the_time_of_the_one_before"] == 1
    assert record["order_inside_a_tie"] == "file"
    told = inspect_set("shop", Path("dataset"), cards=0)
    assert f"{words}: the order of the file decides" in told
    assert words in Path("dataset/shop/inspect.html").read_text()


def test_equal_times_stay_as_they_came(capsys: pytest.CaptureFixture[str]) -> None:
    """What a filter keeps, too; a repetition has the place of the first one."""
    rows = ["u,d,5", "v,b,5", "u,c,5", "u,a,9", "u,b,5", "u,c,5", "v,a,5"]
    prepared(capsys, rows)
    assert pairs() == ["u d", "u c", "u b", "u a", "v b", "v a"]
    prepared(capsys, rows, "--latest", "2")
    assert pairs() == ["u b", "u a", "v b", "v a"]


def pairs() -> list[str]:
    lines = Path("dataset/shop/shop.inter").read_text().splitlines()[1:]
    return [" ".join(line.split("\t")[:2]) for line in lines]


def test_ties_of_reviews_and_of_merged_sets(capsys: pytest.CaptureFixture[str]) -> None:
    """Reviews of one time stand in the order of item ids, and so they do in a set that is merged of them."""
    for name in ("shop", "other"):
        rows = "".join(f"{item},{name}{user},5.0,1500000000\n" for item in "dcba" for user in range(3))
        Path(f"{name}.csv").write_text(rows)
        command = ["amazon", "--reviews", f"{name}.csv", "--name", name, "--k-core", "0", "--no-require-text"]
        assert main(command) == 0
        assert "75 % of the interactions share their time" in capsys.readouterr().out
    assert pairs()[:4] == [f"shop0 {item}" for item in "abcd"]
    assert main(["merge", "shop", "other", "--name", "both"]) == 0
    record = json.loads(Path("dataset/both/both.prep.json").read_text())
    assert (record["interactions_at_the_time_of_the_one_before"], record["order_inside_a_tie"]) == (18, "item id")
    words = "75 % of the interactions share their time with the one before of their user: the order of item ids decides"
    assert words in capsys.readouterr().out
    assert words in inspect_set("both", Path("dataset"), cards=0)


@pytest.mark.parametrize(
    ("rows", "order"),
    [(["u,a,5", "u,b,6"], "item id"), (["u,b,5", "u,a,5", "v,a,6"], "file or item id")],
    ids=["none", "some"],
)
def test_sets_without_ties_say_nothing_of_the_order_of_others(
    capsys: pytest.CaptureFixture[str], rows: list[str], order: str
) -> None:
    prepared(capsys, rows)
    Path("reviews.csv").write_text("".join(f"{item},v,5.0,1500000000\n" for item in "dcba"))
    command = ["amazon", "--reviews", "reviews.csv", "--name", "other", "--k-core", "0", "--no-require-text"]
    assert main(command) == 0
    assert main(["merge", "shop", "other", "--name", "both"]) == 0
    assert json.loads(Path("dataset/both/both.prep.json").read_text())["order_inside_a_tie"] == order


def test_finer_times_than_seconds_are_an_order() -> None:
    reviews = [
        {"asin": item, "parent_asin": item, "user_id": "u", "timestamp": at, "rating": 5.0}
        for at, item in ((1_500_000_000_000, "d"), (1_500_000_000_100, "c"), (1_500_000_000_200, "b"))
    ]
    Path("reviews.jsonl").write_text("".join(json.dumps(review) + "\n" for review in reviews))
    command = ["amazon", "--reviews", "reviews.jsonl", "--name", "shop", "--k-core", "0", "--no-require-text"]
    assert main(command) == 0
    assert pairs() == ["u d", "u c", "u b"]
    assert "the order of the file decides" in inspect_set("shop", Path("dataset"), cards=0)


@pytest.mark.parametrize(
    ("source", "order"),
    [("table", "item id"), ("amazon", "item id"), ("sequences", "file"), ("merge", "file or item id")],
)
def test_sets_of_before_the_order_was_noted(source: str, order: str) -> None:
    Path("shop.prep.json").write_text(json.dumps({"source": source}))
    assert order_of_ties(Path("shop.prep.json")) == order


@pytest.mark.parametrize(
    "damage", ["", "[]", "no json", '{"order_inside_a_tie": ["x"]}', '{"order_inside_a_tie": "x"}']
)
def test_a_damaged_note_is_none(damage: str) -> None:
    Path("shop.prep.json").write_text(damage)
    assert order_of_ties(Path("shop.prep.json")) == "file"
    assert order_of_ties(Path("none.prep.json")) == "file"


def test_none_are_told_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "share their time" not in prepared(capsys, ROWS[1:])
    assert re.search(r"ties in time +none", inspect_set("shop", Path("dataset"), cards=0))


def test_rows_without_a_user_or_an_item_are_told_and_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    prepared(capsys, ROWS)
    with Path("dataset/shop/shop.inter").open("a") as handle:
        handle.write("NA\ta\t5\nu\t\t5\nu\tnan\t5\n")
    told = inspect_set("shop", Path("dataset"), cards=0)
    assert re.search(r"users +2\nitems +4\ninteractions +5\n", told)
    assert re.search(r"left out +3 interactions without a user or an item", told)
    files = SetFiles("shop", Path("dataset/shop"))
    assert files.interacted() == set("abcd")


def test_ties_of_a_set_of_recbole_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recbole", "ml-100k"]) == 0
    said = capsys.readouterr().out
    assert "51 % of the interactions share their time with the one before of their user: the order of the file" in said
    rows = pd.read_csv("dataset/ml-100k/ml-100k.inter", sep="\t").iloc[:, [0, 3]]
    record = json.loads(Path("dataset/ml-100k/ml-100k.prep.json").read_text())
    assert record["interactions_at_the_time_of_the_one_before"] == rows.duplicated().sum()
