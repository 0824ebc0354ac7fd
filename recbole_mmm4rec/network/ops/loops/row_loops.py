"""What compiled loops over sequences are made of: how they are compiled and kept, and arithmetic on rows of float32."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic


@cache
def _sources() -> str:
    """Mark of the files that the loops stand in."""
    files = (Path(__file__), Path(__file__).with_name("sequence_kernels.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _compiling(function: Any, *flags: str) -> Any:
    """A function compiled when it is first called, and kept on disk where there is a place for that."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", *flags}}
    try:
        made = njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(function, **options)
    # numba looks at a function's own file alone: it would keep a loop whose parts have changed in the other one
    kept = made._cache._cache_file
    kept._source_stamp = (kept._source_stamp, _sources())
    return made


def compiled(function: Any) -> Any:
    """Sums may be added up in any order."""
    return _compiling(function, "reassoc")


def in_order(function: Any) -> Any:
    """The order is what keeps the digits."""
    return _compiling(function)


ONE = np.float32(1.0)
_LOG2_E, _LN_2 = np.float32(1.44269504), np.float32(0.693147181)
# exp(r) = 1 + r + r²·(…), |r| ≤ ln 2 / 2; minimax coefficients as in the Cephes library's expf
_C6, _C5, _C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C2, _C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_LIMIT = np.float32(87.0)


@intrinsic
def bare(_: Any, array: Any) -> Any:
    """An array without its count of references, which all threads would write at each slice; its owner must live on."""

    def borrow(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        made.meminfo, made.parent = made.meminfo.type(None), made.parent.type(None)
        return made._getvalue()

    return array(array), borrow


@in_order
def sigmoid(x: Any, out: Any, bits: Any) -> None:
    """1/(1 + exp(−x)) of a row of float32; ``bits`` is ``out`` seen as int32."""
    width = len(x)
    for j in range(width):
        value = -x[j]
        value = -_LIMIT if value < -_LIMIT else value
        value = _LIMIT if value > _LIMIT else value
        bits[j] = np.int32(value * _LOG2_E + np.float32(128.5))  # 128 + the nearest power of two
    for j in range(width):
        bits[j] = (bits[j] - np.int32(1)) << np.int32(23)  # that power as a float32
    for j in range(width):
        value = -x[j]
        value = -_LIMIT if value < -_LIMIT else value
        value = _LIMIT if value > _LIMIT else value
        power = np.float32(np.int32(value * _LOG2_E + np.float32(128.5))) - np.float32(128.0)
        rest = value - power * _LN_2
        sum_ = ((((_C6 * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2) * rest + _C1
        out[j] = ONE / (ONE + (sum_ * rest * rest + rest + ONE) * out[j])


@compiled
def load(row: Any, half: bool, out: Any, bits: Any) -> None:
    """A row of float32, or of bfloat16's bits, as float32."""
    if half:
        for j in range(len(out)):
            bits[j] = np.int32(row[j]) << np.int32(16)
    else:
        for j in range(len(out)):
            out[j] = row[j]


@compiled
def store(values: Any, bits: Any, half: bool, row: Any) -> None:
    """The inverse of :func:`load`, to the nearest bfloat16, ties to even."""
    if half:
        for j in range(len(values)):
            word = np.uint32(bits[j])
            row[j] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
    else:
        for j in range(len(values)):
            row[j] = values[j]


@compiled
def dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@compiled
def add(factor: Any, x: Any, out: Any) -> None:
    """out += factor·x."""
    for j in range(len(out)):
        out[j] += factor * x[j]


@compiled
def add_product(a: Any, b: Any, out: Any) -> None:
    """out += a·b, number by number."""
    for j in range(len(out)):
        out[j] += a[j] * b[j]
