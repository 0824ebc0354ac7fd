"""Convolution, scan and gate of a state-space block on dense blocks of sequences of one length, in one step.

The computation of :mod:`~recbole_mmm4rec.network.ssd`'s dual form with a gradient written by hand. Sequences of one
length are a dense (n, l) block of the packed tokens, so nothing is padded, masked or gathered; every pass over the wide
tensors runs block by block while the block is in the processor's cache, and gradients are written in place.

Axes: n sequences of a block, l their length, w how many of their last positions are wanted, G groups, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ragged import BlockLayout, Piece

# (l, l) matrices pay up to this length; longer sequences are scanned in chunks
MAX_LENGTH = 64


def pair_weights(dt: Tensor, A: Tensor, layout: BlockLayout, pairs: tuple[Tensor, Tensor], later: Tensor) -> Tensor:
    """What the state that entered at s still weighs at t: exp(Σ_{r=s+1…t} Δ_r A)·Δ_s, 0 where s comes after t.

    Args:
        dt: (T, H) step sizes; A: (H,) negative.
        layout: blocks of the T tokens.
        pairs: tokens t and s of every pair, (Np,) int64 each.
        later: (Np,) bool, True where s comes after t.

    Returns:
        (H, Np) in the dtype of dt. Running sums are taken in float64: their differences keep small decays.
    """
    t, s = pairs
    steps = dt.double() * A.double()
    sums = torch.cat(
        [steps[p.tokens].view(p.count, p.length, -1).cumsum(1).flatten(0, 1) for p in layout.pieces]
    )  # each sequence for itself
    span = (sums.index_select(0, t) - sums.index_select(0, s)).to(dt.dtype)
    span = span.masked_fill(later.unsqueeze(1), float("-inf"))
    return (torch.exp(span) * dt.index_select(0, s)).t().contiguous()


def _blocks(x: Tensor, piece: Piece, rows: slice, length: int) -> Tensor:
    """(n, length, channels) view of a packed tensor."""
    return x[rows].view(piece.count, length, x.shape[1])


def _split_heads(x: Tensor, count: int) -> Tensor:
    """(n, l, count·width) → (n, count, l, width) view."""
    return x.unflatten(2, (count, -1)).transpose(1, 2)


def _input(x: Tensor, piece: Piece) -> Tensor:
    """A block's input (n, l, channels) of the convolution, zeros at idle tokens."""
    block = _blocks(x, piece, piece.tokens, piece.length)
    return block if piece.busy is None else block * piece.busy


def convolve(x: Tensor, taps: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """Causal depthwise convolution of a block: x (n, l, channels), taps (K, channels) → out, the newest tap last."""
    last = len(taps) - 1
    torch.addcmul(bias, x, taps[last], out=out)
    for shift in range(1, min(last, x.shape[1] - 1) + 1):
        out[:, shift:].addcmul_(x[:, :-shift], taps[last - shift])
    return out


def convolve_backward(
    dy: Tensor, x: Tensor, taps: Tensor, dx: Tensor, dtaps: Tensor, dbias: Tensor, busy: Tensor | None
) -> None:
    """Gradient of :func:`convolve`: fills dx (n, l, channels), adds to dtaps (K, channels) and dbias (channels,).

    ``busy`` (n, l, 1) is False where the input was set to 0, None where it nowhere was.
    """
    last = len(taps) - 1
    torch.mul(dy, taps[last], out=dx)
    dtaps[last] += torch.mul(dy, x).sum((0, 1))
    dbias += dy.sum((0, 1))
    for shift in range(1, min(last, x.shape[1] - 1) + 1):
        reached = dy[:, shift:]
        dx[:, :-shift].addcmul_(reached, taps[last - shift])
        dtaps[last - shift] += torch.mul(reached, x[:, :-shift]).sum((0, 1))
    if busy is not None:
        dx.mul_(busy)


class _BlockConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layout: BlockLayout) -> Tensor:
        taps, offset = weight.t().to(x.dtype).contiguous(), bias.to(x.dtype)
        y, before = torch.empty_like(x), torch.empty_like(x)
        for piece in layout.pieces:
            made = _blocks(before, piece, piece.tokens, piece.length)
            convolve(_input(x, piece), taps, offset, made)
            torch.ops.aten.silu.out(before[piece.tokens], out=y[piece.tokens])
        ctx.save_for_backward(x, before, taps, weight)
        ctx.layout = layout
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, before, taps, weight = ctx.saved_tensors
        dx = torch.empty_like(x)
        dtaps, dbias = torch.zeros_like(weight.t()), torch.zeros_like(weight[:, 0])
        for piece in ctx.layout.pieces:
            shape = (piece, piece.tokens, piece.length)
            dy = torch.ops.aten.silu_backward(grads[0][piece.tokens], before[piece.tokens])
            dy = dy.view(piece.count, piece.length, -1)
            convolve_backward(dy, _input(x, piece), taps, _blocks(dx, *shape), dtaps, dbias, piece.busy)
        return dx, dtaps.t(), dbias, None


