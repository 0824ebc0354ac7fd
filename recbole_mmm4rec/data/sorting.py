"""Sorting whole numbers, as time stamps and ids are, in less time than NumPy takes for numbers of any kind."""

from __future__ import annotations

import numpy as np


def stable_order(values: np.ndarray) -> np.ndarray:
    """``numpy.argsort(values, kind="stable")``, for whole numbers in less than half the time.

    A number and its place fit into 64 bits as a rule; numbers made of both are sorted faster than places by numbers.

    Args:
        values: numbers (R,).

    Returns:
        int64 (R,).
    """
    rows = len(values)
    if rows < 2 or (values[1:] >= values[:-1]).all():
        return np.arange(rows)
    low, high = float(values.min()), float(values.max())
    if not -(2.0**62) < low <= high < 2.0**62:  # nor is it where a value is missing
        return np.argsort(values, kind="stable")
    packed = np.array(values, dtype=np.int64)
    place_bits = rows.bit_length()
    start = int(packed.min())
    if int(packed.max() - start).bit_length() + place_bits > 63 or not np.array_equal(packed, values):
        return np.argsort(values, kind="stable")
    packed -= start
    packed <<= place_bits
    packed |= np.arange(rows)
    packed.sort()
    packed &= (1 << place_bits) - 1
    return packed


def order_within_groups(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The order by (group, key), of equal ones as they stand: ``numpy.lexsort((keys, groups))``.

    Args:
        groups: integers (R,).
        keys: numbers (R,).

    Returns:
        int64 (R,).
    """
    by_key = stable_order(keys)
    return by_key[stable_order(groups[by_key])]
