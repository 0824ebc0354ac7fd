"""Lists for all users of a file: three kinds of files, a kill in the middle, and rows that cannot be read."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_input import rows, steady, told
from hypothesis import given
from hypothesis import strategies as st
from shop import python

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend import batch
from recbole_mmm4rec.recommend.batch import recommend_file
from recbole_mmm4rec.recommend.command import main
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.user_files import read_users

USERS = [
    ("ann", ["k00", "k06"], [1_610_000_000, 1_610_003_600]),
    ("bob", ["k01", "zz"], None),
    ("cy", ["nothing"], None),
    ("dee, jr.", [f"k{number:02d}" for number in range(12)], None),
    ("eve", [], None),
]


@pytest.fixture(scope="module")
def recommender(model_folder: Path) -> Recommender:
    return Recommender.load(model_folder)


def write(file: Path, users: list[tuple[str, list[str], Any]] = USERS) -> Path:
    if file.suffix == ".csv":
        with file.open("w", newline="") as out:
            rows = [(name, " ".join(items), " ".join(map(str, times or ()))) for name, items, times in users]
            csv.writer(out).writerows([("user_id", "history", "timestamps"), *rows])
    elif file.suffix == ".jsonl":
        records = [{"user_id": name, "history": items, "timestamps": times} for name, items, times in users]
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        names = ("user_id", "history", "timestamps")
        pq.write_table(pa.table(dict(zip(names, map(list, zip(*users, strict=True)), strict=True))), file)
    return file


def read(file: Path) -> dict[str, list[str]]:
    """User to the items of the list."""
    found: dict[str, list[str]] = {}
    if file.suffix == ".jsonl":
        for line in file.read_text().splitlines():
            record = json.loads(line)
            found[record["user_id"]] = [entry["item"] for entry in record["items"]]
        return found
    rows = csv.DictReader(file.open(newline="")) if file.suffix == ".csv" else pq.read_table(file).to_pylist()
    for row in rows:
        found.setdefault(row["user_id"], []).append(row["item_id"])
        assert int(row["rank"]) == len(found[row["user_id"]])
    return found


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_lists(recommender: Recommender, tmp_path: Path, ending: str) -> None:
    source, target = write(tmp_path / f"users{ending}"), tmp_path / f"lists{ending}"
    done = recommend_file(recommender, source, target, 4, show_progress=False, exclude=["k03"])
    assert (done.users, done.popular, done.unknown, done.kept) == (5, 2, 2, 0)
    found = read(target)
    for name, history, times in USERS:
        wanted = recommender.recommend(history, 4, timestamps=times, exclude=["k03"])
        assert found[name] == [entry.item for entry in wanted.items], name
    assert sorted(file.name for file in tmp_path.iterdir()) == [target.name, source.name]


def test_a_killed_command_goes_on(
    model_folder: Path, recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed (-9) while it writes the third part; the parts before are kept, and the result is that of one go."""
    users = [(f"u{number}", [f"k{number % 36:02d}"], None) for number in range(23)]
    source, target = write(tmp_path / "users.csv", users), tmp_path / "lists.csv"
    program = f"""
import os, signal
from pathlib import Path
from recbole_mmm4rec.recommend import batch
from recbole_mmm4rec.recommend.recommender import Recommender
batch.USERS = 5
write, count = batch._write_part, [0]
def dying(file, some, lists):
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(file, some, lists)
batch._write_part = dying
batch.recommend_file(Recommender.load({str(model_folder)!r}), Path({str(source)!r}), Path({str(target)!r}), 3, False)
"""
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists()
    monkeypatch.setattr(batch, "USERS", 5)
    again = recommend_file(recommender, source, target, 3, False)
    assert (again.users, again.kept) == (23, 10)
    recommend_file(recommender, source, tmp_path / "whole.csv", 3, False)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert os.listdir(tmp_path).count("lists.csv") == 1
    assert not list(tmp_path.glob(".*"))


