"""Whether a pre-training saw later moments than those that a split by points in time lets its row train on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_mmm4rec.compare.job import Job, Shop

OTHER_UNIT = 100
"""A last moment so many times earlier than another is told in another unit, such as seconds and milliseconds."""


def is_late(first: Job, shop: Shop, data_path: Path, last: Callable[[Path, str, str, str], float]) -> bool:
    """Whether a pre-training may know of later moments than a row that starts from it is trained on.

    Args:
        first: the pre-training.
        shop: the data set of the row.
        data_path: the folder above the data sets.
        last: :func:`last_moment`, or one that remembers what it said.

    Returns:
        True also where the files do not tell; False under a protocol that does not split at points in time.
    """
    if shop.split[0] != "global_time":
        return False
    given, until = first.protocol, shop.targets.trained_until if shop.targets else None
    field, separator = given.get("TIME_FIELD") or "timestamp", given.get("field_separator") or "\t"
    file = data_path / first.dataset / f"{first.dataset}.inter"
    latest = min(last(file, field, separator, given.get("encoding") or "utf-8"), _bound(given, field))
    return until is None or not until / OTHER_UNIT < latest <= until


def last_moment(file: Path, field: str, separator: str, encoding: str) -> float:
    """The latest time in a file of interactions; infinite where the file does not tell.

    Args:
        file: a data set's ``.inter``.
        field: the column of times.
        separator, encoding: of the file.
    """
    column = f"{field}:float"
    try:
        times = pd.read_csv(file, sep=separator, usecols=[column], encoding=encoding, quoting=csv.QUOTE_NONE)[column]
        return float(times.max()) if len(times) else inf
    except (OSError, ValueError, LookupError):  # whatever is wrong with it is told where it is trained on
        return inf


def _bound(settings: Mapping[str, Any], field: str) -> float:
    """Up to which time ``val_interval`` keeps interactions; infinite where it says nothing of them."""
    intervals = (settings.get("val_interval") or {}).get(field)
    try:
        return max(float(interval.strip()[1:-1].split(",")[1]) for interval in str(intervals).split(";"))
    except (ValueError, IndexError):
        return inf
