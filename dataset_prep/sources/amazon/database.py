"""The table of reviews while it is made, in DuckDB."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import duckdb
import numpy as np

from dataset_prep.files.times import LATEST, MICROSECONDS, PER_SECOND
from dataset_prep.filters.interactions import Interactions, firsts
from dataset_prep.sources.amazon.layouts import ReviewLayout
from dataset_prep.sources.amazon.lines import MAX_LINE, is_gzip, opened
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import READ_AS_MISSING
from recbole_mmm4rec.base.tied_times import ITEM_ID

EARLIEST = 100_000_000  # seconds, 1973: an earlier stamp counts another unit than was thought
_ROWS = 100_000  # parsed one by one, then handed to DuckDB
_BLOCK = MAX_LINE // 2
# Words that JSON's true and false become, and those that no id may be: files with them are read line by line.
_ODD_WORDS = sorted({"true", "false", *READ_AS_MISSING})

Row = tuple[str, str, int, float]  # user, item, microseconds, rating


class ReviewTable:
    """User, item, microsecond and rating of reviews by the number of their file.

    Args:
        database: empty.
        with_rating: ratings are wanted.
        each_rating: reviews that differ in the rating alone are two; ratings are wanted then.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, with_rating: bool, each_rating: bool = False) -> None:
        self._database = database
        self._with_rating = with_rating or each_rating
        self._each_rating = each_rating
        database.execute(
            "CREATE TABLE review (file INTEGER, user_id VARCHAR, item_id VARCHAR, time BIGINT, rating DOUBLE)"
        )

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM review").fetchall()[0][0])

    def read_whole(self, number: int, path: Path, layout: ReviewLayout, unit: str) -> bool:
        """Reads a file at once; False if anything in it needs a closer look, which the caller then has to take.

        Args:
            number: of the file.
            path: a file of JSON lines or CSV, plain or gzip.
            layout: of the file.
            unit: of its time stamps.

        Raises:
            UserError: the file is a gzip file that is cut off or damaged.
        """
        item = "coalesce(" + ", ".join(f"nullif({_name(key)}, '')" for key in layout.items) + ")"
        rating = _name(layout.rating) if self._with_rating else "NULL"
        # one whole number, so that a double holds the product exactly
        scale = f"* {MICROSECONDS // PER_SECOND[unit]}" if unit != "ns" else f"/ {PER_SECOND[unit] // MICROSECONDS}"
        time = f"floor({_name(layout.time)} {scale})::BIGINT"
        columns = f"{number}, {_name(layout.user)}, {item}, {time}, {rating}"
        too_long = threading.Event()
        with _readable(path, too_long) as place:
            try:
                self._database.execute(f"INSERT INTO review SELECT {columns} FROM {_source(layout)}", {"path": place})
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error:
                return False
        unrated = "OR rating IS NULL OR isnan(rating)" if self._each_rating else ""
        (odd,) = self._database.execute(
            "SELECT count(*) FROM review WHERE file = ? AND "
            f"(user_id IS NULL OR item_id IS NULL OR time IS NULL OR time NOT BETWEEN ? AND ? {unrated})",
            [number, EARLIEST * MICROSECONDS, LATEST * MICROSECONDS],
        ).fetchall()[0]
        return not odd and not too_long.is_set()

    def files_with_odd_ids(self) -> set[int]:
        """Numbers of the files with ids that may be none."""
        files: set[int] = set()
        for column in ("user_id", "item_id"):
            # Distinct ids first: they are few, and the pattern is slow.
            query = (
                f"SELECT DISTINCT file FROM review WHERE {column} IN ("
                f"SELECT {column} FROM (SELECT DISTINCT {column} FROM review) WHERE "
                f"NOT regexp_full_match({column}, '[A-Za-z0-9_-]{{1,64}}') OR {column} IN (SELECT unnest($words)))"
            )
            files.update(file for (file,) in self._database.execute(query, {"words": _ODD_WORDS}).fetchall())
        return files

    def replace(self, number: int, rows: Iterable[Row]) -> None:
        """Puts rows in the place of those of a file.

        Args:
            number: of the file.
            rows: what is in it.
        """
        import pandas as pd  # slow to load, and hardly ever needed

        self._database.execute("DELETE FROM review WHERE file = ?", [number])
        iterator = iter(rows)
        while block := list(islice(iterator, _ROWS)):
            frame = pd.DataFrame(block, columns=["user_id", "item_id", "time", "rating"])
            self._database.register("block", frame)
            self._database.execute(f"INSERT INTO review SELECT {number}, user_id, item_id, time, rating FROM block")
            self._database.unregister("block")

    def finish(self) -> Interactions:
        """All reviews, sorted and without exact repetitions."""
        users, items = self._ids("user_id"), self._ids("item_id")
        rating, by_rating = "", ""
        if self._with_rating:
            rating = ", CASE WHEN isnan(rating) THEN NULL ELSE rating END AS rating"
            by_rating = ", rating DESC NULLS LAST"
        columns = self._database.execute(
            f"SELECT user_ids.code AS user_code, item_ids.code AS item_code, time {rating} FROM review "
            "JOIN user_ids USING (user_id) JOIN item_ids USING (item_id) "
            f"ORDER BY user_code, time, item_code {by_rating}"
        ).fetchnumpy()
        user, item, time = (np.asarray(columns[name]) for name in ("user_code", "item_code", "time"))
        ratings = np.ma.filled(columns["rating"], np.nan) if self._with_rating else None
        # of one time by item id: what orders the lines of these files is no order in time
        first = firsts(user, item, time, *([ratings] if ratings is not None and self._each_rating else []))
        user, item, time = user[first], item[first], time[first]
        ratings = None if ratings is None else ratings[first]
        return Interactions(users, items, user, item, time, int((~first).sum()), ratings, MICROSECONDS, ITEM_ID)

    def _ids(self, column: str) -> list[str]:
        self._database.execute(
            f"CREATE TABLE {column}s AS SELECT {column}, (row_number() OVER (ORDER BY {column}) - 1)::INTEGER AS code "
            f"FROM (SELECT DISTINCT {column} FROM review)"
        )
        names = self._database.execute(f"SELECT {column} FROM {column}s ORDER BY code").fetchall()
        return [name for (name,) in names]


