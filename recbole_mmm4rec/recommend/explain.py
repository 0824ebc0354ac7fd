"""Why an item is recommended: exact parts where the score is a sum, left-out items and gaps where it is not.

The score is ``Σ_m c_m u·t_m/‖t_m‖ / temperature + λ log(1 + n / 0.1)`` (network/items.py, scoring/neighbours.py):

- the parts of the modalities and the neighbours' are its summands;
- n is a sum over the past items; each gets its share of the logarithm in proportion to its share of n;
- the network that makes u is no sum: every past item is left out in turn, and the item is scored again, neighbours and
  all. What came before and after a left-out item then stands side by side, their gap is the sum of both. A history of
  nothing scores 0;
- of every gap the same: it is set to 0, all others stay.

All these histories, at most 2 L + 1, are scored as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.tables.directions import EPS
from recbole_mmm4rec.network.ops.tables.frozen import pieces
from recbole_mmm4rec.recommend.explanation import NEIGHBOURS, Explanation, Gap, PastItem
from recbole_mmm4rec.recommend.histories import encode, ids_of
from recbole_mmm4rec.recommend.scorer import NO_TIMES, Scorer
from recbole_mmm4rec.scoring.recommend import Sides

_MEANS: WeakKeyDictionary[Sides, dict[str, Tensor]] = WeakKeyDictionary()
"""(D,) of each modality: the mean over all items of what its part is a product with."""


@dataclass(frozen=True)
class Variants:
    """A history, and what is left of it without each of its parts.

    Attributes:
        numbers: (V, L) int64, right-padded with 0. Row 0 is the history itself; then it without each item in turn, if
            there are two or more; then it without each gap, and without all of them, if it has time stamps.
        lengths: (V,) int64.
        stamps: (V, L) int64.
        items: l, items of the history.
        gaps: l − 1, or 0 without time stamps.
    """

    numbers: Tensor
    lengths: Tensor
    stamps: Tensor
    items: int
    gaps: int

    @classmethod
    def of(cls, numbers: np.ndarray, stamps: np.ndarray | None, width: int) -> Variants:
        """Make them.

        Args:
            numbers: (l,) item numbers, oldest first.
            stamps: (l,) seconds; None without.
            width: L, at least l.
        """
        length = len(numbers)
        times = np.zeros(length, dtype=np.int64) if stamps is None else stamps
        made = [(numbers, times)]
        if length > 1:
            made += [(np.delete(numbers, at), np.delete(times, at)) for at in range(length)]
        gaps = 0 if stamps is None else length - 1
        for at in range(1, gaps + 1):
            closed = times.copy()
            closed[at:] -= times[at] - times[at - 1]
            made.append((numbers, closed))
        if gaps:
            made.append((numbers, np.zeros_like(times)))
        padded = np.zeros((2, len(made), width), dtype=np.int64)
        for row, (items, seconds) in enumerate(made):
            padded[0, row, : len(items)], padded[1, row, : len(items)] = items, seconds
        lengths = torch.tensor([len(items) for items, _ in made])
        return cls(torch.from_numpy(padded[0]), lengths, torch.from_numpy(padded[1]), length, gaps)


@torch.no_grad()
def explain(
    scorer: Scorer,
    history: Sequence[Any],
    item: str,
    timestamps: Sequence[Any] | None = None,
    modalities: Any = None,
    neighbours: bool | None = None,
) -> Explanation:
    """What carried the score of an item; arguments as for :meth:`~.recommender.Recommender.explain`.

    Raises:
        UserError: an argument that cannot be used, an item that the shop does not have, or a history without any.
    """
    number, shop = scorer.items.known(item), scorer.items
    times = None if timestamps is None else [timestamps]
    encoded = encode([history], times, shop, scorer.max_len, scorer.has_time)
    length = int(encoded.lengths[0])
    if not length:
        why = "the shop has none of its items" if encoded.unknown[0] else "it is empty"
        raise UserError(f"history: {why}, so that there is nothing to explain by")
    names = ids_of(history)
    places = [at for at, name in enumerate(names) if shop.number(name) is not None]
    kept = places[-length:]
    stamped = scorer.has_time and encoded.stamped[0]
    stamps = encoded.stamps[0, :length].numpy() if stamped and encoded.stamps is not None else None
    made = Variants.of(encoded.numbers[0, :length].numpy(), stamps, scorer.max_len)

    sides = scorer.sides(modalities)
    users = scorer.user_vectors(made.numbers, made.lengths, made.stamps, modalities)
    counted = scorer.neighbours_of(neighbours)
    scores, shares, mean_added = _scores(sides, users, number, made, counted)
    user, own = users[0].double(), _directions(scorer, sides, modalities, slice(number, number + 1))
    typical = _means(scorer, sides, modalities)
    parts = {name: float(user @ own[name][0]) for name in typical}
    means = {name: float(user @ mean) for name, mean in typical.items()}
    if counted is not None:
        means[NEIGHBOURS] = mean_added
    added = float(shares.sum())
    rank, among = _rank(sides, users, number, made, counted, encoded.seen[1])
    drops = scores[0] - scores[1 : length + 1] if length > 1 else scores[:1]
    past = [
        PastItem(names[at], shop.text(names[at]), at, float(drop), float(share))
        for at, drop, share in zip(kept, drops, shares, strict=True)
    ]
    changes = scores[len(scores) - made.gaps - 1 :] - scores[0] if made.gaps else scores[:0]
    gaps = [
        Gap(names[kept[at]], names[kept[at + 1]], kept[at + 1], int(stamps[at + 1] - stamps[at]), float(changes[at]))
        for at in range(made.gaps)
        if stamps is not None
    ]
    notes = [NO_TIMES] if scorer.has_time and not stamped else []
    if len(places) > length:
        notes.append(f"only the newest {length} of {len(places)} items count")
    return Explanation(
        item=shop.ids[number - 1],
        title=shop.texts([number])[0],
        score=sum(parts.values()) + added,
        rank=rank,
        among=among,
        modalities=parts,
        neighbours=added,
        averages=means,
        past=tuple(sorted(past, key=lambda one: -one.drop)),
        gaps=tuple(sorted(gaps, key=lambda gap: -abs(gap.change))),
        time=float(changes[-1]) if made.gaps else None,
        unknown=encoded.unknown[0],
        notes=tuple(notes),
    )


def _scores(
    sides: Sides, users: Tensor, number: int, made: Variants, counted: Any
) -> tuple[np.ndarray, np.ndarray, float]:
    """(V,) float64 scores of the item, (l,) shares of the neighbours' part, and its mean over all items."""
    scores = (users.double() @ sides.side.fused[number].double()).cpu().numpy()
    if counted is None:
        return scores, np.zeros(made.items), 0.0
    added = counted.addition(torch.zeros_like(made.lengths), made.numbers, made.lengths)
    rows = torch.arange(len(scores))
    scores = scores + added.at(rows, torch.full_like(rows, number)).double().numpy()
    mean = float(added.value[added.row == 0].double().sum()) / (len(sides.side.fused) - 1)
    return scores, counted.shares(made.numbers[0, : made.items].numpy(), number), mean


