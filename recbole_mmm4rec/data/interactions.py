"""Reading interactions from RecBole's atomic files, and the checks that make a mistake in them one clear line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.data.coded_tokens import as_codes, read_as_codes

_TYPES = ("token", "float", "token_seq", "float_seq")
_TIME_LIMIT = 2.0**62  # inside int64, whatever the unit


def require_files(folder: Path, names: Sequence[str], dataset: str) -> None:
    """Refuse a data set whose folder or interaction files are missing.

    Args:
        folder: the data set's folder.
        names: file names that must lie in it.
        dataset: the data set's name, for the message.

    Raises:
        UserError: a folder or file is missing; says what was looked for and which commands make one.
    """
    way_out = (
        f"set data_path to the folder that holds '{dataset}', or prepare it: "
        "`python -m dataset_prep table --interactions FILE --items FILE --name "
        f"{dataset}` (`python -m dataset_prep --help` lists the other sources)"
    )
    if not folder.is_dir():
        raise UserError(f"data set '{dataset}': no folder {folder}; {way_out}")
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"data set '{dataset}': no file {folder / name}; {way_out}")


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Columns of an atomic file and their types.

    Args:
        path: the file; its first line reads ``field:type`` for each column.
        separator: what stands between columns.
        encoding: of the file.

    Returns:
        Field name to type, in the file's order.

    Raises:
        UserError: the file is empty, or a column has no type that RecBole knows.
    """
    try:
        with path.open(encoding=encoding) as lines:
            first = lines.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not {encoding} at byte {error.start}; convert the file or set encoding") from error
    if first.startswith("\ufeff"):
        raise UserError(f"{path}: starts with a byte order mark; save it as UTF-8 without one")
    if not first:
        raise UserError(f"{path}: empty file; its first line must name columns, as in user_id:token")
    header: dict[str, str] = {}
    for column in first.split(separator):
        field, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise UserError(f"{path}:1: column '{column}' has no known type; write NAME:TYPE with one of {_TYPES}")
        header[field] = kind
    return header


def require_columns(path: Path, header: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse an interaction file without the columns that sequences are made of.

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


def read_columns(
    path: Path, header: dict[str, str], fields: Sequence[str], separator: str, encoding: str
) -> pd.DataFrame:
    """Read token and float columns of an atomic file with Arrow's or pandas' compiled parser.

    The result equals RecBole's own (``Dataset._load_feat``, whose Python parser is many times slower): text for tokens,
    as categories in the order of first appearance, and the nearest float64 for numbers. Only a line with too many
    fields is refused here.

    Args:
        path: the file.
        header: its columns and their types.
        fields: the columns to keep, "token" or "float".
        separator: one character.
        encoding: of the file.

    Returns:
        A frame with the fields in the file's order.

    Raises:
        UserError: a line has too many fields or a number cannot be read; names the line.
    """
    frame = read_as_codes(path, header, fields, separator) if encoding.lower() in ("utf-8", "utf8") else None
    if frame is not None:
        return _with_rows(frame, path)
    floats = [field for field in fields if header[field] == "float"]
    dtypes = {f"{field}:{kind}": np.float64 if field in floats else str for field, kind in header.items()}
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=dtypes,
            index_col=False,
            encoding=encoding,
            engine="c",
            float_precision="round_trip",
        )
    except (ValueError, OverflowError) as error:
        raise UserError(_parse_failure(path, floats, separator, encoding, error)) from error
    frame.columns = pd.Index(list(header))
    columns = {field: frame.pop(field) for field in fields}
    kept = {field: column if field in floats else as_codes(column) for field, column in columns.items()}
    return _with_rows(pd.DataFrame(kept, copy=False), path)


def _with_rows(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    if frame.empty:
        raise UserError(f"{path}: no interactions below the header; prepare the data set again")
    return frame


def _parse_failure(path: Path, floats: Sequence[str], separator: str, encoding: str, error: Exception) -> str:
    """Why a file could not be parsed: the first bad number with its line, else the parser's own words."""
    if not isinstance(error, (pd.errors.ParserError, UnicodeError)):
        text = pd.read_csv(path, sep=separator, dtype=str, encoding=encoding, engine="c", index_col=False)
        for field in floats:
            values = text[f"{field}:float"]
            bad = np.flatnonzero((pd.to_numeric(values, errors="coerce").isna() & values.notna()).to_numpy())
            if len(bad):
                return f"{path}:{_line(path, bad[0], encoding)}: {field} '{values.iloc[bad[0]]}' is not a number"
    reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
    return f"{path}: cannot be read: {reason}"


def _line(path: Path, row: int, encoding: str) -> int:
    """The line of a file on which its ``row``-th interaction stands; pandas skips blank lines."""
    with path.open(encoding=encoding) as lines:
        filled = (number for number, line in enumerate(lines, start=1) if line.strip("\r\n"))
        return next(itertools.islice(filled, row + 1, None))


def check_times(frame: pd.DataFrame, user_field: str, time_field: str, path: Path, encoding: str) -> None:
    """Refuse time stamps from which no gap between interactions can be computed.

    Args:
        frame: interactions in the order of the file.
        user_field: column of users.
        time_field: column of time stamps, float64 seconds.
        path: the file, for the message.
        encoding: of the file.

    Raises:
        UserError: a time stamp is missing, not finite or negative; names line, user and value.
    """
    times = frame[time_field].to_numpy(dtype=np.float64)
    for wrong, word in ((~np.isfinite(times), "not a finite number"), (times < 0, "negative")):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = "missing" if np.isnan(times[row]) else f"{times[row]:.17g}"
            user, line = frame[user_field].iloc[row], _line(path, row, encoding)
            raise UserError(
                f"{path}:{line}: {time_field} of user '{user}' is {word}: {value}; "
                "mend it, or set is_time: False to leave time gaps out of the model"
            )


def check_time_passes(times: np.ndarray, path: Path) -> None:
    """Refuse interactions that all happened at once.

    Args:
        times: float64 (R,).
        path: the file, for the message.

    Raises:
        UserError: all time stamps are equal.
    """
    if len(times) > 1 and (times == times[0]).all():
        raise UserError(
            f"{path}: all {len(times)} time stamps are {times[0]:.17g}, so no interaction comes before another; "
            "set is_time: False to take the order of the file, or prepare the data with --time-from-order"
        )


def whole_seconds(times: np.ndarray) -> np.ndarray:
    """Time stamps as int64, fractions cut off: exact where float32, RecBole's choice, has steps of 128 s.

    Args:
        times: float64 (R,), finite or infinite; NaN counts as the earliest.

    Returns:
        int64 (R,).
    """
    bounded = np.nan_to_num(times, nan=-_TIME_LIMIT, posinf=_TIME_LIMIT, neginf=-_TIME_LIMIT)
    np.floor(np.clip(bounded, -_TIME_LIMIT, _TIME_LIMIT, out=bounded), out=bounded)
    return bounded.astype(np.int64)