def block_conv(x: Tensor, weight: Tensor, bias: Tensor, layout: BlockLayout) -> Tensor:
    """SiLU of the causal depthwise convolution of x (T, channels) with weight (channels, K): (T, channels)."""
    return _BlockConv.apply(x, weight, bias, layout)


# up to this length, libraries' batched products take several times as long as their few passes one by one
_TINY = 2


def _times(m: Tensor, x: Tensor) -> Tensor:
    """m (…, w, l) · x (…, l, ·)."""
    if m.shape[-1] > _TINY:
        return torch.matmul(m, x)
    y = m[..., :1] * x[..., :1, :]
    for s in range(1, m.shape[-1]):
        y.addcmul_(m[..., s : s + 1], x[..., s : s + 1, :])
    return y


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """a (…, w, ·) · bᵀ, b (…, l, ·) → (…, w, l)."""
    if max(a.shape[-2], b.shape[-2]) > _TINY:
        return torch.matmul(a, b.transpose(-1, -2))
    return (a.unsqueeze(-2) * b.unsqueeze(-3)).sum(-1)


@dataclass(frozen=True)
class _Parts:
    """A block after its convolution, in the layout of the products."""

    x: Tensor  # (n, H, l, P)
    B: Tensor  # (n, G, l, N)
    C: Tensor  # (n, G, w, N)
    mixing: Tensor  # (n, H, w, l), what y takes of x
    scores: Tensor  # (n, G, w, l), C·B
    weight: Tensor  # (n, H, w, l)


