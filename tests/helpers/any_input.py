"""Hypothesis over what files may hold: the same examples at each run, few enough for every day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import LONGEST, UserError

steady = settings(derandomize=True, database=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""For every test over files."""
few = settings(steady, max_examples=25)
"""For readers that take milliseconds."""
ODD = st.sampled_from(
    ["", " ", "\0", "\r", "\x1b[2J", "\u2028", "x" * 5_000, "../x", "NaN", "-1", "1e999", '"', "[", "é"]
)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), ODD)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
"""Anything that JSON can hold."""


def changed(whole: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A record with one or two of its values replaced, left out or added."""
    keys = st.sampled_from([*whole, "more"])
    changes = st.dictionaries(keys, JSON | st.just(...), min_size=1, max_size=2)
    return changes.map(lambda new: {key: value for key, value in {**whole, **new}.items() if value is not ...})


def rows(names: Iterable[str], separator: str) -> st.SearchStrategy[str]:
    """A table with the columns of a good one, or nearly, and anything in its cells."""
    cells = st.one_of(ODD, st.sampled_from(["i1", "u1", "1600000000", "0.5"]), st.text(max_size=5))
    heads = st.permutations([*names]) | st.lists(st.sampled_from([*names, "more"]), max_size=4)
    lines = st.lists(st.lists(cells, min_size=1, max_size=4).map(separator.join), max_size=4)
    return st.tuples(heads.map(separator.join), lines).map(lambda parts: "\n".join([parts[0], *parts[1]]))


def told(read: Callable[[], Any]) -> str | None:
    """What a reader refuses an input with, in one line; None where it takes it. Any other error passes."""
    try:
        read()
    except UserError as error:
        line = str(error)
        assert line.strip()
        assert len(line) <= LONGEST
        assert not [char for char in line if char in "\n\r\0\x1b\u2028"]
        return line
    return None
