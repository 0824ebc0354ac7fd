"""Reads CSV, TSV, JSON lines and Parquet as rows of strings, each with its place for messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.parquet_files import arrow_mistakes

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}

FIELD = 2**26
"""Characters of a field of CSV or TSV; Python's own 131,072 are less than a long text or history has."""

Row = tuple[str, list[str]]  # the place, and the values


def read_rows(
    path: str | Path,
    columns: Sequence[str],
    optional: frozenset[str] = frozenset(),
    hoped: frozenset[str] = frozenset(),
) -> Iterator[Row]:
    """Reads some columns of a table; every value comes as the text that stands in the file.

    Args:
        path: .csv, .tsv or .txt (TAB separated, nothing quoted), .jsonl or .json (one object a line), each of them
            with or without .gz; or .parquet.
        columns: names of the wanted columns; others are left out.
        optional: those of ``columns`` whose value a JSON record may lack.
        hoped: those of ``columns`` that the table may lack, or have for something else than text; empty strings then.

    Yields:
        A place ("FILE line N", "FILE row N" of a Parquet file) and the values in the order of ``columns``; a null is
        an empty string.

    Raises:
        UserError: no such file, unknown suffix, a missing column, a malformed line, a broken archive or encoding.
    """
    path = Path(path)
    kind, zipped = _kind(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if kind == "parquet":
        return _parquet(path, columns, hoped)
    return _text_rows(path, kind, zipped, columns, optional, hoped)


def columns_of(path: str | Path) -> list[str]:
    """Names of the columns of a table, in their order; of JSON lines all that occur.

    Raises:
        UserError: as for :func:`read_rows`.
    """
    path = Path(path)
    kind, zipped = _kind(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if kind == "parquet":
        return _parquet_columns(path)
    with _opened(path, zipped) as handle:
        if kind != "json":
            first = handle.readline().rstrip("\r\n")
            return next(csv_reader([first]), []) if kind == "csv" else first.split("\t")
        seen: dict[str, None] = {}
        for place, record in _records(path, handle):
            del place
            seen.update(dict.fromkeys(record))
        return list(seen)


def _kind(path: Path) -> tuple[str, bool]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    if zipped:
        suffixes.pop()
    kind = SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None or (zipped and kind == "parquet"):
        known = ", ".join(SUFFIXES)
        raise UserError(f"{path}: unknown kind of file; the name must end in {known} (text kinds may add .gz)")
    return kind, zipped


def _text_rows(
    path: Path, kind: str, zipped: bool, columns: Sequence[str], optional: frozenset[str], hoped: frozenset[str]
) -> Iterator[Row]:
    with _opened(path, zipped) as handle:
        if kind == "json":
            yield from _json(path, handle, columns, optional, hoped)
        else:
            yield from _delimited(path, kind, handle, columns, hoped)


@contextmanager
def _opened(path: Path, zipped: bool) -> Iterator[io.TextIOWrapper]:
    try:
        with (
            gzip.open(path, "rb") if zipped else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as handle,
        ):
            yield handle
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; convert it, for example with iconv -f latin1 -t utf-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: no gzip file, or cut off ({error}); fetch or pack it again") from None


def csv_reader(lines: Iterable[str], **how: Any) -> Any:
    """``csv.reader``, which takes fields of :data:`FIELD` characters."""
    csv.field_size_limit(max(FIELD, csv.field_size_limit()))
    return csv.reader(lines, **how)


def _delimited(path: Path, kind: str, handle: IO[str], columns: Sequence[str], hoped: frozenset[str]) -> Iterator[Row]:
    if kind == "csv":
        reader = csv_reader(handle, strict=True)
    else:
        reader = csv_reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
    begin = 1
    try:
        header: list[str] = next(reader, [])
        lacked = hoped - {name for name in hoped if header.count(name) == 1}
        at = [len(header) if name in lacked else _find(str(path), name, header) for name in columns]
        begin = reader.line_num + 1
        for row in reader:
            if len(row) == len(header):
                row.append("")  # the value of columns that are not there
                yield f"{path} line {begin}", [row[position] for position in at]
            elif row:
                raise UserError(f"{path} line {begin}: {len(row)} fields where the header has {len(header)}")
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {begin}: malformed {kind.upper()} ({error})") from None


def _find(where: str, name: str, there: Sequence[str]) -> int:
    hits = [position for position, column in enumerate(there) if column == name]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UserError(f"{where}: column '{name}' is there {len(hits)} times; rename one")
    listed = ", ".join(there) or "nothing"
    raise UserError(f"{where}: no column '{name}' among {listed}{did_you_mean(name, there)} (see --columns)")


def _json(
    path: Path, handle: IO[str], columns: Sequence[str], optional: frozenset[str], hoped: frozenset[str]
) -> Iterator[Row]:
    needed = [name for name in columns if name not in hoped]
    seen: dict[str, None] = {}
    for place, record in _records(path, handle):
        seen.update(dict.fromkeys(record))
        for name in needed:
            if name not in record and name not in optional:
                _find(place, name, list(record))
        values = ((name, record.get(name)) for name in columns)
        yield (
            place,
            [
                "" if name in hoped and not isinstance(value, str) else as_text(value, name, place)
                for name, value in values
            ],
        )
    for name in needed:
        if name not in seen:
            _find(str(path), name, list(seen))


def _records(path: Path, handle: IO[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(handle, start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            # Numbers stay the text they are: 007 is kept from strings, 1e400 and 2**70 from loss.
            record = json.loads(line, parse_int=str, parse_float=str, parse_constant=infinity)
        except (ValueError, RecursionError):
            raise UserError(f"{place}: no JSON; one object a line is wanted") from None
        if not isinstance(record, dict):
            raise UserError(f"{place}: {type(record).__name__} where a JSON object is wanted, one a line")
        yield place, record


def infinity(word: str) -> str | None:
    """What Python's JSON has beside JSON's own values: infinities, as text; NaN is how pandas writes a null."""
    return None if word == "NaN" else word


def _parquet_columns(path: Path) -> list[str]:
    with arrow_mistakes(path):
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)


def _parquet(path: Path, columns: Sequence[str], hoped: frozenset[str]) -> Iterator[Row]:
    with arrow_mistakes(path):
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow]
            # A picture itself in the place of where it is would fill the memory.
            texts = {field.name for field in file.schema_arrow if str(field.type) in ("string", "large_string")}
            lacked = {name for name in hoped if name not in texts or names.count(name) > 1}
            there = [name for name in dict.fromkeys(columns) if name not in lacked]
            for name in there:
                _find(str(path), name, names)
            number = 0
            for batch in file.iter_batches(columns=there):
                lists = {name: batch.column(name).to_pylist() for name in there}
                nothing = [None] * batch.num_rows
                for values in zip(*(lists.get(name, nothing) for name in columns), strict=True):
                    number += 1
                    place = f"{path} row {number}"
                    yield place, [as_text(v, name, place) for v, name in zip(values, columns, strict=True)]


def is_nothing(value: Any) -> bool:
    """Whether a value of a table is none: null, or the NaN, NaT or NA that pandas has for it."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA
        return True
    except (ValueError, RuntimeError):  # an array's or a tensor's answer is one for each element
        return False


def as_text(value: Any, column: str, place: str) -> str:
    """A value of a table as the text that stands for it; empty where there is none.

    Args:
        value: what a reader of JSON or Parquet gives.
        column: its column, for the message.
        place: file and line, for the message.

    Raises:
        UserError: it is a truth value, a list, an object, or bytes that are no text.
    """
    if is_nothing(value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise UserError(f"{place}: {column} holds bytes that are no UTF-8 text") from None
    if isinstance(value, list | dict | bool):
        raise UserError(f"{place}: {column} holds a {type(value).__name__}; text or a number is wanted")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # what pandas makes of integers beside a null
    return str(value)
