"""Large item tables that stay on disk: what was looked at is given back, and memory stays small."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

import torch
from torch import Tensor

ROWS = 1024
"""Rows that are gathered before their pages are given back; the system reads up to 64 KiB around each."""
_RANGE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ +(.*)")


def is_mapped(values: Tensor, file: Path) -> bool:
    """Whether a tensor's memory is this file's, as the system tells it."""
    maps = Path("/proc/self/maps")
    if values.device.type != "cpu" or not values.numel() or not maps.is_file():
        return False
    first, last = values.data_ptr(), values.data_ptr() + values.numel() * values.element_size() - 1
    for line in maps.read_text().splitlines():
        found = _RANGE.match(line)
        if found and int(found[1], 16) <= first and last < int(found[2], 16):
            return found[3] == str(file.resolve())
    return False


def release(values: Tensor) -> None:
    """Give back the memory of mapped rows that nobody writes to; they are read again when they are needed.

    Args:
        values: contiguous, of a tensor that :func:`is_mapped` is true of.
    """
    page = mmap.PAGESIZE
    first = -(-values.data_ptr() // page) * page
    last = (values.data_ptr() + values.numel() * values.element_size()) // page * page
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def gathered(table: Tensor, rows: Tensor) -> Tensor:
    """(n, D) rows of a mapped table in memory of their own.

    Args:
        table: (I+1, D), mapped.
        rows: (n,) int64.
    """
    made = table.new_empty(len(rows), table.shape[1])
    for start in range(0, len(rows), ROWS):
        place = slice(start, start + ROWS)
        torch.index_select(table, 0, rows[place], out=made[place])
        release(table)
    return made
