"""Time stamps as whole microseconds, and the seconds in them."""

from __future__ import annotations

import math
import re

from recbole_mmm4rec.base.errors import UserError

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MICROSECONDS = 1_000_000
"""In a second: interactions are put in order by these, so that what happened within a second keeps its order."""
LATEST = 100_000_000_000  # seconds; the year 5138. A larger number is in a smaller unit.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_time(text: str, unit: str, place: str) -> int:
    """A time stamp in whole microseconds, rounded down.

    Args:
        text: a number as it stands in the file.
        unit: what it counts: "s", "ms", "us" or "ns".
        place: file and line, for the message.

    Raises:
        UserError: empty, no finite number, negative, a date, or so large that it must count a smaller unit.
    """
    text = text.strip()
    if _INTEGER.fullmatch(text) and len(text) < 30:
        time = int(text) * MICROSECONDS // PER_SECOND[unit]
    else:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise UserError(f"{place}: timestamp {text!r} {_why_not(text)}")
        each = MICROSECONDS // PER_SECOND[unit]  # one whole number, so that a double holds the product exactly
        time = math.floor(value * each if each else value / (PER_SECOND[unit] // MICROSECONDS))
    seconds = time // MICROSECONDS
    if seconds < 0:
        raise UserError(f"{place}: timestamp '{text}' is negative; seconds since 1970 are wanted")
    if seconds > LATEST:
        finer = next((name for name, n in PER_SECOND.items() if seconds * PER_SECOND[unit] // n <= LATEST), None)
        way_out = f"it looks like {finer}: add --time-unit {finer}" if finer else "correct it"
        raise UserError(f"{place}: timestamp '{text}' is too large to count {unit}; {way_out}")
    return time


def _why_not(text: str) -> str:
    if not text:
        return "is empty; fill it in, or use --time-from-order if the lines of each user are in order"
    if _DATE.match(text):
        return "is a date; seconds since 1970 are wanted, convert the column"
    return "is no finite number; seconds since 1970 are wanted"
