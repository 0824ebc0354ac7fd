"""Files of one JSON line a result, and what a line must hold: what is damaged gets no further than its reader."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from recbole_mmm4rec.base.errors import UserError

T = TypeVar("T")
Record = dict[str, Any]
Check = Callable[[Any], bool]
Fields = Mapping[str, Check]

DEEPEST = 32
"""Levels of lists and objects in a line; ours have six."""
_MOST = 2**63
_SHOWN = 60


def read_line(line: bytes) -> Record:
    """The object in a line.

    Raises:
        ValueError: it is no JSON object of plain values in UTF-8; says why.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # no UTF-8 and a number of too many digits are ValueErrors as well
        raise ValueError("is cut off or no JSON") from None
    if not isinstance(record, dict):
        raise ValueError("is no JSON object")
    waiting: list[tuple[Any, int]] = [(record, 1)]
    while waiting:  # not by recursion, however deep it is
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"is nested in more than {DEEPEST} levels")
        if isinstance(value, str) and not is_text(value):
            raise ValueError("holds half of a character (a lone surrogate)")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
    return record


def check_fields(record: Record, required: Fields, optional: Fields | None = None) -> None:
    """Makes sure that a record has what its readers take for granted.

    Args:
        record: from :func:`read_line`.
        required: key to what its value must be.
        optional: the same of keys that may be missing; further ones are nobody's.

    Raises:
        ValueError: a key is missing, or a value is of another kind; says which.
    """
    for key in required:
        if key not in record:
            raise ValueError(f"has no '{key}'")
    for key, check in {**required, **(optional or {})}.items():
        if key in record and not check(record[key]):
            shown = json.dumps(record[key], ensure_ascii=False)
            raise ValueError(f"has a wrong '{key}': {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}")


def is_text(value: Any) -> bool:
    """Whether it is text that can be written."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def is_flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < _MOST


def is_count(value: Any) -> bool:
    """Whether it is a whole number of 64 bits, not negative."""
    return is_whole(value) and value >= 0


def is_number(value: Any) -> bool:
    """Whether it is a number; NaN and infinity are."""
    return isinstance(value, float) or is_whole(value)


def is_finite(value: Any) -> bool:
    """Whether it is a finite number."""
    return is_number(value) and math.isfinite(value)


def is_date(value: Any) -> bool:
    """Whether it is a date as ``datetime.isoformat`` writes it, with its time zone."""
    try:
        return is_text(value) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def is_table(value: Any) -> bool:
    """Whether it is an object."""
    return isinstance(value, dict)


def one_of(*known: str) -> Check:
    """Whether it is one of these texts."""
    return lambda value: isinstance(value, str) and value in known


def list_of(check: Check, length: int | None = None) -> Check:
    """Whether it is a list, of so many values, that all pass."""
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def table_of(check: Check) -> Check:
    """Whether it is an object whose values all pass."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def or_none(check: Check) -> Check:
    """Whether it is null or passes."""
    return lambda value: value is None or check(value)


class JsonLines:
    """The results in a file that is only ever appended to, which a kill at any moment leaves readable.

    Another process that appends, as may be where a folder cannot be locked, keeps its lines.

    Args:
        path: the file; it need not exist.
        what: a line stands for, for messages: "a run".
        check: raises a ValueError that says why, for a record that is none.

    Attributes:
        records: in the order of the file, each with an ``id``.

    Raises:
        UserError: a line before the last is no record.
    """

    def __init__(self, path: Path, what: str, check: Callable[[Record], None]) -> None:
        self.path = path
        self.records: list[Record] = []
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: _end(content)]
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            self.records.append(self._told(number, what, read_line, line))
        for number, record in enumerate(self.records, 1):  # a line that is no JSON is told before one of another kind
            self._told(number, what, check, record)

    def _told(self, number: int, what: str, use: Callable[[Any], T], value: Any) -> T:
        try:
            return use(value)
        except ValueError as error:
            raise UserError(f"{self.path}, line {number}: no record of {what}: it {error}; remove that line") from None

    def append(self, record: Record) -> None:
        """Add a record, on the disk before this returns.

        Args:
            record: anything that JSON takes, with its ``id``.
        """
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self.path.open("a+b") as file:  # whatever is there by now, it is written behind it
            file.seek(0)
            content = file.read()
            if (end := _end(content)) < len(content):
                file.truncate(end)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)


def _end(content: bytes) -> int:
    """Where the last whole line ends: what follows was torn off by a kill."""
    return content.rfind(b"\n") + 1