@contextmanager
def review_table(spill: Path, with_rating: bool, each_rating: bool = False) -> Iterator[ReviewTable]:
    """An empty table, gone at the end.

    Args:
        spill: a folder for what does not fit into memory; made only then, and removed. The one around it exists.
        with_rating, each_rating: as for :class:`ReviewTable`.

    Raises:
        UserError: neither memory nor disk were enough.
    """
    shutil.rmtree(spill, ignore_errors=True)  # of a run that was killed
    try:
        with duckdb.connect(":memory:") as database:
            database.execute("SET preserve_insertion_order = false")
            database.execute(f"SET temp_directory = {_literal(str(spill))}")
            yield ReviewTable(database, with_rating, each_rating)
    except RuntimeError as error:
        # How DuckDB tells of Ctrl-C; its own errors are no RuntimeErrors.
        if "interrupted" in str(error):
            raise KeyboardInterrupt from None
        raise
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise UserError(f"{spill}: not enough memory, or no disk space here; free some ({error})") from None
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _source(layout: ReviewLayout) -> str:
    """The table function that reads a file in a layout, its path a parameter."""
    kinds = dict.fromkeys(layout.columns or layout.fields, "VARCHAR")
    # Not an integer: DuckDB would round a fraction, which belongs to the second before.
    kinds.update({layout.time: "DOUBLE", layout.rating: "DOUBLE"})
    columns = "{" + ", ".join(f"{_name(key)}: '{kind}'" for key, kind in kinds.items()) + "}"
    if layout.form == "json":
        return f"read_json($path, format = 'newline_delimited', compression = 'uncompressed', columns = {columns})"
    header = str(layout.header).lower()
    return (
        f"read_csv($path, auto_detect = false, compression = 'uncompressed', delim = ',', quote = '\"', escape = '\"', "
        f"header = {header}, columns = {columns})"
    )


def _name(key: str) -> str:
    escaped = key.replace('"', '""')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


@contextmanager
def _readable(path: Path, too_long: threading.Event) -> Iterator[str]:
    """A name under which DuckDB reads the file's bytes unpacked.

    A gzip file goes through a pipe: unpacked here, beside DuckDB's work, its checksum is checked, which DuckDB leaves
    out. So does a file whose name DuckDB would take for a pattern. DuckDB takes lines of any length up to some limit of
    its own: ``too_long`` is set at the end where one may be longer than ``MAX_LINE``.
    """
    if not is_gzip(path) and not set("*?[]{}") & set(os.path.abspath(path)):
        if _has_long_line(path):
            too_long.set()
        yield os.path.abspath(path)
        return
    reading, writing = os.pipe()
    failed: list[UserError | OSError] = []
    feeder = threading.Thread(target=_feed, args=(path, writing, failed, too_long), daemon=True)
    feeder.start()
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)  # a feeder that nobody reads from any more ends
        feeder.join()
    if failed:
        raise failed[0]


def _has_long_line(path: Path) -> bool:
    """Whether a line spans a whole block, as each one longer than ``MAX_LINE`` does; reads little of each block."""
    with path.open("rb") as handle:
        for start in range(0, path.stat().st_size, _BLOCK):
            handle.seek(start)
            if len(block := handle.readline(_BLOCK)) == _BLOCK and not block.endswith(b"\n"):
                return True
    return False


def _feed(path: Path, writing: int, failed: list[UserError | OSError], too_long: threading.Event) -> None:
    try:
        with os.fdopen(writing, "wb", buffering=0) as pipe, opened(path) as handle:
            while block := handle.read(_BLOCK):
                if len(block) == _BLOCK and b"\n" not in block:
                    too_long.set()
                pipe.write(block)
    except BrokenPipeError:
        pass  # DuckDB gave up; it tells why
    except (UserError, OSError) as error:
        failed.append(error)
