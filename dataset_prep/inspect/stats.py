"""What can be counted about a data set."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from dataset_prep.files.times import LATEST
from dataset_prep.inspect.vectors import ArrayVectors
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.encoders.pictures import MOST_PIXELS, BadPictureError, read_picture

OLDEST_DATE = 100_000_000  # 1973; smaller numbers are positions in a history
HASH_SIDE = 8
_WORD = re.compile(r"\w+")


def spread(counts: np.ndarray) -> str:
    """Mean and quantiles of counts in one line."""
    if not len(counts):
        return "none"
    low, quarter, half, three, most, high = np.quantile(
        counts, [0, 0.25, 0.5, 0.75, 0.95, 1], method="inverted_cdf"
    ).tolist()
    return (
        f"mean {counts.mean():.1f}, median {half:,} (half of them {quarter:,} to {three:,}, 95 % at most {most:,}), "
        f"{low:,} to {high:,}"
    )


def time_span(first: float, last: float) -> str:
    """From when to when, in UTC; or positions, where the numbers are too small for dates."""
    if math.isnan(first):
        return "none"
    if last < OLDEST_DATE:
        return f"{first:g} to {last:g}: positions, no dates"
    if not 0 <= first <= last <= LATEST:
        return f"{first:.0f} to {last:.0f}: no seconds since 1970"
    days = [datetime.fromtimestamp(time, timezone.utc).date().isoformat() for time in (first, last)]
    return f"{days[0]} to {days[1]} UTC, {(last - first) / 86_400:,.0f} days"


def normalised(text: str) -> str:
    """A text without what two copies of it may differ in: case, punctuation, blanks, width of characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(folded)) or folded.strip()


def text_digests(texts: Iterable[str]) -> list[bytes]:
    """Digests of the normalised texts, empty where there is none."""
    return [hashlib.sha256(normalised(text).encode()).digest()[:16] if text.strip() else b"" for text in texts]


def picture_digests(pictures: Iterable[Path | None]) -> list[bytes]:
    """Digests of the files' bytes, empty where there is none."""
    return [bytes.fromhex(hash_file(picture))[:16] if picture else b"" for picture in pictures]


def groups_of_equals(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions with equal digests, for each digest that is there more than once; the largest group first."""
    members: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        if digest:
            members.setdefault(digest, []).append(position)
    return sorted((group for group in members.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def difference_hashes(pictures: Sequence[Path | None]) -> ArrayVectors:
    """64 signs for each picture: whether it gets lighter from each of 8 x 8 fields to the field at its right.

    Two pictures whose hashes differ in n signs have the cosine 1 - n / 32.
    """
    table = np.zeros((len(pictures), HASH_SIDE * HASH_SIDE), dtype=np.float32)
    present = np.zeros(len(pictures), dtype=bool)
    for row, file in enumerate(pictures):
        if file is None:
            continue
        try:
            grey = read_picture(file, MOST_PIXELS).convert("L").resize((HASH_SIDE + 1, HASH_SIDE))
        except BadPictureError:
            continue
        lighter = np.diff(np.asarray(grey, dtype=np.int16), axis=1) > 0
        table[row] = np.where(lighter, 1, -1).ravel() / HASH_SIDE
        present[row] = True
    return ArrayVectors(table, present)
