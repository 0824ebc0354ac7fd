"""Every kind of file gives the same rows, and what is malformed is named with its line."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import columns_of, read_rows

ROWS = [["007", 'Zoë\'s "best"'], ["1.0", ""], ["x", "a, b"]]


def read(path: Path, *columns: str, optional: str = "") -> list[list[str]]:
    return [values for _, values in read_rows(path, columns, frozenset(filter(None, [optional])))]


def as_csv(rows: list[list[str]]) -> str:
    quoted = [[f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row] for row in rows]
    return "".join(",".join(row) + "\n" for row in [["id", "n", "text"], *([r[0], "9", r[1]] for r in quoted)])


def as_tsv(rows: list[list[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in [["id", "n", "text"], *([r[0], "9", r[1]] for r in rows)])


def as_json(rows: list[list[str]]) -> str:
    return "".join(json.dumps({"text": row[1], "n": 9, "id": row[0]}) + "\n" for row in rows)


def test_nan_in_json_lines_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "text": NaN, "n": Infinity}\n{"id": 2, "text": "NaN", "n": -0.0}\n')
    assert read(tmp_path / "t.jsonl", "id", "text", "n") == [["1", "", "Infinity"], ["2", "NaN", "-0.0"]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".csv", as_csv), (".tsv", as_tsv), (".txt", as_tsv), (".jsonl", as_json), (".json", as_json), (".CSV", as_csv)],
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, suffix: str, write: object, packed: bool) -> None:
    data = write(ROWS).encode()  # type: ignore[operator]
    path = tmp_path / f"my.table{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert read(path, "id", "text") == ROWS
    assert read(path, "text", "id", "text") == [[text, item, text] for item, text in ROWS]
    assert sorted(columns_of(path)) == ["id", "n", "text"]


REFUSED = "" if sys.version_info >= (3, 11) else "\0"
ANY = st.text(st.characters(codec="utf-8", exclude_characters=REFUSED), max_size=9)
"""Python 3.10 refuses a zero byte in a CSV file."""


@given(st.lists(st.tuples(ANY, ANY), max_size=6))
def test_csv_with_quotes_holds_any_text(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(as_csv([list(row) for row in rows]).encode())
    assert read(path, "id", "text") == [list(row) for row in rows]


def test_a_byte_order_mark_and_dos_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfid,text\r\n1,x\r\n\r\n2,y\r\n")
    assert read(path, "id", "text") == [["1", "x"], ["2", "y"]]


def test_places_count_lines_even_when_fields_span_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,"two\nlines"\n2,x\n')
    assert [place for place, _ in read_rows(path, ["id"])] == [f"{path} line 2", f"{path} line 4"]


def test_json_numbers_stay_the_text_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": 12345678901234567890123, "t": 1.50}\n\n{"id": "007", "t": null}\n')
    assert read(path, "id", "t") == [["12345678901234567890123", "1.50"], ["007", ""]]


def test_a_json_record_may_lack_only_what_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b", "text": "x"}\n')
    assert read(path, "id", "text", optional="text") == [["a", ""], ["b", "x"]]
    with pytest.raises(UserError, match="line 1: no column 'text' among id"):
        read(path, "id", "text")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "t.csv",
            b"idd,text\n1,x\n",
            r"t\.csv: no column 'id' among idd, text; did you mean 'idd'\? \(see --columns\)",
        ),
        ("t.csv", b"", "no column 'id' among nothing"),
        ("t.csv", b"id,id,text\n", "column 'id' is there 2 times"),
        ("t.csv", b"id,text\n1,x\n2\n", r"t\.csv line 3: 1 fields where the header has 2"),
        ("t.csv", b'id,text\n1,x\n2,"y\n3,z\n', r"t\.csv line 3: malformed CSV"),
        ("t.csv", b'id,text\n1,"x"y\n', r"t\.csv line 2: malformed CSV"),
        ("t.csv", b"id,text\n1,\xff\n", "not UTF-8"),
        ("t.tsv", b"id\ttext\n1\tx\ty\n", "line 2: 3 fields"),
        ("t.jsonl", b'{"id": 1, "text": "x"}\n{"id"\n', r"t\.jsonl line 2: no JSON"),
        ("t.json", b'[{"id": 1, "text": "x"}]\n', "line 1: list where a JSON object is wanted"),
        ("t.json", b"[" * 100_000, "line 1: no JSON"),
        ("t.jsonl", b'{"id": ["a"], "text": "x"}\n', "line 1: id holds a list"),
        ("t.jsonl", b'{"id": true, "text": "x"}\n', "line 1: id holds a bool"),
        ("t.jsonl", b"", "no column 'id' among nothing"),
        ("t.csv.gz", b"id,text\n1,x\n", "no gzip file"),
        ("t.csv.gz", gzip.compress(b"id,text\n1,x\n" * 99, mtime=0)[:-9], "cut off"),
        ("t.xlsx", b"", "unknown kind of file"),
        ("t", b"", "unknown kind of file"),
        ("t.gz", b"", "unknown kind of file"),
        ("t.parquet.gz", b"", "unknown kind of file"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read(path, "id", "text")
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        read(tmp_path / "none.csv", "id")
