"""Reviews as columns: whole files at once, and line by line those in which something is amiss."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_prep.files.times import MICROSECONDS, parse_time
from dataset_prep.filters.interactions import Interactions
from dataset_prep.sources.amazon.database import EARLIEST, Row, review_table
from dataset_prep.sources.amazon.layouts import ReviewLayout, csv_row, detect_reviews
from dataset_prep.sources.amazon.lines import BadLines, UnusableError, amazon_id, head, numbered_lines, parse_record
from recbole_mmm4rec.base.errors import UserError


@dataclass(frozen=True)
class Reviews:
    """What stood in the files of reviews.

    Attributes:
        table: sorted, distinct.
        read: usable reviews, repetitions among them.
        digest: sha256 of the distinct reviews; the order of lines and files does not matter.
    """

    table: Interactions
    read: int
    digest: str


@dataclass(frozen=True)
class ReadOptions:
    """How reviews are read.

    Attributes:
        year: 2014, 2018 or 2023; None to tell from each file.
        time_unit: "s" or "ms"; None for the layout's own.
        with_rating: ratings are wanted.
        each_rating: reviews that differ in the rating alone are two, and one without a rating is unusable.
    """

    year: int | None = None
    time_unit: str | None = None
    with_rating: bool = False
    each_rating: bool = False


def read_reviews(paths: Sequence[Path], options: ReadOptions, bad: BadLines, spill: Path) -> Reviews:
    """Reads all files of reviews.

    A file is first read by DuckDB. Should it find anything amiss (a broken line, an id or a time stamp that is none),
    the file is read again line by line, which takes about ten times as long and tells which lines are unusable.

    Args:
        paths: of JSON lines, Python literals or CSV, plain or gzip, each in a layout of its own.
        options: how they are read.
        bad: takes the unusable lines.
        spill: a folder for what does not fit into memory; made only then, and removed.

    Raises:
        UserError: a file is missing, damaged or holds no reviews; too many lines, or all, are unusable.
    """
    layouts = [detect_reviews(path, head(path), options.year) for path in paths]
    units = [options.time_unit or layout.unit for layout in layouts]
    with review_table(spill, options.with_rating, options.each_rating) as table:
        by_line = set()
        for number, (path, layout, unit) in enumerate(zip(paths, layouts, units, strict=True)):
            if layout.form == "literal" or not table.read_whole(number, path, layout, unit):
                by_line.add(number)
        by_line |= table.files_with_odd_ids()
        for number in sorted(by_line):
            rows = _usable_rows(paths[number], layouts[number], units[number], bad, options.each_rating)
            table.replace(number, rows)
        bad.report()
        read = len(table)
        if not read:
            raise UserError(f"{paths[0]}: no usable review; give a file with at least one")
        interactions = table.finish()
    return Reviews(interactions, read, _digest(interactions))


def _usable_rows(path: Path, layout: ReviewLayout, unit: str, bad: BadLines, rated: bool) -> Iterator[Row]:
    for number, line in numbered_lines(path):
        try:
            if layout.form != "csv":
                yield _row(parse_record(line), layout, unit, rated)
                continue
            fields = csv_row(line)
            if layout.header and tuple(fields) == layout.columns:
                continue
            if len(fields) != len(layout.columns):
                raise UnusableError(f"{len(fields)} fields where {len(layout.columns)} are wanted")
            yield _row(dict(zip(layout.columns, fields, strict=True)), layout, unit, rated)
        except UnusableError as error:
            bad.add(path, number, str(error), line)


def _row(record: dict[str, Any], layout: ReviewLayout, unit: str, rated: bool = False) -> Row:
    user = amazon_id(record.get(layout.user), "user")
    item = amazon_id(next(filter(None, (record.get(key) for key in layout.items)), None), "item")
    stamp = record.get(layout.time)
    if isinstance(stamp, bool) or not isinstance(stamp, str | int | float):
        raise UnusableError("no timestamp")
    try:
        time = parse_time(str(stamp), unit, "")
    except UserError as error:
        raise UnusableError(str(error).removeprefix(": ")) from None
    if unit == "ms" and time < EARLIEST * MICROSECONDS:
        raise UnusableError(f"timestamp '{stamp}' is too small to count ms; it looks like s: add --time-unit s")
    rating = _rating(record.get(layout.rating))
    if rated and math.isnan(rating):
        raise UnusableError("no rating")
    return user, item, time, rating


def _rating(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _digest(table: Interactions) -> str:
    digest = hashlib.sha256()
    for tokens in (table.users, table.items):
        digest.update("\n".join(tokens).encode() + b"\n\n")
    for column in (table.user, table.item, table.time, table.rating):
        if column is not None:
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
