"""Convolution, scan and gate of a state-space block on dense blocks of sequences of one length, in one step.

The computation of :mod:`..dual_form` with a gradient written by hand. Sequences of one
length are a dense (n, l) block of the packed tokens, and so are a few of similar lengths with idle tokens in front,
which are masked. Every pass over the wide tensors runs block by block while the block is in the processor's cache, and
gradients are written in place.

Axes: n sequences of a block, l their length, w how many of their last positions are wanted, G groups, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops.blocks.blockconv import Taps, blocks, convolve, convolve_backward
from recbole_mmm4rec.network.ops.decays import decay
from recbole_mmm4rec.network.ops.loops.seqscan import sequence_scan, serves
from recbole_mmm4rec.network.ops.operands import Weights, Wide
from recbole_mmm4rec.network.ops.packing.ragged import BlockLayout, Piece

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
    return (decay(span) * dt.index_select(0, s)).t().contiguous()


def _split_heads(x: Tensor, count: int) -> Tensor:
    """(n, l, count·width) → (n, count, l, width) view."""
    return x.unflatten(2, (count, -1)).transpose(1, 2)


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
        conv_weight: Tensor,
        conv_bias: Tensor,
        wide_bias: Tensor | None,
        groups: int,
        layout: BlockLayout,
        tokens: Tensor | None,
        backward: bool,
    ) -> Tensor:
        ctx.parts = []
        conv = Taps(conv_weight, conv_bias, wide_bias, layout.longest, xb.dtype)
        ctx.layout, ctx.groups, ctx.conv, ctx.types = layout, groups, conv, (conv_weight.dtype, conv_bias.dtype)
        before, gated = torch.empty_like(xb) if backward else None, torch.empty_like(z)
        for piece in layout.pieces:
            if before is None:
                block = torch.empty(piece.count, piece.length, xb.shape[1], dtype=xb.dtype, device=xb.device)
            else:
                block = blocks(before, piece, piece.tokens, piece.length)
            given = conv.input(xb, piece, tokens)
            convolve(given, conv.taps, conv.offset(piece), block)
            parts = _BlockScan._parts(block, c, weight, skip, groups, z.shape[1], piece)
            y = _times(parts.mixing, parts.x)  # (n, H, w, P)
            gate = F.silu(z[piece.kept])
            out, factor = (
                _split_heads(blocks(part, piece, rows, piece.wanted), weight.shape[0])
                for part, rows in ((gated, piece.kept), (gate, slice(None)))
            )
            torch.mul(y, factor, out=out)
            if backward:
                ctx.parts.append((parts, y, factor))
        if backward:
            ctx.save_for_backward(xb, before, z, c, weight, skip)
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
            C = _split_heads(blocks(c, piece, piece.kept, piece.wanted), groups).contiguous()
        scores = _inner(C, B)
        share = weight[:, piece.pairs].view(heads, piece.count, piece.wanted, piece.length).transpose(0, 1)
        mixing = torch.empty(share.shape, dtype=share.dtype, device=share.device)
        grouped = (groups, heads // groups)
        torch.mul(scores.unsqueeze(2), share.unflatten(1, grouped), out=mixing.unflatten(1, grouped))
        now = skip[piece.kept].view(piece.count, piece.wanted, heads).transpose(1, 2)
        mixing.diagonal(piece.length - piece.wanted, -2, -1).add_(now)
        return _Parts(x, B, C, mixing.to(x.dtype), scores, share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        xb, before, z, c, weight, skip = ctx.saved_tensors
        layout, groups, conv = ctx.layout, ctx.groups, ctx.conv
        heads, inner = weight.shape[0], z.shape[1]
        arriving = grads[0].contiguous()
        dxb, dz, dc = torch.empty_like(xb), torch.empty_like(z), None if c is None else torch.empty_like(c)
        dweight, dskip = torch.empty_like(weight), torch.empty_like(skip)
        dtaps = torch.zeros(conv.taps.shape, dtype=ctx.types[0], device=xb.device)
        dbias = torch.zeros(xb.shape[1], dtype=ctx.types[1], device=xb.device)
        for piece, (parts, y, factor) in zip(layout.pieces, ctx.parts, strict=True):
            shape, kept = (piece, piece.tokens, piece.length), (piece, piece.kept, piece.wanted)
            dgated, gate, dgate = (_split_heads(blocks(part, *kept), heads) for part in (arriving, z, dz))
            torch.ops.aten.silu_backward.grad_input(dgated * y, gate, grad_input=dgate)
            dy = torch.mul(dgated, factor, out=torch.empty_like(y))
            block = blocks(before, *shape)
            dmixing = _inner(dy, parts.x)  # (n, H, w, l)
            dskip[piece.kept].view(piece.count, piece.wanted, heads).copy_(
                dmixing.diagonal(piece.length - piece.wanted, -2, -1).transpose(1, 2)
            )
            by_group = dmixing.unflatten(1, (groups, heads // groups))
            pairs = dweight[:, piece.pairs].view(heads, piece.count, piece.wanted, piece.length).transpose(0, 1)
            pairs.copy_((by_group * parts.scores.unsqueeze(2)).flatten(1, 2))
            dscores = (by_group * parts.weight.unflatten(1, (groups, -1))).sum(2).to(xb.dtype)  # (n, G, w, l)
            states = parts.B.shape[1] * parts.B.shape[3]
            dact = torch.empty_like(block)

            def through_silu(grad: Tensor, first: int, steps: slice = slice(None)) -> None:
                """grad (n, count, l, width) of channels from ``first`` on, back through their SiLU into ``dact``."""
                count, width = grad.shape[1], grad.shape[1] * grad.shape[3]
                at, to = (_split_heads(part[:, steps, first : first + width], count) for part in (block, dact))  # noqa: B023
                torch.ops.aten.silu_backward.grad_input(grad, at, grad_input=to)

            through_silu(_times(parts.mixing.transpose(-1, -2), dy), 0)
            through_silu(_times(dscores.transpose(-1, -2), parts.C), inner)
            dC = _times(dscores, parts.B)
            if dc is None:
                unseen = piece.length - piece.wanted
                dact[:, :unseen, inner + states :] = 0
                through_silu(dC, inner + states, slice(unseen, None))
            else:
                _split_heads(blocks(dc, *kept), groups).copy_(dC)
            convolve_backward(dact, conv.input(xb, piece), conv, piece, blocks(dxb, *shape), dtaps, dbias)
        return dxb, dz, dc, dweight, dskip, dtaps.t(), dbias, None, None, None, None, None


def block_scan(
    wide: Wide,
    z: Tensor,
    c: Tensor | None,
    weight: Tensor,
    skip: Tensor,
    conv: Weights,
    groups: int,
    layout: BlockLayout,
    compiled: bool = False,
) -> Tensor:
    """``SSD(SiLU(conv(·)))·SiLU(z)`` at the wanted positions, the skip included.

    Args:
        wide: (T, E + 2GN) x | B | C before the convolution, or (T, E + GN) x | B where ``c`` is given.
        z: (S, E) the gate at the wanted positions.
        c: (S, GN) the queries C there, convolved already; None where they are part of ``wide``.
        weight: (H, Np), see :func:`pair_weights`.
        skip: (S, H) what y takes of x at its own position beside the scan.
        conv: the convolution of ``wide``.
        groups: G.
        layout: blocks of the T tokens.
        compiled: by numba's loops over sequences (:mod:`..loops.seqscan`) where they can take this and are faster.

    Returns:
        (S, E) in the dtype of ``wide``.
    """
    xb = wide.values
    given = (xb, z, c, weight, skip, *conv)
    backward = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in given)
    if backward and wide.rows is not None:
        raise RuntimeError("block_scan of chosen rows has no gradients")
    rest = (wide.bias, groups, layout, wide.rows)
    if compiled and serves(xb, z, c, weight, layout):
        return sequence_scan(*given, *rest)
    out: Tensor = _BlockScan.apply(*given, *rest, backward)
    return out
