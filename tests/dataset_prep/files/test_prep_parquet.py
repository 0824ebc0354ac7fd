"""Parquet tables: typed columns become the text that the other kinds would hold."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import read_rows


def write(path: Path, **columns: list[object]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_typed_values_become_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.parquet",
        whole=[7, 2**60],
        real=[1.0, None],
        half=[1.5, float("nan")],
        word=["007", None],
        raw=[b"x", b"\xc3\xa9"],
        exact=[Decimal("1.50"), Decimal("2.00")],
        day=[datetime.datetime(2020, 1, 2), None],
    )
    names = ["day", "whole", "real", "half", "word", "raw", "exact"]
    assert list(read_rows(path, names)) == [
        (f"{path} row 1", ["2020-01-02 00:00:00", "7", "1", "1.5", "007", "x", "1.50"]),
        (f"{path} row 2", ["", str(2**60), "", "", "", "é", "2.00"]),
    ]


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", id=[1], text=["x"], items=[["a"]])
    with pytest.raises(UserError, match=r"no column 'idd' among id, text, items; did you mean 'id'"):
        list(read_rows(path, ["idd"]))
    with pytest.raises(UserError, match=r"row 1: items holds a list"):
        list(read_rows(path, ["items"]))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"t\.parquet: no Parquet file, or cut off"):
        list(read_rows(path, ["id"]))


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow .*pip install 'pyarrow<26'"):
        list(read_rows(tmp_path / "t.parquet", ["id"]))
