"""Lines of Amazon's files: plain or gzip, read one by one, the unusable ones counted and the first of them quoted."""

from __future__ import annotations

import ast
import gzip
import json
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import infinity
from recbole_mmm4rec.base.texts import check_id

MAX_LINE = 2 << 20  # bytes; the longest real lines are far below a tenth of it
HEAD = 100  # lines that tell what a file is
_QUOTED = 5
_EXCERPT = 60  # characters of a quoted line
_REASON = 160  # characters of a reason, which may quote a value
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

logger = logging.getLogger(__name__)


class UnusableError(ValueError):
    """A line that cannot be used; the message says why."""


class BadLines:
    """Counts unusable lines and stops the run when there are too many.

    Args:
        limit: how many may be.
    """

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._quoted: list[str] = []

    def add(self, path: Path, number: int, reason: str, line: bytes) -> None:
        """Counts a line.

        Args:
            path: its file.
            number: of the line, from 1.
            reason: why it cannot be used.
            line: as it stands in the file.

        Raises:
            UserError: these are too many.
        """
        self.count += 1
        if len(self._quoted) < _QUOTED:
            excerpt = line[: 4 * _EXCERPT].decode("utf-8", "backslashreplace").strip()
            excerpt = ascii(excerpt if len(excerpt) <= _EXCERPT else excerpt[:_EXCERPT] + "...")
            self._quoted.append(f"{path} line {number}: {reason[:_REASON]}: {excerpt}")
        if self.count > self._limit:
            raise UserError(
                f"{self._quoted[0]}; more than {self._limit:,} lines like that: mend the file, or raise --max-bad"
            )

    def report(self) -> None:
        """Logs how many there were, and quotes the first."""
        if self.count:
            quoted = "\n  ".join(self._quoted)
            logger.warning("%d lines left out because they cannot be used; the first:\n  %s", self.count, quoted)


def is_gzip(path: Path) -> bool:
    """Whether a file's content, not its name, is gzip."""
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked.

    Raises:
        UserError: no such file, or a gzip file that is cut off or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as handle:
            yield handle  # type: ignore[misc]  # GzipFile reads as a BinaryIO does
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: gzip data cut off or damaged ({error}); fetch the file again") from None


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1; of one longer than ``MAX_LINE`` only the beginning.

    Raises:
        UserError: see :func:`opened`.
    """
    with opened(path) as handle:
        number = 0
        while line := handle.readline(MAX_LINE + 1):
            number += 1
            rest = line
            while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                rest = handle.readline(MAX_LINE + 1)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def head(path: Path) -> list[bytes]:
    """The first lines that are not blank, at most ``HEAD``.

    Raises:
        UserError: the file is empty, or see :func:`opened`.
    """
    lines = [line for (_, line), _ in zip(numbered_lines(path), range(HEAD), strict=False)]
    if not lines:
        raise UserError(f"{path}: the file is empty")
    return lines


def decode(line: bytes) -> str:
    """The line as text.

    Raises:
        UnusableError: it is too long, or no UTF-8.
    """
    if len(line) > MAX_LINE:
        raise UnusableError(f"longer than {MAX_LINE >> 20} MiB")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableError("no UTF-8") from None


def parse_record(line: bytes) -> dict[str, Any]:
    """The object of a line: JSON, numbers as the text they are, or a Python literal as in the files of 2014.

    A literal is only ever read, never run: it can hold strings, numbers, lists and dictionaries, no names and calls.

    Raises:
        UnusableError: it is neither, or no object.
    """
    text = decode(line)
    try:
        record = json.loads(text, parse_int=str, parse_float=str, parse_constant=infinity)
    except (ValueError, RecursionError):
        record = _literal(text)
    if not isinstance(record, dict):
        raise UnusableError("no object")
    return record


def amazon_id(value: Any, what: str) -> str:
    """A user or item id.

    Args:
        value: as it stands in a record.
        what: "user" or "item", for the message.

    Raises:
        UnusableError: it is missing, or no id of Amazon's.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # a Python literal's number; those of JSON are text already
    if not isinstance(value, str) or not value:
        raise UnusableError(f"no {what} id")
    if not _ID.fullmatch(value):
        shown = value if len(value) <= _EXCERPT else value[:_EXCERPT] + "..."
        raise UnusableError(f"{what} id {shown!a} is not 1 to 64 letters, digits, '-' and '_'")
    try:
        return check_id(value, f"{what} id", "")
    except UserError as error:
        raise UnusableError(str(error).removeprefix(": ")) from None


def _literal(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        raise UnusableError("no object")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash in a title is no matter for Python's warnings
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise UnusableError("neither JSON nor a Python literal") from None
