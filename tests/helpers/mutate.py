"""Files damaged in many ways, the same at every run: flipped bytes, cuts, and values of other kinds."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

DEEP = "[" * 100_000 + "]" * 100_000
NESTED: Any = "x"
for _ in range(200):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "x", "\ud800", "a\nb", [], [1], {}, {"a": 1}),
    NESTED,
)


def damaged(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """A file's bytes: flipped, cut off, doubled, filled in."""
    lot = random.Random(seed)
    for _ in range(count):
        at, end = sorted((lot.randrange(len(data) + 1), lot.randrange(len(data) + 1)))
        other = bytes([lot.randrange(256)])
        yield lot.choice(
            (
                data[:at] + other + data[at + 1 :],
                data[:at],
                data[:at] + data[end:],
                data[:end] + data[at:],
                data[:at] + lot.choice((b"(", b"'", b"\\", b"\0", b"\n", b"9" * 30, b"{", b"[" * 3_000)) + data[at:],
            )
        )


def changed(record: dict[str, Any], seed: int, count: int) -> Iterator[str]:
    """An object as JSON with a key left out, added, or of another value, at any depth."""
    lot = random.Random(seed)
    yield DEEP
    yield '{"id": ' + DEEP + "}"
    for _ in range(count):
        whole = copy.deepcopy(record)
        place = whole
        while True:
            inner = [value for value in place.values() if isinstance(value, dict) and value]
            inner += [
                part for value in place.values() if isinstance(value, list) for part in value if isinstance(part, dict)
            ]
            if not inner or lot.random() < 0.5:
                break
            place = lot.choice(inner)
        key = lot.choice(sorted(place))
        kind = lot.randrange(4)
        if kind == 0:
            del place[key]
        elif kind == 1:
            place[lot.choice(("more", "\udfff"))] = lot.choice(VALUES)
        else:
            place[key] = lot.choice(VALUES)
        yield json.dumps(whole)