class _BlockScan(torch.autograd.Function):
    """See :func:`block_scan`."""

    @staticmethod
    def forward(
        ctx: Any,
        xb: Tensor,
        z: Tensor,
        c: Tensor | None,
        weight: Tensor,
        skip: Tensor,
        taps: Tensor,
        bias: Tensor,
        groups: int,
        layout: BlockLayout,
    ) -> Tensor:
        ctx.parts = []
        ctx.layout, ctx.groups, ctx.types = layout, groups, (taps.dtype, bias.dtype)
        taps, bias = taps.t().to(xb.dtype).contiguous(), bias.to(xb.dtype)
        before, y = torch.empty_like(xb), torch.empty_like(z)
        gated = torch.empty_like(z)
        for piece in layout.pieces:
            block = _blocks(before, piece, piece.tokens, piece.length)
            convolve(_input(xb, piece), taps, bias, block)
            parts = _BlockScan._parts(block, c, weight, skip, groups, z.shape[1], piece)
            out = _blocks(y, piece, piece.kept, piece.wanted)
            _split_heads(out, weight.shape[0]).copy_(_times(parts.mixing, parts.x))
            gate = F.silu(z[piece.kept])
            torch.mul(y[piece.kept], gate, out=gated[piece.kept])
            if any(ctx.needs_input_grad):
                ctx.parts.append((parts, gate))
        ctx.save_for_backward(xb, before, z, y, c, weight, skip, taps)
        return gated

    @staticmethod
    def _parts(
        before: Tensor, c: Tensor | None, weight: Tensor, skip: Tensor, groups: int, inner: int, piece: Piece
    ) -> _Parts:
        """The operands of a block's products from its convolution (n, l, channels)."""
        heads = weight.shape[0]
        states = before.shape[2] - inner if c is not None else (before.shape[2] - inner) // 2

        def activated(part: Tensor, count: int) -> Tensor:
            split = _split_heads(part, count)
            return torch.ops.aten.silu.out(split, out=torch.empty(split.shape, dtype=part.dtype, device=part.device))

        x = activated(before[..., :inner], heads)
        B = activated(before[..., inner : inner + states], groups)
        if c is None:
            C = activated(before[:, piece.length - piece.wanted :, inner + states :], groups)
        else:
            C = _split_heads(_blocks(c, piece, piece.kept, piece.wanted), groups).contiguous()
        scores = _inner(C, B)
        share = weight[:, piece.pairs].view(heads, piece.count, piece.wanted, piece.length).transpose(0, 1)
        mixing = torch.empty(share.shape, dtype=share.dtype, device=share.device)
        grouped = (groups, heads // groups)
        torch.mul(scores.unsqueeze(2), share.unflatten(1, grouped), out=mixing.unflatten(1, grouped))
        now = skip[piece.kept].view(piece.count, piece.wanted, heads).transpose(1, 2)
        mixing.diagonal(piece.length - piece.wanted, -2, -1).add_(now)
        return _Parts(x, B, C, mixing.to(x.dtype), scores, share)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        xb, before, z, y, c, weight, skip, taps = ctx.saved_tensors
        layout, groups = ctx.layout, ctx.groups
        heads, inner = weight.shape[0], z.shape[1]
        dxb, dz, dc = torch.empty_like(xb), torch.empty_like(z), None if c is None else torch.empty_like(c)
        dweight, dskip = torch.empty_like(weight), torch.empty_like(skip)
        dtaps = torch.zeros(taps.shape, dtype=ctx.types[0], device=taps.device)
        dbias = torch.zeros(taps.shape[1], dtype=ctx.types[1], device=taps.device)
        for piece, (parts, gate) in zip(layout.pieces, ctx.parts, strict=True):
            rows, shape = piece.kept, (piece, piece.tokens, piece.length)
            torch.ops.aten.silu_backward.grad_input(grads[0][rows] * y[rows], z[rows], grad_input=dz[rows])
            dy = _split_heads((grads[0][rows] * gate).view(piece.count, piece.wanted, inner), heads).contiguous()
            block = _blocks(before, *shape)
            dmixing = _inner(dy, parts.x)  # (n, H, w, l)
            dskip[rows].view(piece.count, piece.wanted, heads).copy_(
                dmixing.diagonal(piece.length - piece.wanted, -2, -1).transpose(1, 2)
            )
            by_group = dmixing.unflatten(1, (groups, heads // groups))
            pairs = dweight[:, piece.pairs].view(heads, piece.count, piece.wanted, piece.length).transpose(0, 1)
            pairs.copy_((by_group * parts.scores.unsqueeze(2)).flatten(1, 2))
            dscores = (by_group * parts.weight.unflatten(1, (groups, -1))).sum(2).to(xb.dtype)  # (n, G, w, l)
            dact = torch.empty_like(block)
            states = parts.B.shape[1] * parts.B.shape[3]
            _split_heads(dact[..., :inner], heads).copy_(_times(parts.mixing.transpose(-1, -2), dy))
            _split_heads(dact[..., inner : inner + states], groups).copy_(_times(dscores.transpose(-1, -2), parts.C))
            dC = _times(dscores, parts.B)
            if dc is None:
                rest = dact[..., inner + states :]
                rest[:, : piece.length - piece.wanted] = 0
                _split_heads(rest[:, piece.length - piece.wanted :], groups).copy_(dC)
            else:
                _split_heads(_blocks(dc, piece, piece.kept, piece.wanted), groups).copy_(dC)
            torch.ops.aten.silu_backward.grad_input(dact, block, grad_input=dact)
            convolve_backward(dact, _input(xb, piece), taps, _blocks(dxb, *shape), dtaps, dbias, piece.busy)
        return dxb, dz, dc, dweight, dskip, dtaps.t(), dbias, None, None


def block_scan(
    xb: Tensor,
    z: Tensor,
    c: Tensor | None,
    weight: Tensor,
    skip: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    groups: int,
    layout: BlockLayout,
) -> Tensor:
    """``SSD(SiLU(conv(·)))·SiLU(z)`` at the wanted positions, the skip included.

    Args:
        xb: (T, E + 2GN) x | B | C before the convolution, or (T, E + GN) x | B where ``c`` is given.
        z: (S, E) the gate at the wanted positions.
        c: (S, GN) the queries C there, convolved already; None where they are part of ``xb``.
        weight: (H, Np), see :func:`pair_weights`.
        skip: (S, H) what y takes of x at its own position beside the scan.
        conv_weight: (channels, K); conv_bias: (channels,).
        groups: G.
        layout: blocks of the T tokens.

    Returns:
        (S, E) in the dtype of xb.
    """
    return _BlockScan.apply(xb, z, c, weight, skip, conv_weight, conv_bias, groups, layout)
