"""Cross-entropy over all items in few passes over the (B, I) scores, which are the widest tensor of a small shop.

The scores are made once and turned into exponentials in place. Their normalisation, the mean over the batch and the
labels' share of the gradient never touch them: the first two scale rows of (B, D), the others are (B, D) and (D,).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mmm4rec.network.ops.linear import product_dtype

# rows of products that begin at whole cache lines are written in two thirds of the time
_LINE = 64


def aligned_product(x: Tensor, items: Tensor) -> Tensor:
    """x (B, D) · itemsᵀ, items (I, D) → (B, I) whose rows begin at cache lines; no gradients."""
    step = _LINE // x.element_size()
    rows = torch.empty(len(x), -(-len(items) // step) * step, dtype=x.dtype, device=x.device)
    return torch.mm(x, items.t(), out=rows[:, : len(items)])


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        dtype = product_dtype(users)
        ctx.types, ctx.smoothing = (users.dtype, items.dtype), smoothing
        with torch.autocast(users.device.type, enabled=False):
            users, items = users.to(dtype), items.to(dtype)
            scores = aligned_product(users, items)
            if dtype.itemsize < 4:
                scores = scores.float()
            own = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
            everything = items.sum(0, dtype=scores.dtype)  # (D,); its product with a user is the sum of the scores
            largest = scores.amax(1, keepdim=True)
            scores.sub_(largest).exp_()
            total = scores.sum(1)
            losses = largest.squeeze(1) + total.log() - (1 - smoothing) * own
            if smoothing:
                losses = losses - smoothing / len(items) * (users.to(scores.dtype) @ everything)
            ctx.save_for_backward(users, items, labels, scores.to(dtype), total, everything)
            return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        users, items, labels, powers, total, everything = ctx.saved_tensors
        share = grads[0].to(total.dtype) / len(users)  # of a row
        scale = (share / total).unsqueeze(1)
        wide = users.to(total.dtype)
        pull, spread = (1 - ctx.smoothing) * share, ctx.smoothing / len(items) * share
        dusers = torch.mm(powers, items).to(total.dtype) * scale
        dusers -= pull * items.index_select(0, labels).to(total.dtype) + spread * everything
        ditems = torch.mm(powers.t(), (wide * scale).to(users.dtype)).to(total.dtype)
        ditems.index_add_(0, labels, wide * -pull)
        if ctx.smoothing:
            ditems -= spread * wide.sum(0)
        return dusers.to(ctx.types[0]), ditems.to(ctx.types[1]), None, None


def softmax_cross_entropy(users: Tensor, items: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of users (B, D) over items (I, D), each of which is a class.

    Args:
        users: (B, D).
        items: (I, D).
        labels: (B,) int64 in 0 … I-1.
        smoothing: share of the target that is spread over all items.
    """
    loss: Tensor = _FullCrossEntropy.apply(users, items, labels, smoothing)
    return loss
