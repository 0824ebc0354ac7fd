"""Columns of atomic files as RecBole's data sets hold them, read by one reader whichever the model."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_mmm4rec.base.atomic_files import is_utf8, line_of, read_header, read_rows
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.arrow import MISSING, read_with_arrow


def load_feat(dataset: Any, path: Path, source: FeatureSource | str, coded: bool = False) -> pd.DataFrame | None:
    """RecBole's ``Dataset._load_feat``: the wanted columns of a file, and what the data set notes about them.

    Args:
        dataset: a RecBole data set.
        path: the file.
        source: what it is about; of a file of RecBole's ``additional_feat_suffix``, its suffix.
        coded: tokens are categories instead of strings.

    Returns:
        A frame: tokens, float64 numbers and arrays for sequences. None where ``load_col`` wants none of the file.

    Raises:
        UserError: the file cannot be read as RecBole's format has it, or has none of the columns that are wanted.
    """
    load, unload = dataset._get_load_and_unload_col(source)
    if load == set():
        return None
    config = dataset.config
    separator, encoding = config["field_separator"], config["encoding"] or "utf-8"
    header = read_header(path, separator, encoding)
    fields = [f for f in header if (load is None or f in load) and f not in (unload or ())]
    additional = source in (config["additional_feat_suffix"] or ())
    if load is not None and (not fields or (additional and load - set(fields))):
        lacking = ", ".join(sorted(load - set(fields)))
        raise UserError(
            f"{path}: no column {lacking} among {', '.join(header)}; load_col={config['load_col']} names it"
        )
    if not fields:
        return None
    frame = read_columns(path, header, fields, separator, encoding)
    for field in fields:
        kind = FeatureType(header[field])
        if source != "link":
            dataset.field2source[field], dataset.field2type[field] = source, kind
            if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
                dataset.field2seqlen[field] = 1
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                dataset.field2bucketnum[field] = 2
        if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
            longest = (config["seq_len"] or {}).get(field)
            values = _sequences(frame[field], config["seq_separator"], kind, path, encoding)
            frame[field] = pd.Series([value[:longest] for value in values], index=frame.index, dtype=object)
            dataset.field2seqlen[field] = max(map(len, frame[field]))
        elif kind == FeatureType.TOKEN and not coded:
            frame[field] = np.asarray(frame[field], dtype=object)
    return frame


def read_columns(
    path: Path, header: Mapping[str, str], fields: Sequence[str], separator: str, encoding: str
) -> pd.DataFrame:
    """Read columns of an atomic file, fast where that gives the same.

    Args:
        path: the file.
        header: its columns and their types.
        fields: the columns to keep.
        separator: what stands between fields.
        encoding: of the file.

    Returns:
        A frame with the fields in the order asked for: tokens as categories in the order of first appearance, float64
        numbers, and the text of sequences; a missing token or number is NaN, a missing sequence empty.

    Raises:
        UserError: the file has no rows or cannot be read; names the line.
    """
    frame = read_with_arrow(path, header, fields, separator) if is_utf8(encoding) else None
    if frame is None:
        frame = read_plainly(path, header, fields, separator, encoding)
    if frame.empty:
        raise UserError(f"{path}: no rows below the header; prepare the data set again")
    return frame


def read_plainly(
    path: Path, header: Mapping[str, str], fields: Sequence[str], separator: str, encoding: str
) -> pd.DataFrame:
    """:func:`read_columns` line by line, for what Arrow does not take: other encodings and long separators."""
    names = list(header)
    columns = [(names.index(field), field, _COLLECTORS[header[field]]()) for field in fields]
    for number, values in read_rows(path, header, separator, encoding):
        for place, field, column in columns:
            if "\0" in values[place]:  # which NumPy cuts off at the end of a string, so that two tokens would be one
                raise UserError(f"{path} line {number}: a zero byte in {field}; the file is damaged, or set encoding")
            try:
                column.add(values[place])
            except ValueError:
                raise UserError(f"{path} line {number}: {field} '{values[place]}' is not a number") from None
    return pd.DataFrame({field: column.finish() for _, field, column in columns}, copy=False)


class _Tokens:
    """A column of tokens: a code for each row, and the distinct tokens in the order of appearance."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}
        self._codes = array("q")

    def add(self, text: str) -> None:
        self._codes.append(-1 if text in MISSING else self._code_of.setdefault(text, len(self._code_of)))

    def finish(self) -> pd.Categorical:
        categories = pd.Index(list(self._code_of), dtype=object)
        return pd.Categorical.from_codes(np.frombuffer(self._codes, dtype=np.int64), categories=categories)


class _Numbers:
    """A column of numbers."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def add(self, text: str) -> None:
        self._numbers.append(np.nan if text in MISSING else number(text))

    def finish(self) -> np.ndarray:
        return np.array(self._numbers)


class _Texts:
    """A column of sequences, as text."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        self._texts.append("" if text in MISSING else text)

    def finish(self) -> np.ndarray:
        texts = np.empty(len(self._texts), dtype=object)
        texts[:] = self._texts
        return texts


_COLLECTORS: dict[str, Callable[[], _Tokens | _Numbers | _Texts]] = {
    "token": _Tokens,
    "float": _Numbers,
    "token_seq": _Texts,
    "float_seq": _Texts,
}


def number(text: str) -> float:
    """The number that a text is in any program, not in Python alone.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)


def _sequences(texts: pd.Series, separator: str, kind: FeatureType, path: Path, encoding: str) -> list[np.ndarray]:
    """Sequences (R,) of text as arrays of tokens or numbers."""
    parts = ([part for part in text.split(separator) if part] for text in texts)
    if kind == FeatureType.TOKEN_SEQ:
        return [np.array(tokens, dtype=str) for tokens in parts]
    sequences: list[np.ndarray] = []
    try:
        sequences.extend(np.array([number(part) for part in numbers], dtype=np.float64) for numbers in parts)
    except ValueError:
        row = len(sequences)
        line = line_of(path, row, encoding)
        raise UserError(f"{path} line {line}: {texts.name} '{texts.iloc[row]}' is no list of numbers") from None
    return sequences
