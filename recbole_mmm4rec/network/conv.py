"""Causal depthwise convolutions followed by SiLU: on packed tokens, and over the rows of a time signal."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.ops.blockconv import block_conv
from recbole_mmm4rec.network.ops.ragged import Ragged

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


class PackedConv(nn.Module):
    """Depthwise causal convolution of width K with bias, then SiLU, on packed tokens."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        plain = nn.Conv1d(channels, channels, width, groups=channels)  # for PyTorch's default initial values
        self.weight = nn.Parameter(plain.weight.detach().squeeze(1).clone())  # (C, K)
        self.bias = nn.Parameter(plain.bias.detach().clone())  # type: ignore[union-attr]

    def forward(self, x: Tensor, ragged: Ragged, backend: str) -> Tensor:
        """(T, C) → (T, C)."""
        if backend == "mamba_ssm":
            fused = kernels.conv_silu(x, self.weight, self.bias, ragged.seq_idx)
            if fused is not None:
                return fused
        if backend in kernels.DENSE:
            return block_conv(x, self.weight, self.bias, ragged.layout())
        y = _PackedConv.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype), ragged.cols)
        return F.silu(y)


class RowConv(nn.Module):
    """Depthwise causal convolution of width K with bias over rows (B, H, L), then SiLU."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(rows, rows, width, groups=rows)

    def forward(self, signal: Tensor) -> Tensor:
        """(B, H, L) → (B, H, L)."""
        length = signal.shape[-1]
        if length > _BAND:
            return F.silu(self.conv(F.pad(signal, (self.conv.kernel_size[0] - 1, 0))))
        bands = self.conv.weight.squeeze(1) @ _shifts(self.conv.kernel_size[0], length, signal.dtype, signal.device)
        y = torch.matmul(signal.transpose(0, 1), bands.unflatten(1, (length, length)))  # (H, B, L)
        assert self.conv.bias is not None
        return F.silu(y + self.conv.bias[:, None, None]).transpose(0, 1)


@functools.cache
def _shifts(width: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K, L·L): the banded matrices that shift a row by K-1 … 0 places, flattened; kept on the device."""
    later, earlier = torch.arange(length), torch.arange(length).unsqueeze(1)
    return torch.stack([(later - earlier == width - 1 - tap).flatten() for tap in range(width)]).to(device, dtype)
