"""The losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recbole_mmm4rec.network.losses import full_cross_entropy, in_batch_cross_entropy


def make_case() -> tuple[Tensor, Tensor, Tensor]:
    """Users (5, 4), the item side (8, 4), labels (5,) with one item twice."""
    draw = torch.Generator().manual_seed(2)
    users = torch.randn(5, 4, generator=draw, dtype=torch.float64)
    return users, torch.randn(8, 4, generator=draw, dtype=torch.float64), torch.tensor([3, 7, 1, 3, 5])


def test_full_is_the_mean_negative_log_share_without_padding() -> None:
    users, fused, labels = make_case()
    total = 0.0
    for user, label in zip(users, labels.tolist(), strict=True):
        powers = [math.exp(float(user @ fused[item])) for item in range(1, 8)]
        total -= math.log(powers[label - 1] / sum(powers))
    assert float(full_cross_entropy(users, fused, labels)) == pytest.approx(total / 5, rel=1e-12)


def test_full_ignores_the_padding_row() -> None:
    users, fused, labels = make_case()
    other = fused.clone()
    other[0] = 1e6
    other.requires_grad_()
    loss = full_cross_entropy(users, other, labels)
    assert loss.item() == full_cross_entropy(users, fused, labels).item()
    loss.backward()
    assert other.grad is not None
    assert not other.grad[0].any()
    assert other.grad[1:].any(1).all()


def test_label_smoothing_spreads_over_the_items() -> None:
    users, fused, labels = make_case()
    log_shares = torch.log_softmax(users @ fused[1:].T, 1)
    target = torch.full((5, 7), 0.1 / 7, dtype=torch.float64)
    target[torch.arange(5), labels - 1] += 0.9
    wanted = -(target * log_shares).sum(1).mean()
    torch.testing.assert_close(full_cross_entropy(users, fused, labels, label_smoothing=0.1), wanted)


def test_in_batch_keeps_duplicates_apart() -> None:
    users, fused, labels = make_case()
    total = 0.0
    for row, user in enumerate(users):
        powers = [math.exp(float(user @ fused[label])) for label in labels]  # item 3 counts twice
        total -= math.log(powers[row] / sum(powers))
    assert float(in_batch_cross_entropy(users, fused, labels)) == pytest.approx(total / 5, rel=1e-12)


@pytest.mark.parametrize("loss", [full_cross_entropy, in_batch_cross_entropy])
def test_half_precision_is_summed_in_float32(loss: object) -> None:
    users, fused, labels = make_case()
    half = loss(users.bfloat16(), fused.bfloat16(), labels)  # type: ignore[operator]
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(loss(users, fused, labels)), rel=0.02)  # type: ignore[operator]


@pytest.mark.parametrize("loss", [full_cross_entropy, in_batch_cross_entropy])
def test_large_scores_stay_finite(loss: object) -> None:
    users, fused, labels = make_case()
    assert loss(users * 1e4, fused, labels).isfinite()  # type: ignore[operator]
