"""Inputs that the network refuses, each with a message that says what and where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from network.models import ITEMS, make_batch, make_features, make_network, small_config
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork


@pytest.mark.parametrize(("length", "row"), [(0, 2), (-1, 0), (10, 1)])
def test_history_of_an_impossible_length(length: int, row: int) -> None:
    batch = make_batch(9, [3, 4, 5])
    batch.lengths[row] = length
    with pytest.raises(ValueError, match=rf"item_seq_len\[{row}\] is {length}: .* 1 to 9 items"):
        make_network(small_config())(*batch.args())


def test_empty_batch() -> None:
    empty = make_batch(9, [3]).rows(slice(0, 0))
    with pytest.raises(ValueError, match="at least one sequence"):
        make_network(small_config())(*empty.args())


@pytest.mark.parametrize("max_len", [8, 10])
def test_wrong_number_of_positions(max_len: int) -> None:
    with pytest.raises(ValueError, match=f"item_seq has {max_len} positions, the network was built for 9"):
        make_network(small_config())(*make_batch(max_len, [3, 4]).args())


def test_time_without_time_stamps() -> None:
    batch = make_batch(9)
    with pytest.raises(ValueError, match="timestamps are needed, because is_time is True"):
        make_network(small_config())(batch.item_seq, batch.lengths)
    without = make_network(small_config(is_time=False))(batch.item_seq, batch.lengths)
    assert without[:, 1:].isfinite().all()


def spoiled(modality: str, rows: list[int], value: float) -> dict[str, Tensor]:
    features = make_features()
    features[modality][rows, 2] = value
    return features


@pytest.mark.parametrize(
    ("features", "present", "words"),
    [
        pytest.param(spoiled("image", [5, 9], float("nan")), None, ["'image'", "2 rows", "[5, 9]"], id="nan"),
        pytest.param(spoiled("text", [7], float("-inf")), None, ["'text'", "1 rows", "[7]"], id="infinite"),
        pytest.param({}, None, ["'text' and/or 'image'", "nothing"], id="none"),
        pytest.param({"vision": torch.zeros(4, 3)}, None, ["'text' and/or 'image'", "vision"], id="unknown"),
        pytest.param({"text": torch.zeros(4)}, None, ["'text'", "(I + 1, F)", "(4,)"], id="one-axis"),
        pytest.param({"text": torch.zeros(1, 3)}, None, ["'text'", "at least one item", "(1, 3)"], id="no-item"),
        pytest.param(
            {"text": torch.zeros(4, 3), "image": torch.zeros(5, 3)}, None, ["'text': 4", "'image': 5"], id="heights"
        ),
        pytest.param(
            make_features(),
            {"image": torch.ones(ITEMS, dtype=torch.bool)},
            ["'image'", f"({ITEMS + 1},)", f"({ITEMS},)"],
            id="mask-too-short",
        ),
        pytest.param(
            make_features(),
            {"text": torch.ones(ITEMS + 1, 1, dtype=torch.bool)},
            ["'text'", f"({ITEMS + 1}, 1)"],
            id="mask-two-axes",
        ),
        pytest.param(
            make_features(),
            {"vision": torch.ones(ITEMS + 1, dtype=torch.bool)},
            ["vision"],
            id="mask-of-unknown-modality",
        ),
    ],
)
def test_features_that_do_not_fit(features: dict[str, Tensor], present: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        MMM4RecNetwork(small_config(), features, present)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
