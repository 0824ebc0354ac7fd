"""Causal depthwise convolutions followed by SiLU: of packed tokens, and of the rows of a time signal.

The same on dense blocks: :mod:`.blocks.blockconv`; in plain words: :func:`.plain.causal_conv`, :func:`.plain.row_conv`.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# up to this many positions, one small product with a banded matrix beats PyTorch's convolution of a few rows
_BAND = 64


class _PackedConv(torch.autograd.Function):
    """y[t] = bias + Σ_k weight[:, K-1-k] · x[t-k] over the tokens of the same sequence.

    Written by hand because the K shifted products would otherwise keep 2(K-1) copies of x for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, cols: Tensor) -> Tensor:
        width = weight.shape[1]
        y = torch.addcmul(bias, x, weight[:, width - 1])
        for shift in range(1, min(width, x.shape[0])):
            reachable = (cols[shift:] >= shift).unsqueeze(1)
            y[shift:] += x[:-shift] * weight[:, width - 1 - shift] * reachable
        ctx.save_for_backward(x, weight, cols)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, weight, cols = ctx.saved_tensors
        width = weight.shape[1]
        dx = dy * weight[:, width - 1]
        dweight = torch.zeros_like(weight)
        dweight[:, width - 1] = (dy * x).sum(0)
        for shift in range(1, min(width, x.shape[0])):
            reached = dy[shift:] * (cols[shift:] >= shift).unsqueeze(1)
            dx[:-shift] += reached * weight[:, width - 1 - shift]
            dweight[:, width - 1 - shift] = (reached * x[:-shift]).sum(0)
        return dx, dweight, dy.sum(0), None


def packed_conv(x: Tensor, weight: Tensor, bias: Tensor, cols: Tensor) -> Tensor:
    """SiLU of the causal depthwise convolution of packed tokens.

    Args:
        x: (T, C).
        weight: (C, K), the newest tap last; bias: (C,).
        cols: (T,) int64, the position of each token in its sequence.

    Returns:
        (T, C) in the dtype of x.
    """
    return F.silu(_PackedConv.apply(x, weight.to(x.dtype), bias.to(x.dtype), cols))


def row_conv(signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the causal depthwise convolution of rows: signal (B, H, L), weight (H, K), bias (H,) → (B, H, L)."""
    (rows, width), length = weight.shape, signal.shape[-1]
    if length > _BAND:
        return F.silu(F.conv1d(F.pad(signal, (width - 1, 0)), weight.unsqueeze(1), bias, groups=rows))
    bands = weight @ _shifts(width, length, signal.dtype, signal.device)
    y = torch.matmul(signal.transpose(0, 1), bands.unflatten(1, (length, length)))  # (H, B, L)
    return F.silu(y + bias[:, None, None]).transpose(0, 1)


@functools.cache
def _shifts(width: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K, L·L): the banded matrices that shift a row by K-1 … 0 places, flattened; kept on the device."""
    later, earlier = torch.arange(length), torch.arange(length).unsqueeze(1)
    return torch.stack([(later - earlier == width - 1 - tap).flatten() for tap in range(width)]).to(device, dtype)
