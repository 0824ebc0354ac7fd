"""Arrays in ``.npy`` files, read so that a damaged or foreign one is told in a few words."""

from __future__ import annotations

import ast
import math
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_mmm4rec.base.errors import UserError

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # of the number that says how long the header is, by version
_LONGEST = 4096  # bytes of a header; one of an array of numbers takes 118
_KIND = re.compile(r"[<>|=]?([?]|b1|[iu][1248]|f[248])")
_TEXT_KIND = re.compile(r"[<>|=]?[US][0-9]{1,5}")


class _Header(NamedTuple):
    dtype: np.dtype
    fortran: bool
    shape: tuple[int, ...]
    size: int  # bytes up to the first number


def read_array(path: Path, mapped: bool = False) -> np.ndarray:
    """An array of numbers or truth values.

    NumPy's own reader trusts the header: a damaged one ends in an error of Python's tokenizer or asks for terabytes.

    Args:
        path: a ``.npy`` file.
        mapped: leave it on disk, read-only.

    Raises:
        ValueError: no array of numbers, or cut off; the message is what is wrong.
        UserError: longer than its header says.
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        header = _parse(handle.read(len(_MAGIC) + 6 + _LONGEST))
        count = math.prod(header.shape)
        expected, found = header.size + count * header.dtype.itemsize, path.stat().st_size
        if found < expected:
            raise ValueError(f"cut off after {found} of {expected} bytes")
        if found > expected:
            raise UserError(f"has {found} bytes where {expected} are expected")
        order: Any = "F" if header.fortran else "C"
        if mapped and count:
            return np.memmap(path, header.dtype, "r", header.size, header.shape, order)
        handle.seek(header.size)
        return np.fromfile(handle, header.dtype, count).reshape(header.shape, order=order)


def array_of(content: bytes) -> np.ndarray:
    """An array of numbers, truth values or texts from the bytes of a ``.npy`` file, as one stands in a ``.npz``.

    Raises:
        ValueError: as for :func:`read_array`.
    """
    header = _parse(content, texts=True)
    count = math.prod(header.shape)
    if len(content) != header.size + count * header.dtype.itemsize:
        raise ValueError(f"has {len(content)} bytes where {header.size + count * header.dtype.itemsize} are expected")
    order: Any = "F" if header.fortran else "C"
    return np.frombuffer(content, header.dtype, count, header.size).reshape(header.shape, order=order)


def _parse(start: bytes, texts: bool = False) -> _Header:
    width = _LENGTH_BYTES.get(start[6]) if start[:6] == _MAGIC and len(start) > 8 else None
    if width is None:
        raise ValueError("is no array of NumPy's")
    begin = 8 + width
    end = begin + int.from_bytes(start[8:begin], "little")
    if not begin < end <= min(len(start), begin + _LONGEST):
        raise ValueError("has a damaged header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of text that is nearly a literal
            told = ast.literal_eval(start[begin:end].decode("latin-1").strip())
        kind, fortran, shape = told["descr"], told["fortran_order"], told["shape"]
        good = isinstance(fortran, bool) and isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        good = False
    if not good:
        raise ValueError("has a damaged header")
    if not isinstance(kind, str) or not (_KIND.fullmatch(kind) or (texts and _TEXT_KIND.fullmatch(kind))):
        raise ValueError(f"holds {str(kind)[:40]!a}, no plain numbers")
    return _Header(np.dtype(kind), fortran, shape, end)
