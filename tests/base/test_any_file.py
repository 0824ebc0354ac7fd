"""Files of any content, through the readers that everything else is built on: rows, or one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_input import ODD, few, rows, steady, told
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.arrays import read_array
from recbole_mmm4rec.base.atomic_files import read_header, read_item_column, read_rows
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import names_a_file
from recbole_mmm4rec.base.json_lines import read_line
from recbole_mmm4rec.base.parquet_files import arrow_mistakes
from recbole_mmm4rec.base.table_files import columns_of
from recbole_mmm4rec.base.table_files import read_rows as table_rows
from recbole_mmm4rec.base.texts import check_set_name

HEADS = ("user_id:token", "item_id:token", "timestamp:float")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def in_words(read: Callable[[Any], Any], given: Any) -> None:
    """A reader whose callers make its ValueErrors into their line."""
    try:
        read(given)
    except ValueError as error:
        raise UserError(str(error)) from None


@steady
@given(content=rows(HEADS, "\t").map(str.encode) | st.binary(max_size=60), separator=st.sampled_from([None, ",", "::"]))
def test_atomic_files(place: Path, content: bytes, separator: str | None) -> None:
    file = place / "shop.inter"
    file.write_bytes(content)

    def read() -> None:
        header = read_header(file, separator)
        assert all(len(fields) == len(header) for _, fields in read_rows(file, header, separator or "\t"))

    told(read)
    told(lambda: read_item_column(file, "user_id"))


@steady
@given(
    content=rows(("user_id", "item_id", "timestamp"), ",").map(str.encode) | st.binary(max_size=60),
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".csv.gz", ".parquet"]),
)
def test_tables(place: Path, content: bytes, ending: str) -> None:
    file = place / f"table{ending}"
    file.write_bytes(content)
    told(lambda: columns_of(file))
    told(lambda: list(table_rows(file, ("user_id", "item_id"), frozenset({"item_id"}))))


@steady
@given(st.binary(max_size=60) | ODD.map(str.encode))
def test_lines_and_arrays(place: Path, content: bytes) -> None:
    assert told(lambda: in_words(read_line, content)) is None or not content.startswith(b"{}")
    file = place / "table.npy"
    made = io.BytesIO()
    np.save(made, np.ones((2, 3)))
    for whole in (content, made.getvalue()[:10] + content, made.getvalue()[: -len(content) or None] + content):
        file.write_bytes(whole)
        told(lambda: in_words(read_array, file))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.duration("s"), 2**62),
        (pa.timestamp("ms"), 2**62),
        (pa.date32(), 2**30),
        (pa.timestamp("us", "Nowhere/x"), 1),
    ],
    ids=str,
)
def test_values_that_python_does_not_have(place: Path, kind: pa.DataType, value: int) -> None:
    file = place / "odd.parquet"
    pq.write_table(
        pa.table({"user_id": pa.array([value], pa.int64() if kind != pa.date32() else pa.int32()).cast(kind)}), file
    )
    with pytest.raises(UserError, match=r"odd\.parquet: no Parquet file, or cut off"):
        list(table_rows(file, ("user_id",)))


@few
@given(st.integers(4, 400), st.binary(min_size=1, max_size=4))
def test_damaged_parquet(place: Path, at: int, noise: bytes) -> None:
    made = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": ["é", None]}), made)
    whole = made.getvalue()
    file = place / "damaged.parquet"
    file.write_bytes(whole[:-at] + noise + whole[len(noise) - at :] if at > len(noise) else whole[:-at])
    line = told(lambda: list(table_rows(file, ("user_id", "item_id"))))
    assert line is None or "damaged.parquet" in line


def test_a_mistake_of_ours_in_it_is_no_mistake_of_the_file(place: Path) -> None:
    with pytest.raises(UserError, match=r"^mine$"), arrow_mistakes(place):
        raise UserError("mine")
    with pytest.raises(TypeError), arrow_mistakes(place):
        raise TypeError


def test_names_that_no_file_can_have(place: Path) -> None:
    (place / "there").touch()
    assert [names_a_file(place / name) for name in ("there", "not", "x" * 1_000, "a\0b")] == [True, False, False, False]
    with pytest.raises(UserError, match="1,000 characters"):
        check_set_name("x" * 1_000)
