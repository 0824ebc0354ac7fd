"""What the benchmarks of explanations and search count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_shop import ITEMS

from benchmarks.explanations import Judge, beaten, judged, summary, table
from benchmarks.explanations import test_users as users_of
from benchmarks.searching import ranks, words_of
from recbole_mmm4rec.recommend.recommender import Recommender


def test_the_share_of_others_that_do_less() -> None:
    drops = np.array([1.0, 3.0, 0.5, 1.0])
    assert beaten(drops, 1) == 1
    assert beaten(drops, 0) == pytest.approx((0 + 1 + 0.5) / 3)


def test_ties_count_half_in_a_rank() -> None:
    scores = torch.tensor([[-torch.inf, 3.0, 1.0, 3.0], [-torch.inf, 3.0, 1.0, 2.0]])
    assert ranks(scores, [1, 2]).tolist() == [1.5, 3.0]


def test_words_keep_their_order() -> None:
    words = words_of("a b c d", 3, np.random.default_rng(0)).split()
    assert len(words) == 3
    assert words == sorted(words)


def test_test_users_are_judged(model_folder: Path) -> None:
    model = Recommender.load(model_folder)
    users = users_of(model, 3, 0)
    assert len(users) == 3
    for history, times, target in users:
        assert 2 <= len(history) == len(times) <= model.max_len
        assert target in ITEMS
    rows = [row for user in users for row in judged([model, model], user, None, np.random.default_rng(0))]
    assert [row["item"] for row in rows] == ["best", "next"] * 3
    for row in rows:
        assert row["score"] == row["other seed"] == 1  # by construction, and the other model is the same one
        assert row["difference"] < 1e-5
    made = summary({"with": rows})
    assert made["with, best"]["score"] == [1.0, 0.0, 3]
    assert "100.0 ± 0.0 (3)" in table({"kiosk": {"figures": made}})


def test_taking_away_nothing_loses_nothing(model_folder: Path) -> None:
    model = Recommender.load(model_folder)
    judge = Judge(model, ["k00", "k06"], [1, 2], [(), (0,)], None)
    assert abs(judge.drops("k07")[0]) < 1e-5
    assert judge.drops("k07", probability=True).shape == (2,)
