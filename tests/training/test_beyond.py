"""Coverage, popularity, Gini and tail: RecBole's own metrics are the truth, and a case by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pattern_shop import prepared
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict

from recbole_mmm4rec.training.beyond import beyond_accuracy, training_popularity


@pytest.mark.parametrize("tail", [None, 0.3, 4, 0])
def test_the_same_as_recboles(tail: float | None) -> None:
    draw = np.random.default_rng(1)
    items = np.array([draw.permutation(29)[:10] + 1 for _ in range(40)])
    popularity = draw.integers(0, 9, 31) * (np.arange(31) > 0)
    collected = DataStruct()
    collected.set("rec.items", torch.from_numpy(items))
    collected.set("data.num_items", 31)
    collected.set("data.count_items", {item: int(count) for item, count in enumerate(popularity) if count})
    config = {"topk": [1, 5, 10], "metric_decimal_place": 12, "tail_ratio": tail}
    wanted = {}
    for name in ("itemcoverage", "averagepopularity", "giniindex", "tailpercentage"):
        wanted |= metrics_dict[name](config).calculate_metric(collected)
    assert beyond_accuracy(items, popularity, [1, 5, 10], tail) == pytest.approx(wanted, abs=1e-11)


def test_by_hand() -> None:
    found = beyond_accuracy(np.array([[1, 2], [1, 3]]), np.array([0, 5, 1, 3]), [2], 0.5)
    assert found["itemcoverage@2"] == 3 / 4  # the padding is among RecBole's items
    assert found["averagepopularity@2"] == (5 + 1 + 5 + 3) / 4
    assert found["tailpercentage@2"] == 1 / 4  # item 2 alone is the rarer half of three
    assert found["giniindex@2"] == pytest.approx((-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / 4 / 4)


@pytest.mark.usefixtures("own_folder")
def test_popularity_is_of_training_with_each_users_first(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    popularity = training_popularity(run.train.dataset)
    assert popularity[0] == 0
    assert popularity.sum() == 256 - 2 * 40  # all but two of every user
