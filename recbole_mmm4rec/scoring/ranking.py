"""The best items of each user, found over pieces of the catalogue, and handed to RecBole's metrics.

Order: higher score first; of equal scores the lower item number first. (``torch.topk`` breaks ties as it happens.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

from recbole_mmm4rec.scoring.neighbours import Addition

SCORE_BYTES = 64 * 2**20
"""Bytes of float32 scores that stand in memory at a time: users of a batch × items of a piece × 4."""

WHOLE_ROWS = ("rec.meanrank", "rec.score", "data.label")
"""What metrics may need of the scores of all items."""


@dataclass(frozen=True)
class TopItems:
    """The K best items of each user of a batch.

    Attributes:
        items: (B, K) int64 item numbers, best first.
        rows: I+1.
    """

    items: Tensor
    rows: int


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row in the order of this module.

    Args:
        scores: (B, n), without NaN.
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
    above, equal = scores > lowest, scores == lowest
    wanted = count - above.sum(1, keepdim=True)
    taken = above | (equal & (equal.cumsum(1) <= wanted))
    return taken.nonzero()[:, 1].view(len(scores), count)


def best_items(
    users: Tensor,
    fused: Tensor,
    count: int,
    history: tuple[Tensor, Tensor] | None = None,
    budget: int | None = None,
    addition: Addition | None = None,
) -> Tensor:
    """The highest scored items of each user, without the scores of all items at once.

    Args:
        users: (B, D).
        fused: (I+1, D), the item side; row 0 is padding and scores −inf.
        count: K, at most I.
        history: users' rows in the batch and item numbers, (n,) int64 each, that score −inf.
        budget: bytes of scores at a time, :data:`SCORE_BYTES` by default; a piece holds K items at least.
        addition: what is added to some of the scores.

    Returns:
        (B, K) int64 item numbers, best first.
    """
    rows, budget = fused.shape[0], SCORE_BYTES if budget is None else budget
    step = max(count, budget // (len(users) * users.element_size()), 1)
    buffer = users.new_empty(len(users) * min(step, rows))
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, rows, step):
        piece = fused[start : start + step]
        scores = torch.mm(users, piece.T, out=buffer[: len(users) * len(piece)].view(len(users), len(piece)))
        if addition is not None:
            addition.add_to(scores, start)
        if start == 0:
            scores[:, 0] = -torch.inf
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
    return best[1]


class RankingCollector(Collector):
    """RecBole's collector, which also takes the best items alone, and orders equal scores the same way in both."""

    register: Any

    def __init__(self, config: Any) -> None:
        """Read from the configured metrics what has to be collected."""
        super().__init__(config)
        self._others = copy.copy(self.register)
        for name in ("rec.topk", "rec.items"):
            vars(self._others).pop(name, None)

    @property
    def top_alone(self) -> bool:
        """Whether the metrics need nothing but the best items."""
        return not any(self.register.need(name) for name in WHOLE_ROWS)

    def eval_batch_collect(
        self, scores_tensor: Tensor | TopItems, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect a batch.

        Args:
            scores_tensor: (B, I+1) scores of all items, or the best items alone.
            interaction: the batch.
            positive_u: (n,) int64 row of each positive item in the batch.
            positive_i: (n,) int64 positive items.
        """
        if isinstance(scores_tensor, TopItems):
            self._collect_top(scores_tensor, positive_u, positive_i)
            return
        if self.register.need("rec.topk") or self.register.need("rec.items"):
            _, items = best_of(scores_tensor, max(self.topk))
            self._collect_top(TopItems(items, scores_tensor.shape[1]), positive_u, positive_i)
        complete, self.register = self.register, self._others
        try:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        finally:
            self.register = complete

    def _collect_top(self, top: TopItems, positive_u: Tensor, positive_i: Tensor) -> None:
        """What RecBole's metrics read: the best items, and which of them are positive with the number of positives."""
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top.items)
        if self.register.need("rec.topk"):
            users, device = len(top.items), top.items.device
            keys = torch.unique(positive_u.to(device) * top.rows + positive_i.to(device))
            found = torch.arange(users, device=device).unsqueeze(1) * top.rows + top.items
            hits = torch.isin(found, keys).int()
            counts = torch.bincount(keys // top.rows, minlength=users).int().unsqueeze(1)
            self.data_struct.update_tensor("rec.topk", torch.cat([hits, counts], 1))
