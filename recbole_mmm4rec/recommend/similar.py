"""How much each item is like one of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops.tables.frozen import pieces
from recbole_mmm4rec.recommend.scorer import Scorer


@torch.no_grad()
def likeness(scorer: Scorer, number: int, modalities: Any = None) -> Tensor:
    """The mean over the modalities of the cosines of the items' vectors with one item's, weighted as in the model.

    Args:
        scorer: a model folder ready to score.
        number: of the item.
        modalities: as for :meth:`~.recommender.Recommender.recommend`.

    Returns:
        (I+1,) float32 between −1 and 1; padding's is of no meaning.
    """
    names, tables, items = scorer.chosen(modalities), scorer.side.tables, scorer.network.items
    withheld = [name for name in scorer.modalities if name not in names]
    found = torch.empty(items.rows, device=scorer.device)
    with items.without(withheld):
        for piece in pieces(items.rows, scorer.network.config.hidden_size):
            weights = items.coefficients(piece)
            total: Tensor | float = 0.0
            for name in names:
                cosine = F.cosine_similarity(tables[name][piece].float(), tables[name][number].float(), dim=1)
                total = total + (cosine if weights is None else cosine * weights[:, scorer.modalities.index(name)])
            found[piece] = total / (len(names) if weights is None else weights.sum(1))
    return found
