"""Batches of made-up histories as long as the real ones of Amazon Industrial and Scientific.

Cost depends on how long histories are, hardly on what is in them, so that the lengths are the real ones and items and
times are drawn: items uniformly, the worst case for an implementation that computes each item of a batch once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ITEMS = 4385
MAX_LEN = 20
# how many training prefixes (leave-one-out, the last two items held out) have 1, 2, … 20 and more items
TRAINING = (8442, 8442, 5134, 3232, 2156, 1503, 1121, 818, 619, 482, 373, 306, 244, 194, 156, 126, 106, 83, 65, 456)
# the same of the histories before the test item
TEST = (0, 0, 0, 3308, 1902, 1076, 653, 382, 303, 199, 137, 109, 67, 62, 50, 38, 30, 20, 23, 83)
FEATURE_WIDTHS = {"text": 768, "image": 768}


@dataclass(frozen=True)
class Batch:
    """Histories and their next items; see ``python -m benchmarks --contract``."""

    item_seq: Tensor
    item_seq_len: Tensor
    timestamps: Tensor
    labels: Tensor
    setup: Any = None


def make_batch(users: int, counts: tuple[int, ...], seed: int, setup: Any = None) -> Batch:
    """Draw histories.

    Args:
        users: B.
        counts: how often each length 1 … L occurs.
        seed: the same seed gives the same batch.
        setup: what the batch is for; its ``device`` is where the tensors lie.

    Returns:
        item_seq (B, L), item_seq_len (B,), timestamps (B, L) and labels (B,), all int64.
    """
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.multinomial(torch.tensor(counts, dtype=torch.float), users, True, generator=draw) + 1
    shape = (users, len(counts))
    real = torch.arange(len(counts)) < lengths[:, None]
    gaps = torch.exp(torch.randn(shape, generator=draw) * 2 + 12).long()  # seconds: hours to months
    stamps = 1_400_000_000 + torch.randint(0, 10**8, (users, 1), generator=draw) + gaps.cumsum(1)
    count = ITEMS if setup is None else next(iter(setup.features.values())).shape[0] - 1
    items = torch.randint(1, count + 1, shape, generator=draw)
    labels = torch.randint(1, count + 1, (users,), generator=draw)
    device = "cpu" if setup is None else setup.device
    parts = (torch.where(real, items, 0), lengths, torch.where(real, stamps, 0), labels)
    item_seq, item_seq_len, timestamps, labels = (part.to(device) for part in parts)
    return Batch(item_seq, item_seq_len, timestamps, labels, setup)


def make_features(modalities: tuple[str, ...] = ("text", "image")) -> dict[str, Tensor]:
    """Random features (I+1, F) float32 of unit length, as frozen encoders give them; row 0 zeros."""
    draw = torch.Generator().manual_seed(1)
    made = {}
    for name in modalities:
        table = torch.nn.functional.normalize(torch.randn(ITEMS + 1, FEATURE_WIDTHS[name], generator=draw), dim=-1)
        table[0] = 0
        made[name] = table
    return made
