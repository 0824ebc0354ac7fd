"""A start in which text and picture of an item learn to be found by each other, before any sequence is read."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.items import ItemTables

logger = logging.getLogger(__name__)

TEMPERATURE, BATCH, RATE = 0.07, 1024, 1e-3
"""Divides the cosines; items of a batch; learning rate of Adam."""


def pairs_of(items: ItemTables, epochs: int) -> Tensor:
    """The items (n,) int64 that have both a text and a picture.

    Raises:
        UserError: one modality alone, fewer than two items with both, or adapters that may not be trained.
    """
    rows = torch.nonzero(items.present.all(1)).flatten()
    rows = rows[rows > 0]
    if len(items.modalities) < 2 or len(rows) < 2:
        raise UserError(
            f"contrastive_epochs={epochs}: it needs items with text and picture; here are {len(rows)} with "
            f"{' and '.join(items.modalities)} (set contrastive_epochs: 0, or modalities)"
        )
    if not _trained(items):
        raise UserError(f"contrastive_epochs={epochs}: the adapters are frozen; take them out of frozen")
    return rows


def contrastive_start(items: ItemTables, epochs: int, seed: int, show_progress: bool) -> None:
    """Train the adapters so that the two vectors of an item are nearer to each other than to other items'.

    Each way is a cross-entropy over the items of a batch, as in Radford et al., "Learning Transferable Visual Models
    From Natural Language Supervision" (arXiv 2103.00020). Only items that have both take part. The same seed gives the
    same adapters, and leaves PyTorch's random numbers as they were.

    Args:
        items: the item side; its ID tables are left alone, they are zero at this point.
        epochs: how often every item is seen, at least 1.
        seed: of the order.
        show_progress: whether a bar is shown.

    Raises:
        UserError: see :func:`pairs_of`.
    """
    rows = pairs_of(items, epochs)
    order = torch.Generator().manual_seed(seed)
    weights = _trained(items)
    optimiser = torch.optim.Adam(weights, lr=RATE)
    total = torch.zeros((), device=rows.device)
    bar = tqdm(range(epochs), desc="Contrastive start", unit=" epochs", ncols=110, disable=not show_progress)
    for _ in bar:
        total.zero_()
        for batch in torch.randperm(len(rows), generator=order).split(BATCH):
            loss = pair_loss(*items.vectors(rows[batch.to(rows.device)]).values())
            # of the adapters alone: ID tables would get a gradient as large as they are
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                weight.grad = gradient
            optimiser.step()
            total += loss.detach() * len(batch)
        bar.set_postfix_str(f"loss {float(total) / len(rows):.4f}")
    optimiser.zero_grad()
    logger.info("contrastive start: loss %.4f after %d epochs, %d items", float(total) / len(rows), epochs, len(rows))


def pair_loss(text: Tensor, image: Tensor) -> Tensor:
    """Mean cross-entropy of finding each text's picture and each picture's text, of (n, D) vectors each."""
    cosines = F.normalize(text.float(), dim=-1) @ F.normalize(image.float(), dim=-1).T / TEMPERATURE
    own = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own)) / 2


def _trained(items: ItemTables) -> list[nn.Parameter]:
    parts = (*items.adapter.parameters(), *items.experts.parameters())
    return [weight for weight in parts if weight.requires_grad]
