"""RecBole's atomic files as their format has them: a header of ``name:type``, one separator, nothing quoted.

A line ends with LF or CR LF, and has as many fields as the header; empty lines are no rows. Whatever else is in a file
is data or is refused with its line: no row is left out, and none is made of two.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import UserError, did_you_mean

TYPES = ("token", "float", "token_seq", "float_seq")

_SEPARATORS = ("\t", ",", ";", "|", " ", "::")


def read_header(path: Path, separator: str | None = None, encoding: str = "utf-8") -> dict[str, str]:
    """Columns of an atomic file and their types.

    Args:
        path: the file; its first line reads ``field:type`` for each column.
        separator: what stands between columns; None for TABs where nobody can set another one.
        encoding: of the file; the byte order mark that some programs put before UTF-8 is no part of a name.

    Returns:
        Field name to type, in the file's order.

    Raises:
        UserError: the file cannot be read or is empty, a column has no type that RecBole knows, or is there twice;
            names the separator that the file seems to have, if it is another one.
    """
    with _opened(path, encoding) as lines:
        first = lines.readline().removesuffix("\n").removesuffix("\r")
    if not first:
        raise UserError(f"{path}: empty file; its first line must name columns, as in user_id:token")
    _refuse_carriage_return(path, 1, first)
    if "\0" in first:
        raise UserError(f"{path} line 1: a zero byte; the file is damaged, or encoding is not what it is in")
    header: dict[str, str] = {}
    for column in first.split(separator or "\t"):
        field, _, kind = column.partition(":")
        if kind not in TYPES:
            way_out = _other_separator(first, separator) or f"write NAME:TYPE with one of {TYPES}"
            raise UserError(f"{path} line 1: column '{column}' has no known type; {way_out}")
        if field in header:
            raise UserError(f"{path} line 1: column '{field}' is there twice; rename one")
        header[field] = kind
    return header


def _other_separator(header: str, given: str | None) -> str:
    """What to do about a header whose columns are separated by something else; empty when that explains nothing."""
    separator = given or "\t"
    for other in _SEPARATORS:
        columns = header.split(other)
        if other != separator and len(columns) > 1 and all(column.partition(":")[2] in TYPES for column in columns):
            seen = f"its columns seem to be separated by {other!r} and not by {separator!r}"
            if other == "\t":
                return f'{seen}: leave field_separator out, or write "\\t" in double quotes in YAML'
            change = "" if given is None else f"set field_separator: {other!r}, or "
            return f"{seen}: {change}write the file with TABs"
    return ""


def require_columns(path: Path, header: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a file without columns that are needed.

    Args:
        path: the file, for the message.
        header: its columns and their types.
        wanted: column to the type that it must have.

    Raises:
        UserError: a column is missing or of another type; lists the columns that are there.
    """
    there = ", ".join(f"{field}:{kind}" for field, kind in header.items())
    for field, kind in wanted.items():
        if field not in header:
            raise UserError(f"{path}: no column '{field}:{kind}' among {there}{did_you_mean(field, header)}")
        if header[field] != kind:
            raise UserError(f"{path}: column '{field}' must be '{field}:{kind}', not '{field}:{header[field]}'")


def read_rows(
    path: Path, header: Mapping[str, str], separator: str = "\t", encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """The rows of an atomic file, one after the other: the plain reader, which every faster one must equal.

    Args:
        path: the file.
        header: its columns, from :func:`read_header`.
        separator: what stands between fields.
        encoding: of the file.

    Yields:
        The number of the line, from 2 on, and its fields as they stand there.

    Raises:
        UserError: the file cannot be read, or a line has a wrong number of fields or a carriage return inside.
    """
    with _opened(path, encoding) as lines:
        next(lines, None)
        for number, line in enumerate(lines, start=2):
            text = line.removesuffix("\n").removesuffix("\r")
            if not text:
                continue
            _refuse_carriage_return(path, number, text)
            fields = text.split(separator)
            if len(fields) != len(header):
                raise UserError(f"{path} line {number}: {len(fields)} fields where the header has {len(header)}")
            yield number, fields


def line_of(path: Path, row: int, encoding: str = "utf-8") -> int:
    """The number of the line on which a row stands.

    Args:
        path: an atomic file that can be read.
        row: the place of the row among all rows, from 0.
        encoding: of the file.
    """
    with _opened(path, encoding) as lines:
        filled = (number for number, line in enumerate(lines, start=1) if line not in ("\n", "\r\n"))
        return next(itertools.islice(filled, row + 1, None))


def read_item_column(
    item_file: str | Path,
    column: str,
    separator: str | None = None,
    encoding: str = "utf-8",
    item_field: str = "item_id",
) -> tuple[list[str], list[str]]:
    """Reads the item tokens and one more column of a RecBole ``.item`` file.

    Args:
        item_file: the atomic file.
        column: name of the column, without its type.
        separator: what stands between fields, as in :func:`read_header`.
        encoding: of the file.
        item_field: its column of items.

    Returns:
        Tokens and values, in the order of the lines.

    Raises:
        UserError: no such file or column, a line that cannot be read, an item without id or named twice.
    """
    path = Path(item_file)
    header = read_header(path, separator, encoding)
    names = list(header)
    for name in (item_field, column):
        if name not in names:
            raise UserError(f"{path}: no column '{name}' among {', '.join(names)}{did_you_mean(name, names)}")
    id_at, column_at = names.index(item_field), names.index(column)
    first_line: dict[str, int] = {}
    values: list[str] = []
    for number, fields in read_rows(path, header, separator or "\t", encoding):
        if not fields[id_at]:
            raise UserError(f"{path} line {number}: {item_field} is empty; fill it in or leave the line out")
        first = first_line.setdefault(fields[id_at], number)
        if first != number:
            raise UserError(f"{path} line {number}: item '{fields[id_at]}' is already on line {first}; keep one")
        values.append(fields[column_at])
    return list(first_line), values


def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8, by whichever of its names.

    Raises:
        UserError: there is no such encoding.
    """
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError:
        raise UserError(f"encoding={encoding!r}: there is no such encoding; write utf-8, latin-1, gbk …") from None


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[TextIO]:
    """The lines of a file as text; only LF ends a line."""
    known = "utf-8-sig" if is_utf8(encoding) else encoding
    try:
        with path.open(encoding=known, newline="\n") as lines:
            yield lines
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the data set with '{called('prep')}'") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeError:
        raise UserError(f"{path} line {_broken_line(path, known)}: {_not_in(encoding)}") from None


def _not_in(encoding: str) -> str:
    if is_utf8(encoding):
        return "not UTF-8; convert the file to UTF-8, or set encoding, as in encoding: latin-1"
    return f"not {encoding}; convert the file, or set encoding to what it is in"


def _broken_line(path: Path, encoding: str) -> int:
    """The line that cannot be decoded: the text is decoded ahead of the line that is asked for."""
    content = path.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return content[: error.start].count(b"\n") + 1
    except UnicodeError:  # UTF-16 without its mark
        pass
    return 1


def _refuse_carriage_return(path: Path, number: int, text: str) -> None:
    if "\r" in text:
        raise UserError(f"{path} line {number}: a carriage return inside the line; end lines with LF or CR LF")
