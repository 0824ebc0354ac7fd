"""Projecting frozen features piece by piece: exact gradients of the projection, never a float copy of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, Rows, pieces


def project(table: FrozenTable, rows: Rows, weight: Tensor, bias: Tensor) -> Tensor:
    """``X Wᵀ + b`` of some rows X of a frozen table.

    Rows that need converting or gathering pass through memory a piece at a time, in the backward pass again; the
    features need no gradient, the weight's is the sum of the pieces' products.

    Args:
        table: (I+1, F) features.
        rows: (n,) int64 item numbers or a slice of them.
        weight: W, (D, F).
        bias: b, (D,).

    Returns:
        (n, D) in the dtype of the weights, or of autocast where it is on.
    """
    count = len(range(*rows.indices(table.shape[0]))) if isinstance(rows, slice) else len(rows)
    if table.is_view(rows, weight.dtype) or count <= _step(table):
        return F.linear(table.take(rows, weight.dtype), weight, bias)
    kind = weight.device.type
    lower = torch.is_autocast_enabled(kind) and weight.dtype == torch.float32
    dtype = torch.get_autocast_dtype(kind) if lower else weight.dtype
    with torch.autocast(kind, enabled=False):
        made: Tensor = _Projection.apply(weight.to(dtype), bias.to(dtype), table, rows)
    return made


class _Projection(torch.autograd.Function):
    """``X Wᵀ + b`` over pieces of the rows of X, which is a frozen table."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, table: FrozenTable, rows: Rows) -> Tensor:
        ctx.table, ctx.rows, ctx.dtype = table, rows, weight.dtype
        parts = list(_split(table, rows))
        made = weight.new_empty(parts[-1][1].stop, weight.shape[0])
        for part, place in parts:
            torch.addmm(bias, table.take(part, weight.dtype), weight.T, out=made[place])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        wanted_weight, wanted_bias = ctx.needs_input_grad[:2]
        of_weight = None
        if wanted_weight:
            of_weight = gradient.new_zeros(gradient.shape[1], ctx.table.shape[1])
            for part, place in _split(ctx.table, ctx.rows):
                of_weight.addmm_(gradient[place].T, ctx.table.take(part, ctx.dtype))
        return of_weight, gradient.sum(0) if wanted_bias else None, None, None


def _split(table: FrozenTable, rows: Rows) -> Iterator[tuple[Rows, slice]]:
    """The pieces of ``rows`` and where they stand in the result."""
    if isinstance(rows, slice):
        start, stop, step = rows.indices(table.shape[0])
        for place in pieces(len(range(start, stop, step)), table.shape[1]):
            yield slice(start + place.start * step, min(start + place.stop * step, stop), step), place
    else:
        for place in pieces(len(rows), table.shape[1]):
            yield rows[place], place


def _step(table: FrozenTable) -> int:
    return next(pieces(table.shape[0], table.shape[1])).stop
