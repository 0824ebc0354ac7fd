"""The share of interactions whose order in time nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_mmm4rec.base.tied_times import tied_share, told


def test_ties_are_of_one_user() -> None:
    users, times = np.array([1, 1, 1, 2, 2]), np.array([5, 5, 5, 5, 6])
    assert tied_share(users, times) == 2 / 5
    assert tied_share(users[:0], times[:0]) == 0.0


@pytest.mark.parametrize(("share", "words"), [(0.512, "51 % of"), (0.004, "less than 1 % of"), (0.0, "0 % of")])
def test_in_words(share: float, words: str) -> None:
    assert told(share).startswith(words)
    assert told(share).endswith("the order of the file decides")
