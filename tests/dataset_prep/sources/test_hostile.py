"""Files that are broken, or made to do harm: every one is reported in a line, and nothing leaves the folder."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from amazon_files import make_reviews, meta_record, review_record, to_line, write, write_year
from any_input import JSON, few, rows, steady, told
from hypothesis import given
from hypothesis import strategies as st
from typed import run

from dataset_prep.cli import main
from dataset_prep.sources.amazon.layouts import csv_row
from dataset_prep.sources.amazon.lines import MAX_LINE, UnusableError, parse_record
from dataset_prep.sources.sequences import prepare_sequences

AMAZON = "amazon --reviews reviews --meta meta --name shop"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_year(folder, 2018)
    return folder


def review(user: object = "A1", item: object = "B000000001", second: object = 1_400_000_000) -> str:
    return to_line({"reviewerID": user, "asin": item, "unixReviewTime": second, "overall": 5.0})


def unusable_reviews() -> dict[str, tuple[bytes, str]]:
    """Lines by name, with what is said of each."""
    return {
        "code": (b"__import__('os').system('touch hacked')\n", "no object"),
        "code in a literal": (
            b"{'reviewerID': __import__('os').system('touch hacked'), 'asin': 'B1', 'unixReviewTime': 1}\n",
            "neither JSON nor a Python literal",
        ),
        "path": (review(item="../../B000000001").encode(), "item id '../../B000000001' is not 1 to 64 letters"),
        "absolute path": (review(user="/etc/passwd").encode(), "user id '/etc/passwd' is not 1 to 64 letters"),
        "NUL": (review(item="B\0001").encode(), "item id 'B\\x001' is not"),
        "raw NUL": (review().encode().replace(b"B000000001", b"B\0"), "neither JSON nor a Python literal"),
        "TAB": (review(item="B\t1").encode(), "item id 'B\\t1' is not"),
        "10 kB": (review(item="B" * 10_000).encode(), "item id 'BBBB"),
        "missing value": (review(user="NA").encode(), "user id 'NA' is a word that RecBole reads as a missing value"),
        "true": (review(user=True).encode(), "no user id"),
        "list": (review(item=["B1"]).encode(), "no item id"),
        "null": (review(item=None).encode(), "no item id"),
        "empty": (review(item="").encode(), "no item id"),
        "latin-1": (review(user="Am").encode().replace(b"Am", b"Am\xe9lie"), "no UTF-8"),
        "latin-1 elsewhere": (b'{"summary": "\xe9tude", ' + review()[1:].encode(), "no UTF-8"),
        "surrogate": (review(user="A\ud800").encode(), "user id 'A\\ud800' is not"),
        "milliseconds": (
            review(second=1_400_000_000_000).encode(),
            "timestamp '1400000000000' is too large to count s; it looks like ms: add --time-unit ms",
        ),
        "negative": (review(second=-5).encode(), "timestamp '-5' is negative"),
        "date": (review(second="2014-05-13").encode(), "timestamp '2014-05-13' is a date"),
        "no time": (review(second=None).encode(), "no timestamp"),
        "true time": (review(second=True).encode(), "no timestamp"),
        "huge time": (review(second=10**400).encode(), "timestamp '10000"),
        "NaN time": (review(second=float("nan")).encode(), "no timestamp"),
        "infinite time": (review(second=float("inf")).encode(), "timestamp 'Infinity' is no finite number"),
        "cut": (review().encode()[:40] + b"\n", "neither JSON nor a Python literal"),
        "array": (b"[1, 2]\n", "no object"),
        "number": (b"12\n", "no object"),
        "deep JSON": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "neither JSON nor a Python literal"),
        "deep literal": (b"{'a': " + b"(" * 100_000 + b")" * 100_000 + b"}\n", "neither JSON nor a Python literal"),
        "signs": (b"{'a': " + b"-" * 100_000 + b"1}\n", "neither JSON nor a Python literal"),
        "sums": (b"{'a': 1" + b"+1" * 100_000 + b"}\n", "neither JSON nor a Python literal"),
        "unhashable": (b"{[]: 1}\n", "neither JSON nor a Python literal"),
        "too long": (b'{"a": "' + b"x" * (MAX_LINE + 9) + b'"}\n', "longer than 2 MiB"),
        "garbage": (bytes(range(128, 256)) * 8 + b"\n", "no UTF-8"),
    }


@pytest.mark.parametrize("kind", unusable_reviews())
@pytest.mark.parametrize("packed", [False, True])
def test_an_unusable_review_is_left_out_and_quoted(
    files: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], kind: str, packed: bool
) -> None:
    assert run(AMAZON) == 0
    good = Path("dataset/shop/shop.inter").read_bytes()
    line, said = unusable_reviews()[kind]
    data = (files / "reviews").read_bytes() + line
    (files / "reviews").write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert run(AMAZON) == 0
    assert Path("dataset/shop/shop.inter").read_bytes() == good
    assert "1 unusable lines of reviews left out" in capsys.readouterr().out
    message = caplog.messages[-1]
    assert f"\n  reviews line 73: {said}" in message
    assert len(message) < 400
    assert sorted(os.listdir(files.parent)) == ["work"]
    assert sorted(os.listdir(files)) == ["dataset", "meta", "reviews"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{'asin': 'B1', 'title': __import__('os').system('touch hacked')}\n", "neither JSON nor a Python literal"),
        (b"{'asin': '../../B1', 'title': 'x'}\n", "item id '../../B1' is not"),
        (b'{"title": "no id"}\n', "no item id"),
        (b'{"asin": "B1", "title": "\xe9tude"}\n', "no UTF-8"),
        # deeper than any Python reads; newer ones read 5,000
        (b'{"asin": "B000000001", "category": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "neither JSON nor"),
        (b"\x80\x81\n", "no UTF-8"),
    ],
)
def test_an_unusable_row_of_metadata_is_left_out_and_quoted(
    files: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], line: bytes, said: str
) -> None:
    (files / "meta").write_bytes((files / "meta").read_bytes() + line)
    assert run(AMAZON) == 0
    assert "1 unusable lines of metadata left out" in capsys.readouterr().out
    assert f"meta line 9: {said}" in caplog.text
    assert sorted(os.listdir(files)) == ["dataset", "meta", "reviews"]


def test_a_hostile_text_stays_one_field_of_one_line(files: Path) -> None:
    titles = [
        '"unclosed quote',
        "a\tb\nc\r\nd\x00e\x1b[31m",
        "<script>alert(1)</script>Pan",
        "\ud800\u2028\u202eend",
        "<" * 50_000 + "&" * 50_000,
        "long " * 100_000,
        "<div>" * 20_000 + "deep",
        ["nested", ["list"] * 1_000],
    ]
    meta = [to_line({**meta_record(number, 2018), "title": title}) for number, title in enumerate(titles)]
    write(files / "meta", meta)
    assert run(f"{AMAZON} --text-fields title,brand") == 0
    lines = Path("dataset/shop/shop.item").read_bytes().decode().split("\n")
    assert len(lines) == 10  # a header, eight items, nothing after the last end of line
    assert {line.count("\t") for line in lines[:9]} == {2}
    texts = [line.split("\t")[1] for line in lines[1:9]]
    assert texts[:3] == ["\u201cunclosed quote. O'Brand.", "a b c de[31m. O'Brand.", "Pan. O'Brand."]
    assert max(map(len, texts)) <= 100_000


def test_a_line_of_a_megabyte_is_read(files: Path) -> None:
    long = {**review_record(make_reviews()[0], 2018), "reviewText": "x" * 1_000_000}
    rest = [to_line(review_record(row, 2018)) for row in make_reviews()[1:]]
    write(files / "reviews", [to_line(long), *rest])
    write(files / "meta", [to_line({**meta_record(number, 2018), "also": "y" * 1_000_000}) for number in range(8)])
    assert run(AMAZON) == 0
    assert Path("dataset/shop/shop.inter").read_text().count("\n") == 73


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [MAX_LINE, MAX_LINE + 1, 3 << 20])
def test_a_longer_line_is_left_out_of_a_flawless_file_too(
    files: Path, caplog: pytest.LogCaptureFixture, length: int, packed: bool
) -> None:
    good, *rest = [review_record(row, 2018) for row in make_reviews()]
    long = {**good, "reviewText": ""}
    long["reviewText"] = "x" * (length - len(to_line(long)))
    data = "".join(map(to_line, [*rest[:9], long, *rest[9:]])).encode()
    (files / "reviews").write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert run(f"{AMAZON} --k-core 0") == 0
    left_out = length > MAX_LINE
    assert Path("dataset/shop/shop.inter").read_text().count("\n") == 73 - left_out
    assert ("reviews line 10: longer than 2 MiB" in caplog.text) == left_out


def test_byte_order_marks_and_carriage_returns_do_no_harm(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(AMAZON) == 0
    good = {name: Path("dataset/shop", name).read_bytes() for name in ("shop.inter", "shop.item")}
    for name in ("reviews", "meta"):
        (files / name).write_bytes(b"\xef\xbb\xbf" + (files / name).read_bytes().replace(b"\n", b"\r\n"))
    assert run(AMAZON) == 0
    assert {name: Path("dataset/shop", name).read_bytes() for name in good} == good
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["reviews", "meta"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n \n\n", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (b"\x00\x01\x02\xff" * 4_096, "none of the first 1 lines is"),
        (b"\x1f\x8b\x08garbage after the magic number", "gzip data cut off or damaged"),
        (b"__import__('os').system('touch hacked')\n" * 3, "none of the first 3 lines is"),
        (b"<html><body>Not Found</body></html>\n", "none of the first 1 lines is"),
        (b"x" * 5_000_000, "none of the first 1 lines is"),
    ],
)
def test_a_file_of_something_else_stops_the_run(
    files: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (files / name).write_bytes(content)
    assert run(AMAZON) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {name}: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(os.listdir(files)) == ["meta", "reviews"]


@pytest.mark.parametrize("year", [2014, 2018])
@pytest.mark.parametrize("name", ["reviews", "meta"])
@pytest.mark.parametrize("harm", ["cut in the middle", "cut at the end", "wrong checksum"])
def test_a_damaged_gzip_file_stops_the_run(
    files: Path, capsys: pytest.CaptureFixture[str], year: int, name: str, harm: str
) -> None:
    write_year(files, year)
    data = gzip.compress((files / name).read_bytes() * 200)
    damaged = {
        "cut in the middle": data[: len(data) // 2],
        "cut at the end": data[:-4],
        "wrong checksum": data[:-8] + b"\0\0\0\0" + data[-4:],
    }
    (files / name).write_bytes(damaged[harm])
    assert run(AMAZON) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {name}: gzip data cut off or damaged")
    assert captured.err.count("\n") == 1
    assert not Path("dataset/shop").exists()


@pytest.mark.parametrize("name", ["reviews", "meta"])
def test_too_many_unusable_lines_stop_the_run(files: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (files / name).write_bytes((files / name).read_bytes() + b"{broken\n" * 7)
    assert run(f"{AMAZON} --max-bad 6") == 2
    error = capsys.readouterr().err
    assert f"{name} line " in error
    assert "more than 6 lines like that: mend the file, or raise --max-bad" in error
    assert not Path("dataset/shop").exists()
    assert run(f"{AMAZON} --max-bad 7") == 0


@pytest.mark.parametrize(
    ("year", "second", "unit"),
    [(2018, 1_400_000_000_000, "ms"), (2023, 1_400_000_000, "s")],
)
def test_stamps_in_another_unit_are_told(
    files: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, year: int, second: int, unit: str
) -> None:
    user, item, stamp = (
        ("user_id", "parent_asin", "timestamp") if year == 2023 else ("reviewerID", "asin", "unixReviewTime")
    )
    rows = [{user: f"A{n % 6}", item: f"B00000000{n // 6}", stamp: second + n} for n in range(36)]
    write(files / "reviews", [to_line(row) for row in rows])
    assert run(AMAZON) == 2
    assert "reviews: no usable review" in capsys.readouterr().err
    assert f"--time-unit {unit}" in caplog.text
    assert run(f"{AMAZON} --time-unit {unit}") == 0
    assert "\t14000000" in Path("dataset/shop/shop.inter").read_text()


def test_users_with_one_review_leave_nothing_of_a_core(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(files / "reviews", [review(user=f"A{number}") for number in range(50)])
    assert run(AMAZON) == 2
    assert "'5-core' removed the last 50 interactions; ask for less" in capsys.readouterr().err
    assert run(f"{AMAZON} --k-core 0") == 0


def test_metadata_without_a_single_text(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        files / "meta", [to_line({"asin": f"B{number:09d}", "title": "<b></b>", "brand": None}) for number in range(8)]
    )
    assert run(AMAZON) == 2
    assert "'items without text' removed the last 72 interactions" in capsys.readouterr().err
    assert not Path("dataset/shop").exists()


@pytest.mark.parametrize("name", ["../shop", "a/b", "", ".", "..", "a b", "x\n", "é"])
def test_no_name_leaves_the_folder(files: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([*AMAZON.split()[:-1], name]) == 2
    assert "--name" in capsys.readouterr().err
    assert sorted(os.listdir(files)) == ["meta", "reviews"]


def test_a_broken_file_shows_no_traceback(files: Path) -> None:
    lines = [line for line, _ in unusable_reviews().values()]
    (files / "reviews").write_bytes((files / "reviews").read_bytes() + b"".join(lines))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "dataset_prep", *AMAZON.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(
        f"WARNING: {len(lines)} lines left out because they cannot be used; the first:\n  reviews"
    )
    assert done.stderr.count("\n") == 6
    assert f"{len(lines)} unusable lines of reviews left out" in done.stdout
    assert sorted(os.listdir(files)) == ["dataset", "meta", "reviews"]


@steady
@given(
    st.binary(max_size=80)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: repr(value).encode("utf-8", "replace"))
)
def test_any_line_of_a_dump(line: bytes) -> None:
    with suppress(UnusableError):
        assert isinstance(parse_record(line), dict)
    assert isinstance(csv_row(line), list)


@few
@given(
    content=rows(("user_id", "item_ids"), "\t").map(str.encode) | st.binary(max_size=40),
    items=rows(("item_id", "text"), "\t").map(str.encode),
)
def test_any_sequences(tmp_path_factory: pytest.TempPathFactory, content: bytes, items: bytes) -> None:
    folder = tmp_path_factory.mktemp("sequences")
    (folder / "s.tsv").write_bytes(content)
    (folder / "i.tsv").write_bytes(items)
    names = {name: name for name in ("user_id", "item_ids", "item_id", "text")}
    line = told(lambda: prepare_sequences(folder / "s.tsv", folder / "i.tsv", "made", folder / "out", names))
    assert line is None or (folder / "out" / "made" / "made.inter").exists() is False
