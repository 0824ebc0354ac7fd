"""Dropout with cheap masks.

PyTorch draws one Bernoulli number an element, which on a CPU takes as long as a wide matrix product. Here one 64-bit
random number makes the mask of four elements: kept or not by 16 bits, hence with a probability that is exact to 2⁻¹⁶.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOW, _LEVELS = -(2**15), 2**16


def keep_mask(shape: torch.Size, probability: float) -> tuple[Tensor, float]:
    """Draw which elements stay.

    Args:
        shape: of the mask.
        probability: of an element to be dropped, 0 … below 1.

    Returns:
        bool mask on the CPU, True where the element stays, and the factor that keeps the expectation.
    """
    count = shape.numel()
    dropped = min(round(probability * _LEVELS), _LEVELS - 1)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:count] >= _LOW + dropped).view(shape), _LEVELS / (_LEVELS - dropped)


class _Masked(torch.autograd.Function):
    """x·mask·factor, where ``mask`` holds numbers of x's dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        return _scaled(x * mask, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        return _scaled(grads[0] * mask, ctx.factor), None, None


def _scaled(x: Tensor, factor: float) -> Tensor:
    """x·factor in place."""
    return x if factor == 1.0 else x.mul_(factor)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each element with ``probability`` and scale the others, in training; x of any shape and device."""
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, training)
    keep, factor = keep_mask(x.shape, probability)
    mask = keep.to(x.dtype)
    if x.dtype.itemsize >= 4:  # the factor rides in the mask, except in half precision, which would round it
        mask, factor = mask.mul_(factor), 1.0
    return _Masked.apply(x, mask, factor)
