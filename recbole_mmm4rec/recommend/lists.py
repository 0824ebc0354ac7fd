"""From checked histories to scores, and from scores to lists with what there is to say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend.histories import Encoded
from recbole_mmm4rec.recommend.results import Recommendations, Recommended
from recbole_mmm4rec.recommend.scorer import NO_TIMES, Scorer, batches
from recbole_mmm4rec.scoring.recommend import best_items, best_of

Best = tuple[list[float], list[int]]
"""Scores and item numbers of one list, best first."""


@torch.no_grad()
def all_scores(
    scorer: Scorer,
    encoded: Encoded,
    modalities: Any = None,
    neighbours: bool | None = None,
    users: Sequence[str | None] | None = None,
) -> Tensor:
    """The scores of all items.

    Args:
        scorer: a model folder ready to score.
        encoded: of B users, each with an item that the shop knows.
        modalities, neighbours, users: as for :meth:`~.recommender.Recommender.recommend`.

    Returns:
        (B, I+1) float32; the first column is padding's.

    Raises:
        UserError: a history of which the shop knows no item, or an argument that cannot be used.
    """
    if not bool((encoded.lengths > 0).all()):
        row = int((encoded.lengths == 0).nonzero()[0])
        raise UserError(f"history[{row}]: the shop has none of its items, so that there is nothing to score by")
    rows = list(range(len(encoded.lengths)))
    scores = scorer.network.scores(_vectors(scorer, encoded, rows, modalities), scorer.sides(modalities).side.fused)
    added = _addition(scorer, encoded, rows, neighbours, users)
    if added is not None:
        added.add_to(scores)
    return scores


@torch.no_grad()
def best_lists(
    scorer: Scorer,
    encoded: Encoded,
    count: int,
    *,
    exclude_seen: bool,
    allowed: Tensor | None,
    modalities: Any,
    neighbours: bool | None,
    users: Sequence[str | None] | None,
    size: int,
) -> dict[int, Best]:
    """At most K items of each user of whom the shop knows one.

    Args:
        scorer: a model folder ready to score.
        encoded: of B users.
        count: K.
        exclude_seen: whether a history's items are left out.
        allowed: (I+1,) bool, items to choose from; None: all.
        modalities, neighbours, users: as for :meth:`~.recommender.Recommender.recommend`.
        size: users that are scored at a time.

    Returns:
        Row of a user to the list.
    """
    sides = scorer.sides(modalities)
    allowed = None if allowed is None else allowed.to(scorer.device)
    known = (encoded.lengths > 0).nonzero().flatten().tolist()
    found: dict[int, Best] = {}
    for rows in batches(known, size):
        scores, numbers = best_items(
            _vectors(scorer, encoded, rows, modalities),
            sides.side.fused,
            count,
            history=_seen(scorer, encoded, rows) if exclude_seen else None,
            allowed=allowed,
            addition=_addition(scorer, encoded, rows, neighbours, users),
            mapped=sides.mapped,
        )
        found.update(zip(rows, _kept(scores, numbers), strict=True))
    return found


def told_lists(
    scorer: Scorer,
    encoded: Encoded,
    found: Mapping[int, Best],
    count: int,
    allowed: Tensor | None,
    notes: Sequence[str],
) -> list[Recommendations]:
    """The list of each user with what there is to say about it; the shop's popular items for whoever has none.

    Args:
        scorer, encoded, count, allowed: as for :func:`best_lists`.
        found: what it has found.
        notes: what is said of every list.
    """
    rows = range(len(encoded.lengths))
    popular = None if len(found) == len(rows) else _popular(scorer, count, allowed)
    chosen = {number for _, numbers in (*found.values(), *([popular] if popular else [])) for number in numbers}
    ids, texts = scorer.items.ids, dict(zip(chosen, scorer.items.texts(chosen), strict=True))
    made = []
    for row in rows:
        unknown, told = encoded.unknown[row], [*notes]
        best = found.get(row)
        if best is None:
            assert popular is not None
            why = "the shop has none of the history's items" if unknown else "the history is empty"
            told.append(f"{why}: these are the shop's popular items")
        elif scorer.has_time and not encoded.stamped[row]:
            told.append(NO_TIMES)
        scores, numbers = best or popular or ([], [])
        entries = zip(scores, numbers, strict=True)
        items = tuple(Recommended(ids[number - 1], score, texts[number]) for score, number in entries)
        made.append(Recommendations(items, unknown, best is None, (*told, *_few(len(scores), count))))
    return made


def list_of(
    scorer: Scorer,
    scores: Tensor,
    count: int,
    allowed: Tensor | None,
    notes: Sequence[str],
    unknown: tuple[str, ...] = (),
) -> Recommendations:
    """The best items by scores of any kind.

    Args:
        scorer: has the items.
        scores: (I+1,), −inf of what is not to be found; written to.
        count: K.
        allowed: (I+1,) bool, items to choose from; None: all.
        notes: what there is to say.
        unknown: ids of the history that the shop does not have.
    """
    if allowed is not None:
        scores[~allowed.to(scores.device)] = -torch.inf
    values, numbers = next(_kept(*best_of(scores.unsqueeze(0), count)))
    entries = zip(values, numbers, scorer.items.texts(numbers), strict=True)
    items = tuple(Recommended(scorer.items.ids[number - 1], value, text) for value, number, text in entries)
    return Recommendations(items, unknown, notes=(*notes, *_few(len(items), count)))


def _vectors(scorer: Scorer, encoded: Encoded, rows: list[int], modalities: Any) -> Tensor:
    """(n, D) of some users."""
    stamps = None if encoded.stamps is None else encoded.stamps[rows]
    return scorer.user_vectors(encoded.numbers[rows], encoded.lengths[rows], stamps, modalities)


def _addition(
    scorer: Scorer, encoded: Encoded, rows: list[int], wanted: bool | None, users: Sequence[str | None] | None
) -> Any:
    """What the neighbours add to the scores of some users; None for nothing."""
    counts = scorer.neighbours_of(wanted)
    if counts is None:
        return None
    numbers = torch.tensor([0 if users is None else scorer.content.user(users[row]) for row in rows])
    return counts.addition(numbers, encoded.numbers[rows].to(scorer.device), encoded.lengths[rows])


def _seen(scorer: Scorer, encoded: Encoded, rows: list[int]) -> tuple[Tensor, Tensor]:
    """Whole histories of some users: places in the batch and item numbers."""
    place = torch.full((len(encoded.lengths),), -1)
    place[rows] = torch.arange(len(rows))
    row = place[encoded.seen[0]]
    return row[row >= 0].to(scorer.device), encoded.seen[1][row >= 0].to(scorer.device)


def _popular(scorer: Scorer, count: int, allowed: Tensor | None) -> Best:
    """At most K items with their numbers of interactions as scores."""
    popular = torch.from_numpy(np.concatenate([[-np.inf], scorer.items.popularity.astype(np.float64)]))
    if allowed is not None:
        popular[~allowed] = -torch.inf
    return next(_kept(*best_of(popular.unsqueeze(0), count)))


def _few(left: int, count: int) -> list[str]:
    if left >= count:
        return []
    return [f"only {left} items are left to choose from" if left else "no item is left to choose from"]


def _kept(scores: Tensor, numbers: Tensor) -> Iterator[Best]:
    """The lists of a batch (B, K) without what is not to be chosen."""
    left = (scores > -torch.inf).sum(1).tolist()
    for count, values, items in zip(left, scores.tolist(), numbers.tolist(), strict=True):
        yield values[:count], items[:count]