def test_parts_of_another_request_are_not_taken(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "users.csv"), tmp_path / "lists.csv"
    monkeypatch.setattr(batch, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        recommend_file(recommender, source, target, 3, False)
    monkeypatch.undo()
    assert recommend_file(recommender, source, target, 4, False).kept == 0
    assert len(read(target)["ann"]) == 4


BAD: list[tuple[str, str, str]] = [
    ("users.csv", "user,history\na,k01\n", "users.csv, line 1: no column 'user_id'"),
    ("users.csv", "user_id,histroy\na,k01\n", "no column 'history'; did you mean 'histroy'?"),
    ("users.csv", "user_id,history\na,k01\nb\n", "users.csv, line 3: 1 fields where the header has 2"),
    ("users.csv", "user_id,history\n,k01\n", "users.csv, line 2: user_id is empty"),
    ("users.csv", "user_id,history,timestamps\na,k01,5\nb,k01 k02,9 3\n", "users.csv, line 3: timestamps: 3 stands"),
    ("users.csv", "user_id,history,timestamps\na,k01 k02,now then\n", "line 2: timestamps: 'now' is no whole number"),
    ("users.csv", "", "users.csv, line 1: no column 'user_id'; it has none"),
    ("users.jsonl", '{"user_id": "a", "history": ["k01"]}\n{"user_id"', "users.jsonl, line 2: is cut off or no JSON"),
    ("users.jsonl", "[1]\n", "users.jsonl, line 1: is no JSON object"),
    ("users.jsonl", '{"user_id": "a", "history": 5}\n', "line 1: history is no list of item ids: '5'"),
    ("users.jsonl", '{"user_id": "a", "items": []}\n', "users.jsonl, line 1: no column 'history'"),
    ("users.parquet", "none", "users.parquet: no Parquet file, or cut off"),
    ("users.csv", 'user_id,history\na,k01\nb,"k01\nc,k02\n', "users.csv, line 3: malformed CSV (unexpected end"),
    ("users.csv", "user_id,history,history\na,k01,k02\n", "users.csv, line 1: column 'history' is there 2 times"),
    ("users.csv", f"user_id,history,timestamps\na,k01,{'9' * 5_000}\n", "is no whole number of seconds"),
    ("users.jsonl", '{"user_id": true, "history": []}\n', "line 1: user_id holds a bool; text or a number is wanted"),
    ("users.jsonl", '{"user_id": "a", "history": ["k01", null]}\n', "line 1: history[1] is empty"),
    ("users.jsonl", '{"user_id": "a", "history": [false]}\n', "line 1: history[0] holds a bool"),
    ("users.jsonl", '{"user_id": "\\ud800", "history": []}\n', "holds half of a character"),
    ("users.jsonl", '{"user_id": "a", "history": ["\\ud800"]}\n', "history[0] '\\ud800' holds half of a character"),
    ("users.txt", "a", "the name must end with .csv, .jsonl, .parquet"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_rows_that_cannot_be_read_are_told(
    recommender: Recommender, tmp_path: Path, name: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as told:
        recommend_file(recommender, tmp_path / name, tmp_path / "lists.csv", 3)
    assert message in str(told.value)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert capsys.readouterr().err == ""  # no bar of nothing above the line


def test_the_command_says_what_it_did(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path / "users.jsonl"), tmp_path / "lists.csv"
    assert main([str(model_folder), "--input", str(source), "--output", str(target), "--k", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{target}: lists for 5 users"
    assert "2 have the shop's popular items" in told[1]
    (tmp_path / "folder.csv").mkdir()
    for more, message in (
        (["--input", str(source)], "--input and --output go together"),
        (["--input", str(source), "--output", str(source)], "is the input itself"),
        (["--input", str(source), "--output", str(tmp_path / "folder.csv")], "folder.csv: is a folder; name a file"),
        (["--input", str(source), "--output", str(target), "--history", "k01"], "--history does not go with --input"),
        (["--input", str(tmp_path / "no.csv"), "--output", str(target)], "there is no such file"),
    ):
        assert main([str(model_folder), *more]) == 2
        assert message in capsys.readouterr().err


def test_ids_that_the_shop_does_not_have_are_told_once(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--input", str(write(tmp_path / "users.csv")), "--output", str(tmp_path / "lists.csv")]
    assert main([str(model_folder), *files, "--exclude", "k3", "--only", "k07 k8", "--json"]) == 0
    told = capsys.readouterr()
    notes = ["only: the shop does not have 'k8'", "exclude: the shop does not have 'k3'"]
    assert told.err.splitlines() == [f"warning: {note}" for note in notes]
    assert json.loads(told.out)["notes"] == notes


def test_a_folder_is_no_output_before_anything_is_computed(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_lists", lambda *_: pytest.fail("lists were computed"))
    (tmp_path / "lists.csv").mkdir()
    with pytest.raises(UserError, match=r"lists\.csv: is a folder; name a file"):
        recommend_file(recommender, write(tmp_path / "users.csv"), tmp_path / "lists.csv")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_ids_that_pandas_made_floats(tmp_path: Path, ending: str) -> None:
    users: Any = [(1.0, [12.0, 13.0], None), (2.0, [], None)]
    found = [(user.name, user.history) for user in read_users(write(tmp_path / f"users{ending}", users))]
    assert found == [("1", ["12", "13"]), ("2", [])]


@pytest.mark.parametrize("damage", ["job.json", "part-000000.json"])
def test_damaged_parts_of_an_earlier_command_are_made_again(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    source, target = write(tmp_path / "users.csv"), tmp_path / "lists.csv"
    monkeypatch.setattr(batch, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for content in (b"\xff\xfe", b"[" * 100_000, b'{"users": "two"}', b"{}"):
        with pytest.raises(KeyboardInterrupt):
            recommend_file(recommender, source, target, 3, False)
        (tmp_path / ".lists.csv.parts" / damage).write_bytes(content)
    monkeypatch.undo()
    assert recommend_file(recommender, source, target, 3, False).kept == 0
    assert len(read(target)["ann"]) == 3


@steady
@given(
    content=rows(("user_id", "history", "timestamps"), ",").map(str.encode) | st.binary(max_size=50),
    ending=st.sampled_from([".csv", ".jsonl", ".parquet"]),
)
def test_any_file_of_users(tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any_users{ending}"
    file.write_bytes(content)
    line = told(lambda: list(read_users(file)))
    assert line is None or str(file) in line


def test_a_history_of_100_000_items(tmp_path: Path) -> None:
    """More characters than Python's CSV reader takes in a field by itself; what is damaged is told."""
    history = " ".join(["k01", "k02"] * 50_000)
    (tmp_path / "users.csv").write_text(f"user_id,history\nbusy,{history}\n")
    (user,) = read_users(tmp_path / "users.csv")
    assert (len(user.history), user.history[-1]) == (100_000, "k02")
    (tmp_path / "bare.csv").write_bytes(b'user_id,history\nbusy,a\rb\rc\nother"\r\n,')
    with pytest.raises(UserError, match=r"bare\.csv"):
        list(read_users(tmp_path / "bare.csv"))
