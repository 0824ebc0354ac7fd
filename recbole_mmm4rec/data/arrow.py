"""The fast reader of atomic files: Arrow's parser, tokens as codes into a list of distinct tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_BLOCK = 2**20  # bytes parsed at a time

_WORDS = """
n/a nan null #N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None
"""
MISSING = frozenset(_WORDS.split()) | {"", "#N/A N/A"}
"""Words that RecBole takes for a missing value: those of ``pandas.read_csv`` (its documentation, ``na_values``)."""


def read_with_arrow(
    path: Path, header: Mapping[str, str], fields: Sequence[str], separator: str
) -> pd.DataFrame | None:
    """Read columns of a UTF-8 file in a fraction of the time that the plain reader takes.

    Args:
        path: the file.
        header: its columns and their types.
        fields: the columns to keep.
        separator: what stands between fields.

    Returns:
        What :func:`~recbole_mmm4rec.data.columns.read_plainly` gives. None where Arrow stumbles over something: the
        plain reader says what is wrong with the file, or reads it.
    """
    import pyarrow
    from pyarrow import csv

    if len(separator.encode()) != 1 or not _has_plain_lines(path):
        return None
    kinds = {field: pyarrow.float64() if header[field] == "float" else pyarrow.string() for field in header}
    pool = pyarrow.default_memory_pool()
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=list(header), skip_rows=1, use_threads=False, block_size=_BLOCK),
            csv.ParseOptions(delimiter=separator, quote_char=False),
            csv.ConvertOptions(
                column_types=kinds,
                include_columns=list(fields),
                null_values=sorted(MISSING),
                strings_can_be_null=True,
            ),
            pool,
        )
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return None
    columns = {}
    for field in fields:
        column = table[field]
        table = table.drop_columns([field])  # so that one column after the other is freed
        columns[field] = _converted(column, header[field])
        if columns[field] is None:
            return None
    del table, column
    pool.release_unused()  # what NumPy needs next
    return pd.DataFrame(columns, copy=False)


def _has_plain_lines(path: Path) -> bool:
    """Whether a file has no zero byte, and no carriage return but before a line feed: Arrow ends a line at each."""
    with path.open("rb") as file:
        kept = b""
        for part in iter(lambda: file.read(_BLOCK), b""):
            part = kept + part
            kept = b"\r" if part.endswith(b"\r") else b""
            part = part[: len(part) - len(kept)]
            if b"\0" in part or (b"\r" in part and part.count(b"\r") != part.count(b"\r\n")):
                return False
    return not kept


def _converted(column: Any, kind: str) -> np.ndarray | pd.Categorical | None:
    """An Arrow column as the plain reader gives it; None where Arrow saw a number in other words than Python does."""
    from pyarrow import compute

    if kind == "float":
        numbers = np.array(column.to_numpy())
        return numbers if np.count_nonzero(np.isnan(numbers)) == column.null_count else None
    if kind.endswith("_seq"):
        return np.array(compute.fill_null(column, "").to_numpy(zero_copy_only=False), dtype=object)
    encoded = compute.dictionary_encode(column)
    if encoded.num_chunks == 0:
        return pd.Categorical([], categories=pd.Index([], dtype=object))
    distinct = encoded.chunk(encoded.num_chunks - 1).dictionary
    codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks]
    tokens = distinct.to_numpy(zero_copy_only=False)
    dtype = pd.CategoricalDtype(pd.Index(tokens, dtype=object))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype, validate=False)
