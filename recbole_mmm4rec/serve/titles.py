"""Items whose id or text has the words that somebody types, the most taken ones first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 4_096
"""Items of a piece: between two pieces other threads have their turn."""
KEPT = 300
"""Characters of an item's text that are looked at."""
WORDS = 8
"""Words of a question that are looked at."""


class Titles:
    """Plain search in ids and texts, without the encoders.

    Args:
        ids: of the items.
        texts: of the items.
        popularity: (I,), how often each was taken.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str], popularity: np.ndarray) -> None:
        self._order = np.argsort(-np.asarray(popularity), kind="stable")
        self._chunks: list[str] = []
        self._starts: list[np.ndarray] = []
        for begin in range(0, len(self._order), CHUNK):
            lines = [_line(ids[place], texts[place]) for place in self._order[begin : begin + CHUNK]]
            sizes = [len(line) + 1 for line in lines]
            self._starts.append(np.cumsum([0, *sizes]))
            self._chunks.append("\n".join(lines) + "\n")

    def find(self, words: str, limit: int) -> list[int]:
        """Places (0 to I − 1) of items that have all words somewhere, the most taken first.

        Args:
            words: without regard to capitals; none: the most taken items of all.
            limit: how many at most.
        """
        wanted = sorted(words.casefold().split()[:WORDS], key=len, reverse=True)
        if not wanted:
            return [int(place) for place in self._order[:limit]]
        found: list[int] = []
        for number, (chunk, starts) in enumerate(zip(self._chunks, self._starts, strict=True)):
            at = chunk.find(wanted[0])
            while at >= 0:
                row = int(np.searchsorted(starts, at, side="right")) - 1
                end = int(starts[row + 1])
                if all(chunk.find(word, int(starts[row]), end) >= 0 for word in wanted[1:]):
                    found.append(int(self._order[number * CHUNK + row]))
                    if len(found) == limit:
                        return found
                at = chunk.find(wanted[0], end)
        return found


def _line(item: str, text: str) -> str:
    return " ".join(f"{item} {text[:KEPT]}".casefold().split())
