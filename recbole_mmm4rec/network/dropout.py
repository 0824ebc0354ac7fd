"""Dropout with cheap masks.

PyTorch draws one Bernoulli number an element, which on a CPU takes as long as a wide matrix product. Here one 64-bit
random number makes the mask of four elements: kept or not by 16 bits, hence with a probability that is exact to 2⁻¹⁶.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
    dropped = round(probability * _LEVELS)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:count] >= _LOW + dropped).view(shape), _LEVELS / (_LEVELS - dropped)


class _Masked(torch.autograd.Function):
    """x·keep·factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.factor = factor
        return (x * keep).mul_(factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return (grads[0] * keep).mul_(ctx.factor), None, None


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each element with ``probability`` and scale the others, in training; x of any shape and device."""
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, training)
    keep, factor = keep_mask(x.shape, probability)
    return _Masked.apply(x, keep, factor)
