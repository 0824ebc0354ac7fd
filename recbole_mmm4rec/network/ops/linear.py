"""Linear maps that save passes over wide tensors: several outputs at once, and RMSNorm folded into the product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype that matrix products of ``x`` run in: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _column_sums(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """Bias gradient of a Linear, as PyTorch's own: added up in float32, rounded to the product's dtype."""
    return grad.sum(0).to(dtype)


class _SplitLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, sizes: tuple[int, ...], keep: Any, bare: int | None
    ) -> Any:
        dtype = product_dtype(x)
        ctx.types = (x.dtype, weight.dtype)
        ctx.sizes = sizes
        with torch.autocast(x.device.type, enabled=False):
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
            parts = zip(weight.split(sizes), bias.split(sizes), strict=True)
            inputs = [x if keep is None else x.index_select(0, keep), *[x] * (len(sizes) - 1)]
            made = [
                torch.mm(u, w.t()) if index == bare else torch.addmm(b, u, w.t())
                for index, (u, (w, b)) in enumerate(zip(inputs, parts, strict=True))
            ]
        ctx.save_for_backward(x, weight, keep)
        return tuple(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, keep = ctx.saved_tensors
        x_type, weight_type = ctx.types
        dweight = torch.empty_like(weight)
        dbias = torch.empty(len(weight), dtype=weight_type, device=weight.device)
        dx: Tensor | None = None
        begin = len(weight)
        for index in reversed(range(len(grads))):  # the kept rows last: they are added by index
            grad, end = grads[index].to(weight.dtype), begin
            begin = end - ctx.sizes[index]
            kept = keep if index == 0 else None
            u = x if kept is None else x.index_select(0, kept)
            torch.mm(grad.t(), u, out=dweight[begin:end])
            dbias[begin:end] = _column_sums(grad, weight_type)
            if dx is None:
                dx = torch.mm(grad, weight[begin:end])
            elif kept is None:
                dx.addmm_(grad, weight[begin:end])
            else:
                dx.index_add_(0, kept, torch.mm(grad, weight[begin:end]))
        assert dx is not None
        return dx.to(x_type), dweight.to(weight_type), dbias, None, None, None


def split_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    sizes: tuple[int, ...],
    keep: Tensor | None = None,
    bare: int | None = None,
) -> tuple[Tensor, ...]:
    """A Linear whose output is cut into parts, each contiguous, the first for some rows alone.

    One gradient buffer serves all parts, where separate Linears would add up as many copies of it.

    Args:
        x: (T, D).
        weight: (Σ sizes, D); bias: (Σ sizes,).
        sizes: widths of at least two parts.
        keep: (S,) int64, each at most once: the rows of the first part; None for all.
        bare: which part is left without its bias, to be added by whoever takes it; the bias has its gradient
            nevertheless.

    Returns:
        (S or T, sizes[0]), (T, sizes[1]), …
    """
    return _SplitLinear.apply(x, weight, bias, sizes, keep, bare)


class _NormedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
            inverse = torch.rsqrt(norm.square() / x.shape[1] + eps)  # (T, 1)
            scaled = (weight * scale).to(x.dtype)  # (D, E)
            raw = torch.mm(x, scaled.t())
            ctx.save_for_backward(x, scale, weight, scaled, inverse, raw)
            return (raw * inverse.to(raw.dtype)).add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight, scaled, inverse, raw = ctx.saved_tensors
        (grad,) = grads
        dbias = _column_sums(grad, weight.dtype)
        along = (grad * raw).sum(1, keepdim=True, dtype=inverse.dtype)  # the gradient of ``inverse``
        grad = grad * inverse.to(grad.dtype)
        dscaled = torch.mm(grad.t(), x).to(weight.dtype)
        pull = along.mul_(inverse.pow(3)).div_(-x.shape[1]).to(x.dtype)
        dx = torch.addcmul(torch.mm(grad, scaled), pull, x)
        return dx, (dscaled * weight).sum(0), dscaled * scale, dbias, None


def normed_linear(x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``Linear(RMSNorm(x))`` without the normalised tensor: the row's factor is applied behind the product.

    Args:
        x: (T, E), in the dtype of the product.
        scale: (E,) weight of the norm; weight: (D, E) and bias: (D,) of the Linear.
        eps: added to the mean square.

    Returns:
        (T, D) in the dtype of x.
    """
    if x.dtype == torch.float16:  # its range is too small for products of rows that are not normalised yet
        normed = F.rms_norm(x.float(), scale.shape, scale, eps)
        return F.linear(normed.half(), weight.half(), bias.half())
    return _NormedLinear.apply(x, scale, weight, bias, eps)
