"""What may stand beside the linear adapter of a modality's features: whitening before it, more maps and a gate.

Neither is in the paper. Whitening of text embeddings for recommendation: Zhang et al., "Are ID Embeddings Necessary?
Whitening Pre-trained Text Embeddings for Effective Sequential Recommendation" (arXiv 2402.10602), which whitens by ZCA,
too. Maps mixed by a gate: the adaptor of Hou et al., "Towards Universal Sequence Representation Learning for
Recommender Systems" (arXiv 2206.05941), whose parametric whitening (x − b)W is one linear map; its gate's noise and its
dropout are left out here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_mmm4rec.network.ops.frozen import FrozenTable, pieces

SHRINKAGE = 0.01
"""Share of the mean variance added to each direction's, so that directions of nearly none aren't blown up."""


class Whitening(nn.Module):
    """x ↦ (x − μ)Z: no direction of the features varies more than another, and their total variance stays.

    Z = √(tr Σ / F) · (Σ + ε tr Σ / F)^(−½) of the features' covariance Σ, symmetric (ZCA), ε :data:`SHRINKAGE`. It
    belongs to a catalogue, is no weight, and stands in checkpoints, so that items added later are seen as these are.
    """

    def __init__(self, table: FrozenTable, present: Tensor) -> None:
        """Look through the features once.

        Args:
            table: (I+1, F).
            present: (I+1,) bool, False where an item has no such features; row 0 does not count.
        """
        super().__init__()
        centre, matrix = zca(table, present)
        self.register_buffer("centre", centre)  # μ, (F,)
        self.register_buffer("matrix", matrix)  # Z, (F, F)

    centre: Tensor
    matrix: Tensor

    def before(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The linear map that gives for x what ``weight`` (D, F) and ``bias`` (D,) give for the whitened x."""
        with torch.autocast(weight.device.type, enabled=False):
            folded = weight @ self.matrix.to(weight.dtype)
            return folded, bias - folded @ self.centre.to(bias.dtype)


def zca(table: FrozenTable, present: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and whitening matrix (F, F) of the rows that are present, float32; see :class:`Whitening`."""
    rows, width = table.shape
    present = present.cpu().clone()
    present[0] = False
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    count = max(1, int(present.sum()))
    for piece in pieces(rows, width):
        values = table.take(piece, torch.float64).cpu()[present[piece]]
        total += values.sum(0)
        products.addmm_(values.T, values)
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    variances = variances.clamp(min=0)
    level = variances.mean()
    if level == 0:  # one item, or all alike: there is nothing to decorrelate
        return mean.float(), torch.eye(width)
    factors = (level / (variances + SHRINKAGE * level)).sqrt()
    return mean.float(), ((directions * factors) @ directions.T).float()


class Experts(nn.Module):
    """The other linear maps of a modality, F → D each, and the gate that mixes them with the adapter."""

    def __init__(self, width: int, out: int, count: int) -> None:
        """Make them.

        Args:
            width: F.
            out: D.
            count: maps together with the adapter, at least 2.
        """
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, out) for _ in range(count - 1))
        self.gate = nn.Linear(width, count)
