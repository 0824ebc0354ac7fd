"""Cross-entropies over the catalogue and over the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def full_cross_entropy(users: Tensor, fused: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over all items.

    Differs from the published program: the padding row is no class.

    Args:
        users: (B, D).
        fused: (I+1, D), see :meth:`~recbole_mmm4rec.network.items.ItemTables.fused`.
        labels: (B,) int64 in 1 … I.
        label_smoothing: share of the probability spread over all items, 0 as in the paper.

    Returns:
        the mean over the batch.
    """
    logits = users @ fused[1:].transpose(0, 1).to(users.dtype)
    return F.cross_entropy(
        logits.float() if logits.dtype.itemsize < 4 else logits, labels - 1, label_smoothing=label_smoothing
    )


def in_batch_cross_entropy(users: Tensor, fused: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which column j is the label of row j; equal labels are neither merged nor masked.

    Args:
        users: (B, D); fused: (I+1, D); labels: (B,) int64.

    Returns:
        the mean over the batch.
    """
    logits = users @ fused.index_select(0, labels).transpose(0, 1).to(users.dtype)
    targets = labels.new_ones(len(labels)).cumsum(0) - 1
    return F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, targets)
