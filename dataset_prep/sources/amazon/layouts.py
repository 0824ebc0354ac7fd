"""What Amazon's review files of 2014, 2018 and 2023 look like, and how one tells which a file is."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_prep.sources.amazon.lines import UnusableError, decode, parse_record
from recbole_mmm4rec.base.errors import UserError

YEARS = (2014, 2018, 2023)
_ASIN_LENGTH = 10
# What a part of the text is called in the files: 2014, 2018 and 2023 have their own names, which mean the same.
TEXT_FIELDS = {
    "title": ("title",),
    "brand": ("brand", "store"),
    "categories": ("categories", "category"),
    "features": ("features", "feature"),
    "description": ("description",),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReviewLayout:
    """How a file of reviews is to be read.

    Attributes:
        form: "json" or "literal" lines, or "csv".
        user: key or column of the user id.
        items: keys or columns of the item id; the first that is filled counts.
        time: key or column of the time stamp.
        rating: key or column of the rating.
        unit: what a time stamp counts, "s" or "ms".
        columns: of a CSV file, in order.
        header: the CSV file's first line names the columns.
    """

    form: str
    user: str
    items: tuple[str, ...]
    time: str
    rating: str
    unit: str
    columns: tuple[str, ...] = ()
    header: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """All keys or columns that are read."""
        return (self.user, *self.items, self.time, self.rating)


_OLD = ("reviewerID", ("asin",), "unixReviewTime", "overall", "s")
_NEW = ("user_id", ("parent_asin", "asin"), "timestamp", "rating", "ms")
_COLUMNS = ("user", ("item",), "timestamp", "rating", "s")  # of the files without a header
_USER_FIRST = ("user", "item", "rating", "timestamp")
_ITEM_FIRST = ("item", "user", "rating", "timestamp")


def detect_reviews(path: Path, lines: Sequence[bytes], year: int | None) -> ReviewLayout:
    """The layout of a file of reviews, from its first lines.

    Args:
        path: for messages.
        lines: the first that are not blank.
        year: 2014, 2018 or 2023 if it is known, None to find out.

    Raises:
        UserError: none of the lines is a review (of that year).
    """
    layout = _csv_layout(path, lines, year)
    for line in lines:
        layout = layout or _record_layout(line, year)
    if layout is None:
        known = "2014, 2018 or 2023" if year is None else f"{year}"
        raise UserError(
            f"{path}: none of the first {len(lines)} lines is a review in the layout of {known}; "
            "give a file of reviews, or another --year"
        )
    return layout


def check_metadata(path: Path, lines: Sequence[bytes]) -> None:
    """Makes sure that a file is one of metadata.

    Raises:
        UserError: the first lines are reviews, or none of them says anything of an item.
    """
    for line in lines:
        record = _record(line)
        if "reviewerID" in record or "user_id" in record:
            raise UserError(f"{path}: these are reviews; give the file of metadata with --meta")
        if "asin" in record or "parent_asin" in record:
            return
    raise UserError(
        f"{path}: none of the first {len(lines)} lines is an object with 'asin' or 'parent_asin'; "
        "give Amazon's file of metadata"
    )


def _record(line: bytes) -> dict[str, Any]:
    try:
        return parse_record(line)
    except UnusableError:
        return {}


def _record_layout(line: bytes, year: int | None) -> ReviewLayout | None:
    record = _record(line)
    # The quotation mark of the first key tells JSON from Python's way of writing.
    form = "literal" if line.lstrip()[1:].lstrip().startswith(b"'") else "json"
    for years, keys in (((2014, 2018), _OLD), ((2023,), _NEW)):
        user, items, time, _, _ = keys
        if (year is None or year in years) and {user, time} <= record.keys() and not record.keys().isdisjoint(items):
            return ReviewLayout(form, *keys)
    return None


def _csv_layout(path: Path, lines: Sequence[bytes], year: int | None) -> ReviewLayout | None:
    rows = [row for row in map(csv_row, lines) if row]
    if not rows:
        return None
    header = tuple(rows[0])
    if {"user_id", "timestamp", "rating"} <= set(header) and not {"parent_asin", "asin"}.isdisjoint(header):
        if year not in (None, 2023):
            return None
        user, keys, time, rating, unit = _NEW
        items = tuple(key for key in keys if key in header)
        return ReviewLayout("csv", user, items, time, rating, unit, header, True)
    rows = [row for row in rows if len(row) == 4 and _is_number(row[2]) and _is_number(row[3])]
    if not rows or year == 2023:
        return None
    first, second = (all(len(row[column]) == _ASIN_LENGTH for row in rows) for column in (0, 1))
    if year is None and first == second:
        logger.warning("%s: item first, as in 2018, or user first, as in 2014? Took the first; see --year", path)
    user_first = year == 2014 if year is not None else second and not first
    return ReviewLayout("csv", *_COLUMNS, columns=_USER_FIRST if user_first else _ITEM_FIRST)


def csv_row(line: bytes) -> list[str]:
    """The fields of a CSV line; none if it is no such line."""
    try:
        text = decode(line).strip()
        return [] if text.startswith("{") else next(csv.reader([text], strict=True), [])
    except (UnusableError, csv.Error):
        return []


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
