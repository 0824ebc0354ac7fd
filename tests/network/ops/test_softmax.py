"""The hand-written passes of the item side and of the cross-entropy, against PyTorch's operators."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops.tables.directions import sum_of_directions
from recbole_mmm4rec.network.ops.tables.softmax import softmax_cross_entropy


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


def assert_same(found: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    weight = torch.cos(torch.arange(found.numel(), dtype=found.dtype)).view_as(found)
    ours, truth = (torch.autograd.grad((value * weight).sum(), inputs, retain_graph=True) for value in (found, wanted))
    for got, want in zip(ours, truth, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("stretch", [1.0, 100.0])
def test_cross_entropy(smoothing: float, stretch: float) -> None:
    users, items = inputs = leaves((6, 5), (9, 5))
    labels = torch.tensor([0, 8, 3, 3, 1, 0])
    wide = users * stretch  # scores of hundreds: their exponentials would overflow
    wanted = F.cross_entropy(wide @ items.T, labels, label_smoothing=smoothing)
    assert_same(softmax_cross_entropy(wide, items, labels, smoothing), wanted, inputs)


def test_cross_entropy_in_bfloat16_is_close() -> None:
    users, items = (value.detach().float().requires_grad_() for value in leaves((64, 32), (500, 32)))
    labels = torch.arange(64)
    wanted = F.cross_entropy(users @ items.T, labels, label_smoothing=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax_cross_entropy(users, items, labels, 0.1)
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=0.01)
    ours, truth = (torch.autograd.grad(value, (users, items)) for value in (found, wanted))
    for got, want in zip(ours, truth, strict=True):
        assert float((got - want).norm() / want.norm()) < 0.02


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sum_of_directions(count: int) -> None:
    tables = leaves(*[(7, 4)] * count)
    wanted = sum(F.normalize(table, dim=-1, eps=1e-12) for table in tables) / 0.8
    assert isinstance(wanted, Tensor)
    assert_same(sum_of_directions(tables, None, 0.8), wanted, tables)


def test_directions_of_rows_without_length_are_as_torchs() -> None:
    (table,) = leaves((4, 3))
    rows = table * torch.tensor([[0.0], [1e-13], [1e-11], [1.0]], dtype=torch.float64)
    assert_same(sum_of_directions([rows], None, 1.0), F.normalize(rows, dim=-1, eps=1e-12), [table])
