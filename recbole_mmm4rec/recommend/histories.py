"""Raw histories as the network takes them: ids become numbers, time stamps are checked, unknown ids are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend.items import Items

LATEST = 100_000_000_000
"""Seconds; a larger time stamp is one in milliseconds (this one is in the year 5138)."""


@dataclass(frozen=True)
class Encoded:
    """Histories of B users as tensors.

    Attributes:
        numbers: (B, L) int64 item numbers, oldest first, right-padded with 0; the newest L of longer histories.
        lengths: (B,) int64, 0 where the shop knows no item.
        stamps: (B, L) int64 seconds, 0 where there are none; None of a model without time.
        seen: user rows and item numbers, (n,) int64 each, of whole histories.
        unknown: of each user the ids that the shop does not have.
        stamped: of each user whether there were time stamps.
    """

    numbers: Tensor
    lengths: Tensor
    stamps: Tensor | None
    seen: tuple[Tensor, Tensor]
    unknown: list[tuple[str, ...]]
    stamped: list[bool]


def is_one(histories: Any) -> bool:
    """Whether it is one history, a list of ids, and not a list of them.

    Raises:
        UserError: it is neither.
    """
    if isinstance(histories, str) or not isinstance(histories, (Sequence, np.ndarray)):
        raise UserError(f"histories={str(histories)[:60]!r}: must be a list of item ids, or a list of such lists")
    return not len(histories) or not isinstance(histories[0], (list, tuple, np.ndarray))


def encode(
    histories: Sequence[Sequence[Any]],
    timestamps: Sequence[Sequence[Any] | None] | None,
    items: Items,
    max_len: int,
    has_time: bool,
) -> Encoded:
    """Histories as tensors.

    Args:
        histories: of each user item ids, oldest first.
        timestamps: of each user as many whole seconds, in order of time, or None; None: nobody has any.
        items: the catalogue.
        max_len: L.
        has_time: whether the model looks at time stamps.

    Raises:
        UserError: histories or time stamps of another kind; names the user by place.
    """
    if timestamps is not None and not (hasattr(timestamps, "__len__") and hasattr(timestamps, "__getitem__")):
        raise UserError(f"timestamps={str(timestamps)[:60]!r}: must be a list of lists of whole seconds")
    if timestamps is not None and len(timestamps) != len(histories):
        raise UserError(f"timestamps: {len(timestamps)} lists for {len(histories)} histories; give one a history")
    count = len(histories)
    numbers = np.zeros((count, max_len), dtype=np.int64)
    stamps = np.zeros((count, max_len), dtype=np.int64)
    lengths = np.zeros(count, dtype=np.int64)
    unknown: list[tuple[str, ...]] = []
    seen_rows: list[np.ndarray] = []
    seen: list[int] = []
    for row, history in enumerate(histories):
        names = ids_of(history, row if count > 1 else None)
        times = None if timestamps is None else timestamps[row]
        checked = None if times is None else times_of(times, len(names), row if count > 1 else None)
        found = [items.number(name) for name in names]
        unknown.append(tuple(name for name, number in zip(names, found, strict=True) if number is None))
        places = [place for place, number in enumerate(found) if number is not None]
        known = [number for number in found if number is not None]
        seen_rows.append(np.full(len(known), row))
        seen += known
        latest = known[-max_len:]
        lengths[row] = len(latest)
        numbers[row, : len(latest)] = latest
        if checked is not None:
            stamps[row, : len(latest)] = checked[places[-max_len:]]
    rows = np.concatenate(seen_rows) if seen_rows else np.zeros(0, dtype=np.int64)
    return Encoded(
        torch.from_numpy(numbers),
        torch.from_numpy(lengths),
        torch.from_numpy(stamps) if has_time else None,
        (torch.from_numpy(rows.astype(np.int64)), torch.tensor(seen, dtype=torch.int64)),
        unknown,
        [timestamps is not None and times is not None for times in (timestamps or [None] * count)],
    )


def ids_of(history: Any, row: int | None = None) -> list[str]:
    """The ids of a history as text.

    Raises:
        UserError: it is no list of ids.
    """
    if isinstance(history, str) or not isinstance(history, Iterable):
        raise UserError(f"history{_at(row)}: {str(history)[:60]!r} is no list of item ids")
    listed = list(history)
    if set(map(type, listed)) <= {str}:  # as a rule
        return listed
    made = []
    for item in listed:
        if isinstance(item, (bool, float, np.floating)) or not isinstance(item, (str, int, np.integer)):
            raise UserError(f"history{_at(row)}: {str(item)[:60]!r} is no item id; ids are texts")
        made.append(str(item))
    return made


def times_of(times: Any, count: int, row: int | None = None) -> np.ndarray:
    """The time stamps of a history, (n,) int64 seconds.

    Args:
        times: what was given.
        count: items of the history.
        row: which history it is, for the message.

    Raises:
        UserError: another number of them, no whole seconds, negative, in milliseconds, or not in order.
    """
    named = f"timestamps{_at(row)}"
    if isinstance(times, str) or not isinstance(times, Iterable):
        raise UserError(f"{named}: {str(times)[:60]!r} is no list of whole seconds")
    listed = list(times)
    if len(listed) != count:
        raise UserError(f"{named}: {len(listed)} for {count} items; give one an item, or none at all")
    usual = set(map(type, listed)) <= {int} and 0 <= min(listed, default=0) <= max(listed, default=0) <= LATEST
    for time in () if usual else listed:
        whole = isinstance(time, (int, np.integer)) and not isinstance(time, bool)
        if not whole and not (isinstance(time, (float, np.floating)) and float(time).is_integer()):
            raise UserError(f"{named}: {str(time)[:60]!r} is no whole number of seconds")
        if time < 0:
            raise UserError(f"{named}: {time} is negative; give seconds since 1970")
        if time > LATEST:
            raise UserError(f"{named}: {time} is no time in seconds (milliseconds?); divide by 1000")
    found = np.array([int(time) for time in listed], dtype=np.int64)
    if (found[1:] < found[:-1]).any():
        place = int(np.argmax(np.diff(found) < 0)) + 1
        raise UserError(
            f"{named}: {found[place]} stands after {found[place - 1]}; give items and times in order of time, oldest "
            "first"
        )
    return found


def _at(row: int | None) -> str:
    return "" if row is None else f"[{row}]"
