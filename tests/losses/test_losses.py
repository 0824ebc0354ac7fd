"""The losses against their formulas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recbole_mmm4rec.losses.cross_entropies import (
    Candidates,
    draw_candidates,
    full_cross_entropy,
    in_batch_cross_entropy,
    sampled_cross_entropy,
)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def in_batch(users: Tensor, fused: Tensor, labels: Tensor, mask: bool = False) -> Tensor:
    return in_batch_cross_entropy(users, fused[labels], labels, mask)


def test_in_batch_keeps_duplicates_apart() -> None:
    users, fused, labels = make_case()
    total = 0.0
    for row, user in enumerate(users):
        powers = [math.exp(float(user @ fused[label])) for label in labels]  # item 3 counts twice
        total -= math.log(powers[row] / sum(powers))
    assert float(in_batch(users, fused, labels)) == pytest.approx(total / 5, rel=1e-12)


def test_masked_in_batch_leaves_out_the_other_columns_of_the_own_label() -> None:
    users, fused, labels = make_case()
    total = 0.0
    for row, user in enumerate(users):
        others = [label for label in labels if label != labels[row]]
        powers = [math.exp(float(user @ fused[label])) for label in [labels[row], *others]]
        total -= math.log(powers[0] / sum(powers))
    assert float(in_batch(users, fused, labels, mask=True)) == pytest.approx(total / 5, rel=1e-12)
    assert float(in_batch(users, fused, labels, mask=True)) < float(in_batch(users, fused, labels))


def test_the_mask_changes_nothing_where_labels_differ() -> None:
    users, fused, labels = make_case()
    labels[3] = 2
    assert in_batch(users, fused, labels, mask=True) == in_batch(users, fused, labels)


def every_item(labels: Tensor, count: int) -> Candidates:
    """Each item once, as often as expected."""
    return Candidates(torch.arange(1, count + 1), torch.zeros(count), labels - 1)


def sampled(users: Tensor, fused: Tensor, labels: Tensor) -> Tensor:
    """With all items as candidates."""
    return sampled_cross_entropy(users, fused[1:], every_item(labels, len(fused) - 1), len(fused) - 1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_sampled_with_every_item_is_full(label_smoothing: float) -> None:
    users, fused, labels = make_case()
    fused.requires_grad_()
    found = sampled_cross_entropy(users, fused[1:], every_item(labels, 7), 7, label_smoothing)
    wanted = full_cross_entropy(users, fused, labels, label_smoothing)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, fused)[0] for loss in (found, wanted)), rtol=1e-12, atol=1e-15
    )


def test_candidates_are_counted_against_what_both_proposals_expect() -> None:
    labels = torch.tensor([4, 2, 4, 9, 4])
    popularity = torch.tensor([0, 0.1, 0.2, 0, 0.3, 0, 0, 0, 0, 0.4])
    torch.manual_seed(5)
    found = draw_candidates(labels, 9, 6, popularity)
    torch.manual_seed(5)
    everything = [*labels.tolist(), *torch.randint(1, 10, (6,)).tolist()]
    assert found.rows.tolist() == sorted(set(everything))
    assert found.rows[found.place].tolist() == labels.tolist()
    for row, correction in zip(found.rows.tolist(), found.correction.tolist(), strict=True):
        expected = 4 * float(popularity[row]) + 6 / 9
        assert correction == pytest.approx(math.log(everything.count(row) / expected), rel=1e-5)


def test_labels_alone_are_no_candidates_of_others_without_the_in_batch_proposal() -> None:
    torch.manual_seed(5)
    found = draw_candidates(torch.tensor([4, 2, 4]), 1000, 6, None)
    assert torch.isinf(found.correction[found.place]).all()
    assert torch.isfinite(found.correction).sum() == 6
    found = draw_candidates(torch.tensor([4, 2, 4]), 1000, 0, None)
    loss = sampled_cross_entropy(torch.ones(3, 2), torch.ones(2, 2), found, 1000)
    assert loss == 0.0  # nothing to be told apart from


def test_a_batch_of_one_and_an_unseen_label_stay_finite() -> None:
    for labels in (torch.tensor([3]), torch.tensor([3, 5, 3])):
        found = draw_candidates(labels, 8, 0, torch.zeros(9))
        users, fused = torch.randn(len(labels), 4), torch.randn(len(found.rows), 4)
        assert sampled_cross_entropy(users, fused, found, 8, 0.1).isfinite()


POPULARITY = torch.tensor([0.0, 0.4, 0.25, 0.2, 0.1, 0.04, 0.01])


def sampled_gradient(users: Tensor, fused: Tensor, batch: int, uniform: int, corrected: bool) -> tuple[Tensor, Tensor]:
    """Gradients in ``fused`` (7, D) of the sampled and of the full loss, for one made batch."""
    labels = torch.multinomial(POPULARITY, batch, replacement=True)
    rows = users[torch.randint(len(users), (batch,))]
    found = draw_candidates(labels, 6, uniform, POPULARITY)
    if not corrected:  # as a softmax over the columns as they come
        expected = (batch - 1) * POPULARITY[found.rows] + uniform / 6
        found = dataclasses.replace(found, correction=found.correction + expected.log())
    estimate = sampled_cross_entropy(rows, fused[found.rows], found, 6)
    exact = full_cross_entropy(rows, fused, labels)
    return torch.autograd.grad(estimate, fused)[0], torch.autograd.grad(exact, fused)[0]


def error(batch: int, uniform: int, corrected: bool, draws: int) -> float:
    """Mean distance of the sampled gradient from the exact one, relative to its length."""
    torch.manual_seed(batch + uniform)
    users, fused = torch.randn(5, 3), torch.randn(7, 3, requires_grad=True)
    pairs = [sampled_gradient(users, fused, batch, uniform, corrected) for _ in range(draws)]
    return sum(float((found - wanted).norm() / wanted.norm()) for found, wanted in pairs) / draws


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_corrected_gradient_converges_to_the_exact_one(share: float) -> None:
    small, large = (error(batch, int(share * batch), True, 20) for batch in (100, 10_000))
    assert large < 0.03
    assert large < small / 5  # as one over the root of the number: a tenth
    assert error(10_000, int(share * 10_000), False, 5) > 0.2


def test_the_sum_over_candidates_is_unbiased() -> None:
    """The mean of exp(logit + correction) over draws, for the items that are not the row's own."""
    torch.manual_seed(0)
    powers = torch.randn(7).exp()
    label, draws = 3, []
    for _ in range(4000):
        labels = torch.cat([torch.tensor([label]), torch.multinomial(POPULARITY, 4, replacement=True)])
        found = draw_candidates(labels, 6, 3, POPULARITY)
        others = found.rows != label
        draws.append(float((powers[found.rows] * found.correction.exp())[others].sum()))
    wanted = float(powers[1:].sum() - powers[label])
    spread = float(torch.tensor(draws).std()) / math.sqrt(len(draws))
    assert sum(draws) / len(draws) == pytest.approx(wanted, abs=4 * spread)
    assert spread < 0.03 * wanted


LOSSES = [full_cross_entropy, in_batch, sampled]


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_summed_in_float32(loss: Loss) -> None:
    users, fused, labels = make_case()
    half = loss(users.bfloat16(), fused.bfloat16(), labels)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(loss(users, fused, labels)), rel=0.02)


@pytest.mark.parametrize("loss", LOSSES)
def test_large_scores_stay_finite(loss: Loss) -> None:
    users, fused, labels = make_case()
    assert loss(users * 1e4, fused, labels).isfinite()


def test_a_label_without_other_candidates_is_not_pushed_away() -> None:
    """One row, nothing drawn, smoothing: there is nothing to learn, and above all not the contrary."""
    users = torch.randn(1, 4, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([3])
    fused = torch.randn(8, 4, dtype=torch.float64)
    drawn = draw_candidates(labels, 7, 0, torch.full((8,), 1 / 7))
    loss = sampled_cross_entropy(users, fused[drawn.rows], drawn, 7, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, users)
    assert float(loss.detach()) == 0.0
    assert not gradient.any()