def _directions(scorer: Scorer, sides: Sides, modalities: Any, rows: slice) -> dict[str, Tensor]:
    """(n, D) float64 of each modality, whose product with a user vector is its summand of the score."""
    items = scorer.network.items
    names = scorer.chosen(modalities)
    with items.without([name for name in scorer.modalities if name not in names]):
        weights = items.coefficients(rows)
    made = {}
    for column, name in enumerate(scorer.modalities):
        direction = F.normalize(sides.side.tables[name][rows].double(), dim=1, eps=EPS) / items.config.temperature
        made[name] = direction if weights is None else direction * weights[:, column].unsqueeze(1)
    return made


def _means(scorer: Scorer, sides: Sides, modalities: Any) -> dict[str, Tensor]:
    """For each modality that counts the (D,) mean of :func:`_directions` over all items; computed once."""
    if sides not in _MEANS:
        items, names = scorer.network.items, scorer.chosen(modalities)
        total: dict[str, Tensor] = {}
        for piece in pieces(items.rows, scorer.network.config.hidden_size):
            for name, direction in _directions(scorer, sides, modalities, piece).items():
                if piece.start == 0:
                    direction = direction[1:]
                total[name] = total.get(name, 0) + direction.sum(0)
        _MEANS[sides] = {
            name: value / (items.rows - 1) for name, value in total.items() if name in names or bool(value.any())
        }
    return _MEANS[sides]


def _rank(sides: Sides, users: Tensor, number: int, made: Variants, counted: Any, seen: Tensor) -> tuple[int, int]:
    """Place of the item among those that are not in the history, and how many they are."""
    scores = sides.network.scores(users[:1], sides.side.fused)
    if counted is not None:
        counted.addition(
            torch.zeros(1, dtype=torch.int64), made.numbers[:1].to(scores.device), made.lengths[:1]
        ).add_to(scores)
    own = scores[0, number].clone()
    scores[0, seen.to(scores.device)] = -torch.inf
    better = int((scores[0] > own).sum()) + int((scores[0, :number] == own).sum())
    among = scores.shape[1] - 1 - len({*seen.tolist()} - {number})
    return better + 1, among
