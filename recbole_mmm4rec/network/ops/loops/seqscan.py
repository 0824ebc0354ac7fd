"""Convolution, scan and gate a sequence at a time on a processor, by compiled loops where numba is installed."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops.loops.threads import run_on_threads
from recbole_mmm4rec.network.ops.packing.ragged import BlockLayout, Ragged

logger = logging.getLogger(__name__)

# pieces of work, more than there are threads, so that none waits long for the last; always as many, so that sums come
# out the same on any number of threads
_PARTS = 32
# earlier positions that a wanted token may have on average; above, batched products of whole blocks are faster, and in
# bfloat16 sooner (both from two cores with matrix units)
_MOST_PAIRS = {torch.float32: 64, torch.bfloat16: 24}


def serves(xb: Tensor, z: Tensor, c: Tensor | None, weight: Tensor, layout: BlockLayout) -> bool:
    """Whether the loops can take these operands, float32 or bfloat16, and are not slower than blocks."""
    same = z.dtype == xb.dtype and (c is None or c.dtype == xb.dtype)
    if not same or xb.dtype not in _MOST_PAIRS or weight.dtype != torch.float32:
        return False
    return sum(p.count * p.wanted * p.length for p in layout.pieces) <= _MOST_PAIRS[xb.dtype] * sum(
        p.count * p.length for p in layout.pieces
    )


def _or_nothing(x: Tensor | None, like: Tensor) -> Tensor:
    """An empty tensor where there is none: compiled loops take one type."""
    return like.new_empty([0] * like.dim()) if x is None else x


def _array(x: Tensor) -> Any:
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def plan_of(layout: BlockLayout) -> list[Any]:
    """Rows of :mod:`.sequence_kernels`'s plan, in parts of about the same work."""
    rows = []
    for piece in layout.pieces:
        block = np.zeros((piece.count, 6), np.int64)
        order, length, wanted = np.arange(piece.count), piece.length, piece.wanted
        block[:, 0] = piece.tokens.start + order * length
        block[:, 1] = piece.kept.start + order * wanted
        block[:, 2] = piece.pairs.start + order * (wanted * length)
        block[:, 3], block[:, 4] = length, wanted
        block[:, 5] = 0 if piece.idle is None else piece.idle.numpy()
        rows.append(block)
    plan = np.concatenate(rows)
    work = np.cumsum(plan[:, 3] * (16 + plan[:, 4]))
    ends = np.searchsorted(work, work[-1] * np.arange(1, _PARTS) / _PARTS)
    return [part for part in np.split(plan, ends) if len(part)]


def _run(function: Any, calls: list[tuple[Any, ...]], longest: int, channels: int) -> None:
    """Call a function that leaves Python's lock with each set of arguments, on as many threads as PyTorch takes.

    Each thread adds :func:`~recbole_mmm4rec.network.ops.loops.sequence_kernels.room` of its own to the arguments.
    """
    from recbole_mmm4rec.network.ops.loops.sequence_kernels import room

    threads = min(torch.get_num_threads(), len(calls))
    todo = iter(calls)  # taken under Python's lock

    def work() -> None:
        own = room(longest, channels)
        for call in todo:
            function(*call, *own)

    run_on_threads(work, threads)


class _SequenceScan(torch.autograd.Function):
    """See :func:`~recbole_mmm4rec.network.ops.blocks.blockscan.block_scan`."""

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
    ) -> Tensor:
        from recbole_mmm4rec.network.ops.loops.sequence_kernels import scan

        heads, inner = weight.shape[0], z.shape[1]
        states = xb.shape[1] - inner if c is not None else (xb.shape[1] - inner) // 2
        sizes = (heads, inner // heads, groups, states // groups)
        given = [_array(part) for part in (xb, z, _or_nothing(c, z), weight, skip.float())]
        # to the precision of the products, as blocks are
        narrow = (conv_weight.t(), conv_bias, _or_nothing(wide_bias, conv_bias))
        taps, bias, lacking = (_array(part.to(xb.dtype).float()) for part in narrow)
        rows = np.empty(0, np.int64) if tokens is None else tokens.numpy()
        gated = torch.empty(z.shape, dtype=z.dtype)
        half = xb.dtype == torch.bfloat16
        ctx.parts, ctx.longest = plan_of(layout), layout.longest
        ctx.rest = (taps, bias, lacking, sizes, half)
        fixed = (given[0], rows, *given[1:], *ctx.rest, _array(gated))
        _run(scan, [(part, *fixed) for part in ctx.parts], ctx.longest, xb.shape[1])
        ctx.save_for_backward(xb, z, c, weight, skip, conv_weight, conv_bias)
        return gated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from recbole_mmm4rec.network.ops.loops.sequence_kernels import scan_backward

        xb, z, c, weight, skip, conv_weight, conv_bias = ctx.saved_tensors
        given = [_array(part) for part in (xb, z, _or_nothing(c, z), weight, skip.float())]
        dxb, dz = (torch.empty(part.shape, dtype=part.dtype) for part in (xb, z))
        dc = None if c is None else torch.empty(c.shape, dtype=c.dtype)
        dweight, dskip = torch.empty(weight.shape), torch.empty(skip.shape)
        dtaps = torch.zeros(len(ctx.parts), conv_weight.shape[1], conv_weight.shape[0])
        dbias = torch.zeros(len(ctx.parts), len(conv_bias))
        filled = [_array(part) for part in (grads[0].to(xb.dtype), dxb, dz, _or_nothing(dc, z), dweight, dskip)]
        fixed = (*given, *ctx.rest, *filled)
        sums = zip(ctx.parts, dtaps.numpy(), dbias.numpy(), strict=True)
        _run(scan_backward, [(part, *fixed, *own) for part, *own in sums], ctx.longest, xb.shape[1])
        taps, bias = dtaps.sum(0).t().to(conv_weight.dtype), dbias.sum(0).to(conv_bias.dtype)
        return dxb, dz, dc, dweight, dskip.to(skip.dtype), taps, bias, None, None, None, None


def sequence_scan(xb: Tensor, *others: Any) -> Tensor:
    """The arguments and the result of :func:`~recbole_mmm4rec.network.ops.blocks.blockscan.block_scan`."""
    _make_ready(xb.dtype)
    out: Tensor = _SequenceScan.apply(xb, *others)
    return out


@cache
def _make_ready(dtype: torch.dtype) -> None:
    """Load the loops for one precision, or compile them; kept ones that cannot be read are made again."""
    from recbole_mmm4rec.network.ops.loops.sequence_kernels import forget_kept

    try:
        _try_out(dtype)
    except Exception as error:  # a file that was cut off fails in many ways
        logger.warning("kept loops cannot be read (%s: %s): compiling them again", type(error).__name__, error)
        forget_kept()
        _try_out(dtype)


def _try_out(dtype: torch.dtype) -> None:
    with torch.inference_mode(False), torch.enable_grad():
        layout = Ragged(torch.tensor([2, 1]), 2).layout()
        given = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in ((3, 3), (3, 1))]
        small = [torch.zeros(shape, requires_grad=True) for shape in ((1, 5), (3, 1), (3, 4), (3,))]
        _SequenceScan.apply(*given, None, *small, None, 1, layout, None).sum().backward()


def compile_all() -> None:
    """Compile the loops for both precisions and keep them, which takes half a minute at the first time."""
    _make_ready(torch.float32)
    _make_ready(torch.bfloat16)
