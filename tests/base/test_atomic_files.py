"""Atomic files: their headers, their lines, and one line of message for what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opening import replace_open

from recbole_mmm4rec.base.atomic_files import line_of, read_header, read_item_column, read_rows
from recbole_mmm4rec.base.errors import UserError


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    file = tmp_path / "x.item"
    file.write_bytes(b"\xef\xbb\xbfitem_id:token\tname:token\r\na\tb\r\n")
    assert read_header(file) == {"item_id": "token", "name": "token"}
    assert list(read_rows(file, read_header(file))) == [(2, ["a", "b"])]
    assert read_item_column(file, "name") == (["a"], ["b"])


@pytest.mark.parametrize(
    ("header", "separator", "said"),
    [
        ("user_id:token,item_id:token", "\t", r"separated by ',' and not by '\\t': set field_separator: ','"),
        ("user_id:token;item_id:token", ",", r"separated by ';' and not by ','"),
        ("user_id:token item_id:token", "\t", r"separated by ' '"),
        ("user_id:token::item_id:token", "\t", r"separated by '::'"),
        ("user_id:token,item_id:token", None, r"separated by ',' and not by '\\t': write the file with TABs$"),
        (
            "user_id:token\titem_id:token",
            "\\t",
            r"leave field_separator out, or write \"\\t\" in double quotes in YAML",
        ),
        ("user_id,item_id", "\t", "write NAME:TYPE with one of"),
        ("user_id:token\titem_id:int", "\t", "column 'item_id:int' has no known type; write NAME:TYPE"),
        ("a:token\ta:float", "\t", "column 'a' is there twice"),
        ("a:token\rb:token", "\t", "line 1: a carriage return inside the line"),
        ("a:token\tb\0:token", "\t", "line 1: a zero byte"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path: Path, header: str, separator: str | None, said: str) -> None:
    file = tmp_path / "x.inter"
    file.write_text(f"{header}\n", newline="")
    with pytest.raises(UserError, match=rf"x\.inter line 1: .*{said}" if "line 1" not in said else said):
        read_header(file, separator)


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"a\t\xe9\n", "utf-8", "line 3: not UTF-8; .*encoding: latin-1"),
        (b"a\t\xe9\n", "ascii", "line 3: not ascii; convert the file, or set encoding"),
        (b"a\tb\n", "utf-16", "line 1: not utf-16"),
        (b"a\tb\n", "klingon", "encoding='klingon': there is no such encoding"),
        (b"a\rb\tc\n", "utf-8", "line 3: a carriage return"),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path: Path, body: bytes, encoding: str, said: str) -> None:
    file = tmp_path / "x.inter"
    file.write_bytes(b"user_id:token\titem_id:token\n1\t2\n" + body)
    with pytest.raises(UserError, match=said) as caught:
        list(read_rows(file, {"user_id": "token", "item_id": "token"}, "\t", encoding))
    assert "\n" not in str(caught.value)


def test_the_line_of_a_row(tmp_path: Path) -> None:
    file = tmp_path / "x.inter"
    file.write_bytes(b"a:token\tb:token\n1\t1\n\n2\t2\r\n\r\n3\t3\n")
    lines = [number for number, _ in read_rows(file, read_header(file))]
    assert lines == [2, 4, 6] == [line_of(file, row) for row in range(3)]


def test_a_folder_or_a_forbidden_file_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_header(tmp_path)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    replace_open(monkeypatch, forbidden)
    with pytest.raises(UserError, match=r"x\.item: cannot be read \(Permission denied\)"):
        read_header(tmp_path / "x.item")


def test_an_item_file_is_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "x.item"
    file.write_text('year:token\titem_id:token\ttext:token_seq\n1\ta\t "q" NA\n2\tb\t\n', encoding="utf-8")
    assert read_item_column(file, "text") == (["a", "b"], [' "q" NA', ""])
    assert read_item_column(file, "year") == (["a", "b"], ["1", "2"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"item_id:token\ttext:token_seq\na\tx\nb\n", "line 3: 1 fields where the header has 2"),
        (b"item_id:token\ttext:token_seq\na\tx\ty\n", "line 2: 3 fields"),
        (b"item_id:token\ttext:token_seq\na\tx\n\nb\n", "line 4: 1 fields"),
        (b"item_id:token\ttext:token_seq\na\tx\na\ty\n", "line 3: item 'a' is already on line 2"),
        (b"item_id:token\ttxet:token_seq\n", "no column 'text' among item_id, txet; did you mean 'txet'"),
        (b"id:token\ttext:token_seq\n", "no column 'item_id'"),
        (b"item_id:token\ttext:token_seq\na\t\xff\n", "line 2: not UTF-8"),
        (b"", "empty file"),
    ],
)
def test_a_malformed_item_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "x.item"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_item_column(file, "text")
    assert str(file) in str(caught.value)


def test_a_missing_item_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.item: no such file"):
        read_item_column(tmp_path / "x.item", "text")
