"""Histories of many users in a file, one user a row or an interaction a row, read a few at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.json_lines import is_text
from recbole_mmm4rec.base.parquet_files import arrow_mistakes
from recbole_mmm4rec.base.table_files import as_text, csv_reader

ENDINGS = (".csv", ".jsonl", ".parquet")
USER, HISTORY, TIMES = "user_id", "history", "timestamps"
DIGITS = 20
"""Of a time at most; Python refuses to read very long numbers."""
_COLUMNS = f"{USER} and {HISTORY} (and {TIMES} where there are times)"


@dataclass(frozen=True)
class User:
    """One row of a file.

    Attributes:
        place: the file and the line, or the row, for messages.
        name: the user's id.
        history: item ids, oldest first.
        times: as many seconds; None where there are none.
    """

    place: str
    name: str
    history: list[str]
    times: list[Any] | None


def ending_of(path: Path, option: str) -> str:
    """How a file's name ends.

    Raises:
        UserError: in another way than we read or write.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{option} {path}: the name must end with {', '.join(ENDINGS)}")
    return path.suffix.lower()


def read_users(path: Path) -> Iterator[User]:
    """The users of a file in its order; a list in a CSV file is separated by blanks.

    Raises:
        UserError: no such file, a column that is missing, or a row that cannot be read; names file and line.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_lines, ".parquet": _read_parquet}
    reader = readers[ending_of(path, "--input")]
    if not path.is_file():
        raise UserError(f"--input {path}: there is no such file")
    try:
        yield from reader(path)
    except UnicodeError:
        raise UserError(f"{path}: not UTF-8; convert the file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _user(place: str, row: dict[str, Any]) -> User:
    name, history, times = _id(row.get(USER), USER, place), row.get(HISTORY), row.get(TIMES)
    listed = _list(history)
    if listed is None:
        raise UserError(f"{place}: {HISTORY} is no list of item ids: {str(history)[:60]!r}")
    when = None if times is None or times == "" else _list(times)
    if times is not None and times != "" and when is None:
        raise UserError(f"{place}: {TIMES} is no list of seconds: {str(times)[:60]!r}")
    items = [_id(item, f"{HISTORY}[{number}]", place) for number, item in enumerate(listed)]
    return User(place, name, items, when and [_whole(time) for time in when])


def _id(value: Any, column: str, place: str) -> str:
    text = as_text(value, column, place)
    if not text:
        raise UserError(f"{place}: {column} is empty")
    if not text.isascii() and not is_text(text):
        raise UserError(f"{place}: {column} {text!r} holds half of a character (a lone surrogate)")
    return text


def _list(value: Any) -> list[Any] | None:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    return list(value) if isinstance(value, (list, tuple)) else None


def _whole(time: Any) -> Any:
    """A time that is written as text as a number; anything else as it is, to be refused with the rest."""
    return int(time) if isinstance(time, str) and is_seconds(time) else time


def is_seconds(text: str) -> bool:
    """Whether a text is a whole number; one of more digits than any time has is none."""
    return text.removeprefix("-").isdecimal() and len(text) <= DIGITS


def _require(place: str, columns: list[str]) -> None:
    for name in (USER, HISTORY):
        if name not in columns:
            hint = did_you_mean(name, columns) or f"; it has {', '.join(map(repr, columns)) or 'none'}"
            raise UserError(f"{place}: no column {name!r}{hint}; the columns are {_COLUMNS}")
    for name in (USER, HISTORY, TIMES):
        if columns.count(name) > 1:
            raise UserError(f"{place}: column {name!r} is there {columns.count(name)} times; rename one")


def _read_csv(path: Path) -> Iterator[User]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, begin = csv_reader(file, strict=True), 1
        try:
            header: list[str] = next(reader, [])
            _require(f"{path}, line 1", header)
            begin = reader.line_num + 1
            for row in reader:
                place, begin = f"{path}, line {begin}", reader.line_num + 1
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(f"{place}: {len(row)} fields where the header has {len(header)}")
                yield _user(place, dict(zip(header, row, strict=True)))
        except csv.Error as error:
            raise UserError(f"{path}, line {begin}: malformed CSV ({error})") from None


def _read_lines(path: Path) -> Iterator[User]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise UserError(f"{place}: is cut off or no JSON") from None
            if not isinstance(row, dict):
                raise UserError(f"{place}: is no JSON object")
            _require(place, list(row))
            yield _user(place, row)


def _read_parquet(path: Path) -> Iterator[User]:
    with arrow_mistakes(path):
        import pyarrow.parquet as pq

        content = pq.ParquetFile(path)
        names = content.schema_arrow.names
        _require(str(path), names)
        done = 0
        wanted = [name for name in (USER, HISTORY, TIMES) if name in names]
        for batch in content.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                done += 1
                yield _user(f"{path}, row {done}", row)
