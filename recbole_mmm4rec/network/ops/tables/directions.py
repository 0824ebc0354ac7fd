"""The weighted sum of normalised tables, which is the item side of the scores, in few passes over the tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-12
"""The smallest length that a row is divided by."""


class _SumOfDirections(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, temperature: float, *tables: Tensor) -> Tensor:
        factors = [
            torch.linalg.vector_norm(table, dim=1, keepdim=True).clamp_(min=EPS).reciprocal_() for table in tables
        ]
        ctx.save_for_backward(*tables, *factors)
        ctx.temperature = temperature
        total = tables[0] * (factors[0] / temperature)
        for table, factor in zip(tables[1:], factors[1:], strict=True):
            total.addcmul_(table, factor, value=1 / temperature)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 2
        grad, made = grads[0] / ctx.temperature, []
        for table, factor in zip(ctx.saved_tensors[:count], ctx.saved_tensors[count:], strict=True):
            along = (grad * table).sum(1, keepdim=True) * factor.pow(3)
            along.masked_fill_(factor >= 1 / EPS, 0)  # below eps the length doesn't count
            made.append((grad * factor).addcmul_(table, along, value=-1))
        return None, *made


def sum_of_directions(tables: Sequence[Tensor], weights: Tensor | None, temperature: float) -> Tensor:
    """``Σ_m c_m table_m/‖table_m‖ / temperature``, in few passes where every c is 1.

    Args:
        tables: (n, D) each.
        weights: (n, M) c, None where all are 1.
        temperature: greater than 0.

    Returns:
        (n, D).
    """
    if weights is None:
        dtype = functools.reduce(torch.promote_types, (table.dtype for table in tables))
        made: Tensor = _SumOfDirections.apply(temperature, *(table.to(dtype) for table in tables))
        return made
    total: Tensor | None = None
    for column, table in enumerate(tables):
        part = F.normalize(table, dim=-1, eps=EPS)
        part = part * weights[:, column].unsqueeze(1).to(part.dtype)
        total = part if total is None else total + part
    assert total is not None
    return total / temperature
