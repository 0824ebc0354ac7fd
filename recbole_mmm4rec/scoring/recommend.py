"""From user vectors and an item side to the K best items: the one place, for a training's evaluation and for users.

Order: higher score first; of equal scores the lower item number first. (``torch.topk`` breaks ties as it happens.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recbole_mmm4rec.scoring.mapped import gathered, release

if TYPE_CHECKING:  # the counts import SciPy
    from recbole_mmm4rec.network import MMM4RecNetwork
    from recbole_mmm4rec.network.items import ItemSide
    from recbole_mmm4rec.network.ops.streams import Prepared
    from recbole_mmm4rec.scoring.neighbours import Addition

SCORE_BYTES = 64 * 2**20
"""Bytes of float32 scores that stand in memory at a time: users of a batch × items of a piece × 4."""

INPUT_BYTES = 512 * 2**20
"""Most bytes of the first layer's inputs of all items that are kept."""


class Sides:
    """The item side of a network, made once, and the user side of batches, while the weights stay the same.

    Attributes:
        network: in evaluation mode.
        side: the item tables and the item side of the scores.
        mapped: whether the side lies on disk, in a file that nobody writes to: memory that it took is given back.
        inputs: the first layer's inputs of all items, once they are worth it.
        tokens: items of the histories so far.
    """

    def __init__(self, network: MMM4RecNetwork, side: ItemSide, mapped: bool = False) -> None:
        self.network, self.side, self.mapped = network, side, mapped
        self.inputs: Mapping[str, Prepared] | None = None
        self.tokens = 0

    def users(self, histories: Tensor, lengths: Tensor, stamps: Tensor | None, origin: Tensor | None = None) -> Tensor:
        """The user vectors of a batch.

        Args:
            histories: (B, L) int64 item numbers, oldest first, right-padded with 0.
            lengths: (B,) int64, at least 1.
            stamps: (B, L) int64 seconds; None without time.
            origin: as for the network's ``user_vectors``.

        Returns:
            (B, D), in the dtype of the item side.
        """
        inputs, tables = self._inputs(lengths), self.side.tables
        if self.mapped and inputs is None:
            rows, histories = torch.unique(histories, return_inverse=True)
            tables = {name: gathered(table, rows) for name, table in tables.items()}
        vectors = self.network.user_vectors(histories, lengths, stamps, tables, inputs, origin)
        return vectors.to(self.side.fused.dtype)

    def _inputs(self, lengths: Tensor) -> Mapping[str, Prepared] | None:
        """The first layer's inputs of all items, if they are small, once they pay."""
        if self.network.training or torch.is_grad_enabled():
            return None
        config, items = self.network.config, self.network.items
        width = 3 * config.inner_width + 2 * config.group_width + config.n_heads + config.hidden_size
        if self.inputs is not None or 4 * items.rows * width * len(items.modalities) > INPUT_BYTES:
            return self.inputs
        self.tokens += int(lengths.sum())
        if self.tokens >= items.rows:
            self.inputs = self.network.item_inputs(self.side.tables)
        return self.inputs


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row in the order of this module.

    Args:
        scores: (B, n); NaN is above every number, as ``torch.topk`` has it.
        count: K, at most n.

    Returns:
        (B, K) scores and (B, K) int64 columns.
    """
    values, columns = torch.topk(scores, min(count + 1, scores.shape[1]), dim=1)
    if scores.shape[1] > count:
        # a tie between the last one taken and the first one left: which of them to take is not topk's to say
        open_rows = torch.nonzero(values[:, count - 1] == values[:, count]).flatten()
        values, columns = values[:, :count].contiguous(), columns[:, :count].contiguous()
        for part in open_rows.split(max(1, SCORE_BYTES // (8 * scores.shape[1]))):
            columns[part] = _first_of_equals(scores[part], values[part, -1:], count)
    columns = columns.sort(1).values
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _first_of_equals(scores: Tensor, lowest: Tensor, count: int) -> Tensor:
    """(B, K) columns above ``lowest``, (B, 1), and the first ones equal to it."""
    above, equal = ~(scores <= lowest), scores == lowest  # NaN is above
    wanted = count - above.sum(1, keepdim=True)
    taken = above | (equal & (equal.cumsum(1) <= wanted))
    return taken.nonzero()[:, 1].view(len(scores), count)


def best_items(
    users: Tensor,
    fused: Tensor,
    count: int,
    *,
    history: tuple[Tensor, Tensor] | None = None,
    allowed: Tensor | None = None,
    addition: Addition | None = None,
    budget: int | None = None,
    mapped: bool = False,
) -> tuple[Tensor, Tensor]:
    """The highest scored items of each user, without the scores of all items at once.

    Args:
        users: (B, D).
        fused: (I+1, D), the item side; row 0 is padding and scores −inf.
        count: K, at most I.
        history: users' rows in the batch and item numbers, (n,) int64 each, that score −inf.
        allowed: (I+1,) bool, items that do not score −inf; None: all.
        addition: what is added to some of the scores.
        budget: bytes of scores at a time, :data:`SCORE_BYTES` by default; a piece holds K items at least.
        mapped: ``fused`` lies on disk; the memory of a piece is given back.

    Returns:
        (B, K) scores and (B, K) int64 item numbers, best first.
    """
    rows, budget = fused.shape[0], SCORE_BYTES if budget is None else budget
    step = max(count, budget // (len(users) * users.element_size()), 1)
    if mapped:  # of few users a piece would be the whole table
        step = max(count, min(step, SCORE_BYTES // (fused.shape[1] * fused.element_size())))
    buffer = users.new_empty(len(users) * min(step, rows))
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, rows, step):
        piece = fused[start : start + step]
        scores = torch.mm(users, piece.T, out=buffer[: len(users) * len(piece)].view(len(users), len(piece)))
        if mapped:
            release(piece)
        if addition is not None:
            addition.add_to(scores, start)
        if start == 0:
            scores[:, 0] = -torch.inf
        if allowed is not None:
            scores.masked_fill_(~allowed[start : start + step], -torch.inf)
        if history is not None:
            held = (history[1] >= start) & (history[1] < start + len(piece))
            scores[history[0][held], history[1][held] - start] = -torch.inf
        values, columns = best_of(scores, min(count, len(piece)))
        columns += start
        if best is not None:  # earlier pieces stand in front: a stable order keeps lower item numbers first
            values, order = torch.cat([best[0], values], 1).sort(dim=1, descending=True, stable=True)
            columns = torch.cat([best[1], columns], 1).gather(1, order)
        best = values[:, :count], columns[:, :count]
    assert best is not None
    return best
