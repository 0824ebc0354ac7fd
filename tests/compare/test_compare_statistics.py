"""Tests and intervals against numbers worked out by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recbole_mmm4rec.compare.statistics import holm, sign_flip_test
from recbole_mmm4rec.scoring.intervals import bootstrap_interval


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 1, 1], 2 / 8),  # only all + and all − are as far from 0
        ([1, 1, -1], 1.0),  # every pattern of three ones sums to at least 1
        ([3, 2, 1], 2 / 8),
        ([3, 2, -1], 4 / 8),  # sums 6, 4 and their opposites
        ([3, 2, -1, 0, 0], 4 / 8),
        ([0, 0], 1.0),
        ([0.1, 0.2, 0.3, -0.6], 1.0),
    ],
)
def test_small_samples_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip_test(np.array(differences, dtype=float)) == pytest.approx(p)


@pytest.mark.parametrize("users", [9, 13])
def test_exact_as_scipy(users: int) -> None:
    differences = np.random.default_rng(users).normal(0.4, 1, users)
    theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**users)
    assert sign_flip_test(differences) == pytest.approx(theirs.pvalue)


def test_drawn_as_scipy() -> None:
    differences = np.random.default_rng(0).choice([-1.0, -0.5, 0, 0.5, 1.0], 300, p=[0.1, 0.1, 0.58, 0.1, 0.12])
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=1
    )
    p = sign_flip_test(differences, 20_000)
    assert 0.01 < p < 0.99
    assert abs(p - theirs.pvalue) < 4 * (2 * p * (1 - p) / 20_000) ** 0.5  # four standard errors of two estimates


def test_drawn_in_chunks_and_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.full(40, 0.25)
    assert sign_flip_test(differences, 10_000) == pytest.approx(1 / 10_001)
    differences[:18] *= -1
    whole = sign_flip_test(differences, 10_000)
    monkeypatch.setattr("recbole_mmm4rec.compare.statistics._CHUNK", 40 * 7)
    assert sign_flip_test(differences, 10_000) == pytest.approx(whole, abs=0.02)
    exact = stats.binomtest(18, 40).pvalue
    assert whole == pytest.approx(exact, abs=0.02)


def test_the_interval_as_scipy() -> None:
    differences = np.random.default_rng(3).exponential(1, 200).round(2)
    low, high = bootstrap_interval(differences, 20_000)
    theirs = stats.bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    interval = theirs.confidence_interval
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.02)
    assert bootstrap_interval(np.full(5, 0.5)) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)
