"""Causal depthwise convolution on dense blocks of sequences of one length, with gradients by hand.

Axes: n sequences of a block, l their length, K taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops.packing.ragged import BlockLayout, Piece


def blocks(x: Tensor, piece: Piece, rows: slice, length: int) -> Tensor:
    """(n, length, channels) view of a packed tensor."""
    return x[rows].view(piece.count, length, x.shape[1])


class Taps:
    """A convolution's weights, and the bias of the Linear before it, see :class:`..operands.Wide`.

    Attributes:
        taps: (K, channels), the newest last.
        wide_bias: (channels,) what is still to be added to the input at every token, None where nothing is.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, wide_bias: Tensor | None, longest: int, dtype: torch.dtype
    ) -> None:
        """weight (channels, K), bias and wide_bias (channels,), for sequences of up to ``longest``."""
        self.taps = weight.t().to(dtype).contiguous()
        self.wide_bias = None if wide_bias is None else wide_bias.to(dtype)
        self.bias = bias.to(dtype)
        if self.wide_bias is None:
            self._offsets = None
        else:  # position t sees t + 1 inputs, K at most
            seen = (self.taps.flip(0) * self.wide_bias).cumsum(0)
            steps = torch.arange(longest, device=weight.device).clamp_(max=len(self.taps) - 1)
            self._offsets = self.bias + seen.index_select(0, steps)  # (longest, channels)

    def input(self, x: Tensor, piece: Piece, rows: Tensor | None = None) -> Tensor:
        """A block's input (n, l, channels), complete and with zeros at idle tokens where it has any.

        Args:
            x: (T, channels); piece: the block.
            rows: (T,) int64, the row of x of each token, None where they are in order.
        """
        if rows is None:
            block = blocks(x, piece, piece.tokens, piece.length)
        else:
            block = x.index_select(0, rows[piece.tokens]).view(piece.count, piece.length, x.shape[1])
        if piece.busy is None:
            return block
        return (block if self.wide_bias is None else block + self.wide_bias) * piece.busy

    def offset(self, piece: Piece) -> Tensor:
        """What the convolution of :meth:`input` starts from: (channels,) or (l, channels)."""
        return self.bias if self._offsets is None or piece.busy is not None else self._offsets[: piece.length]


def convolve(x: Tensor, taps: Tensor, offset: Tensor, out: Tensor) -> None:
    """Causal depthwise convolution of a block: x (n, l, channels), taps (K, channels), newest last, offset → out."""
    last = len(taps) - 1
    torch.addcmul(offset, x, taps[last], out=out)
    for shift in range(1, min(last, x.shape[1] - 1) + 1):
        out[:, shift:].addcmul_(x[:, :-shift], taps[last - shift])


def convolve_backward(
    dy: Tensor, x: Tensor, conv: Taps, piece: Piece, dx: Tensor, dtaps: Tensor, dbias: Tensor
) -> None:
    """Gradient of :func:`convolve`: fills dx (n, l, channels), adds to dtaps (K, channels) and dbias (channels,).

    Args:
        dy: (n, l, channels).
        x: what :meth:`Taps.input` gives.
        conv: the weights; piece: the block.
    """
    taps, last = conv.taps, len(conv.taps) - 1
    sums = dy.sum(0)  # (l, channels)
    dbias += sums.sum(0)
    wide_bias = conv.wide_bias if piece.busy is None else None
    torch.mul(dy, taps[last], out=dx)
    for shift in range(min(last, x.shape[1] - 1) + 1):
        reached, seen = (dy[:, shift:], x[:, :-shift]) if shift else (dy, x)
        if shift:
            dx[:, :-shift].addcmul_(reached, taps[last - shift])
        gradient = torch.mul(reached, seen).sum((0, 1))
        if wide_bias is not None:
            gradient.addcmul_(wide_bias, sums[shift:].sum(0))
        dtaps[last - shift] += gradient
    if piece.busy is not None:
        dx.mul_(piece.busy)


class _BlockConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layout: BlockLayout) -> Tensor:
        conv = Taps(weight, bias, None, layout.longest, x.dtype)
        y, before = torch.empty_like(x), torch.empty_like(x)
        for piece in layout.pieces:
            made = blocks(before, piece, piece.tokens, piece.length)
            convolve(conv.input(x, piece), conv.taps, conv.offset(piece), made)
            torch.ops.aten.silu.out(before[piece.tokens], out=y[piece.tokens])
        ctx.save_for_backward(x, before, weight)
        ctx.layout, ctx.conv = layout, conv
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, before, weight = ctx.saved_tensors
        arriving, dx = grads[0].contiguous(), torch.empty_like(x)
        dtaps, dbias = torch.zeros_like(weight.t()), torch.zeros_like(weight[:, 0])
        for piece in ctx.layout.pieces:
            shape = (piece, piece.tokens, piece.length)
            dy = torch.ops.aten.silu_backward(arriving[piece.tokens], before[piece.tokens])
            dy = dy.view(piece.count, piece.length, -1)
            convolve_backward(dy, ctx.conv.input(x, piece), ctx.conv, piece, blocks(dx, *shape), dtaps, dbias)
        return dx, dtaps.t(), dbias, None


def block_conv(x: Tensor, weight: Tensor, bias: Tensor, layout: BlockLayout) -> Tensor:
    """SiLU of the causal depthwise convolution of x (T, channels) with weight (channels, K): (T, channels)."""
    return _BlockConv.apply(x, weight, bias, layout)
