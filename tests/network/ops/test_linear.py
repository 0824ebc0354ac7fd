"""The linear maps that save passes, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops.linear import normed_linear, split_linear


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def assert_same(found: Tensor, wanted: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    weight = torch.cos(torch.arange(found.numel(), dtype=torch.float32)).view_as(found).to(found.dtype)
    ours, truth = (torch.autograd.grad((value * weight).sum(), inputs, retain_graph=True) for value in (found, wanted))
    for got, want in zip(ours, truth, strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("keep", [None, [1, 4, 5]])
def test_split_linear_is_a_linear_in_parts(keep: list[int] | None) -> None:
    x, weight, bias = inputs = leaves((7, 5), (12, 5), (12,))
    rows = None if keep is None else torch.tensor(keep)
    first, *others = F.linear(x, weight, bias).split([6, 4, 2], 1)
    wanted = [first if rows is None else first[rows], *others]
    found = split_linear(x, weight, bias, (6, 4, 2), rows)
    assert all(part.is_contiguous() for part in found)
    assert_same(torch.cat([p.flatten() for p in found]), torch.cat([p.flatten() for p in wanted]), inputs, 1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_normed_linear_is_norm_then_linear(scale: float) -> None:
    x, gain, weight, bias = inputs = leaves((9, 6), (6,), (4, 6), (4,))
    small = x * scale
    assert_same(
        normed_linear(small, gain, weight, bias, 1e-12),
        F.linear(F.rms_norm(small, (6,), gain, 1e-12), weight, bias),
        inputs,
        1e-9,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_normed_linear_stays_close_in_half_precision(dtype: torch.dtype, scale: float) -> None:
    x, gain, weight, bias = leaves((9, 64), (64,), (4, 64), (4,), dtype=torch.float32)
    half = (x.detach() * scale).to(dtype).requires_grad_()
    found = normed_linear(half, gain, weight, bias, 1e-12)
    wanted = F.linear(F.rms_norm(half.float(), (64,), gain, 1e-12), weight, bias)
    assert found.dtype == dtype
    assert float((found.detach().float() - wanted.detach()).norm() / wanted.detach().norm()) < 0.02
    losses = (value.float().square().sum() * scale for value in (found, wanted))
    ours, truth = (torch.autograd.grad(loss, (half, weight)) for loss in losses)
    for got, want in zip(ours, truth, strict=True):
        assert float((got.float() - want.float()).norm() / want.float().norm()) < 0.04
