"""Recommendations from a model folder, for raw histories of anyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.network.ops.tables.frozen import pieces
from recbole_mmm4rec.recommend.histories import Encoded, encode, is_one
from recbole_mmm4rec.recommend.results import Recommendations, Recommended
from recbole_mmm4rec.recommend.scorer import Scorer, batches
from recbole_mmm4rec.scoring.recommend import best_items, best_of

BATCH = 1024
"""Users that are scored at a time."""
NO_TIMES = "no time stamps were given: all gaps between the items count as 0"


class Recommender(Scorer):
    """What a shop asks a trained model: the next items for a history, similar items, scores."""

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Recommender:
        """Read a model folder; nothing in it is run, and large tables stay on disk.

        Args:
            folder: what a training has written (``model_folder`` in its result).
            device: where scores are computed, cpu or cuda.

        Raises:
            UserError: there is none, or it is cut off, changed, or of a newer program.
        """
        return cls(Folder(folder), device)

    def recommend(
        self,
        histories: Sequence[Any],
        k: int = 10,
        *,
        timestamps: Sequence[Any] | None = None,
        exclude_seen: bool = True,
        only: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        modalities: Any = None,
        neighbours: bool | None = None,
        users: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
    ) -> Any:
        """The best next items.

        Args:
            histories: item ids, oldest first, or a list of such lists.
            k: items of a list.
            timestamps: whole seconds, one an item, in the same order; None of a user: all gaps count as 0.
            exclude_seen: leave out the items of the history. False: lists and scores are the training's evaluation's.
            only, exclude: ids of the items to choose from, and to leave out.
            where: column of the item table to a value or a list of values.
            modalities: text, image or both; items then count as if they had no other. None: all of the model's.
            neighbours: add what was taken together in training; None: where the model has it.
            users: ids of users of the training, whose own pairs then do not count as neighbours, as in its evaluation.
            batch_size: users that are scored at a time.

        Returns:
            :class:`~.results.Recommendations`, of a list of histories a list of them.

        Raises:
            UserError: an argument that cannot be used; names it.
        """
        one = is_one(histories)
        given, times, names = _of_one(histories, timestamps, users) if one else (histories, timestamps, users)
        count = self._count(k)
        allowed, notes = self.items.allowed(only, exclude, where)
        encoded = encode(given, times, self.items, self.max_len, self.has_time)
        found = self._best(encoded, count, exclude_seen, allowed, modalities, neighbours, names, batch_size)
        lists = [self._told(row, encoded, found.get(row), count, allowed, notes) for row in range(len(given))]
        return lists[0] if one else lists

    def scores(
        self,
        histories: Sequence[Any],
        *,
        timestamps: Sequence[Any] | None = None,
        modalities: Any = None,
        neighbours: bool | None = None,
        users: Sequence[str | None] | None = None,
    ) -> np.ndarray:
        """The scores of all items.

        Args:
            histories: a list of histories, or one.
            timestamps, modalities, neighbours, users: as for :meth:`recommend`.

        Returns:
            (B, I) float32, columns in the order of ``items.ids``.

        Raises:
            UserError: as for :meth:`recommend`, and for a history of which the shop knows no item.
        """
        if is_one(histories):
            histories, timestamps, users = _of_one(histories, timestamps, users)
        encoded = encode(histories, timestamps, self.items, self.max_len, self.has_time)
        if not bool((encoded.lengths > 0).all()):
            row = int((encoded.lengths == 0).nonzero()[0])
            raise UserError(f"history[{row}]: the shop has none of its items, so that there is nothing to score by")
        rows = list(range(len(histories)))
        sides = self.sides(modalities)
        with torch.no_grad():
            vectors = self._vectors(encoded, rows, modalities)
            scores = self.network.scores(vectors, sides.side.fused)
            added = self._addition(encoded, rows, neighbours, users)
            if added is not None:
                added.add_to(scores)
        found: np.ndarray = scores[:, 1:].cpu().numpy()
        return found

    @torch.no_grad()
    def similar(
        self,
        item: str,
        k: int = 10,
        *,
        modalities: Any = None,
        only: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Recommendations:
        """The items that are most like one.

        A score is the mean over the modalities of the cosine of the two items' vectors, weighted as in the model.

        Args:
            item: its id; it is not among the found.
            k, modalities, only, exclude, where: as for :meth:`recommend`.
        """
        number, count = self.items.known(item), self._count(k)
        allowed, notes = self.items.allowed(only, exclude, where)
        likeness = self.likeness(number, modalities)
        likeness[[0, number]] = -torch.inf
        if allowed is not None:
            likeness[~allowed.to(self.device)] = -torch.inf
        values, numbers = best_of(likeness.unsqueeze(0), count)
        return Recommendations(self._listed(values[0], numbers[0]), notes=(*notes, *self._few(values[0], allowed)))

    def likeness(self, number: int, modalities: Any = None) -> Tensor:
        """(I+1,) how much each item is like one of them, between −1 and 1."""
        names, tables = self.chosen(modalities), self.side.tables
        items = self.network.items
        withheld = [name for name in self.modalities if name not in names]
        found = torch.empty(items.rows, device=self.device)
        with items.without(withheld):
            for piece in pieces(items.rows, self.network.config.hidden_size):
                weights = items.coefficients(piece)
                total: Tensor | float = 0.0
                for name in names:
                    cosine = F.cosine_similarity(tables[name][piece].float(), tables[name][number].float(), dim=1)
                    total = total + (cosine if weights is None else cosine * weights[:, self.modalities.index(name)])
                found[piece] = total / (len(names) if weights is None else weights.sum(1))
        return found

    def save(self, folder: str | Path) -> Path:
        """Write the model into another folder, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        return write_folder(folder, self.content.contents())

    def _count(self, k: Any) -> int:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(self.items):
            raise UserError(f"k={k}: must be 1 to {len(self.items)}, the number of the shop's items")
        return int(k)

    def _vectors(self, encoded: Encoded, rows: list[int], modalities: Any) -> Tensor:
        stamps = None if encoded.stamps is None else encoded.stamps[rows]
        return self.user_vectors(encoded.numbers[rows], encoded.lengths[rows], stamps, modalities)

    def _addition(
        self, encoded: Encoded, rows: list[int], wanted: bool | None, users: Sequence[str | None] | None
    ) -> Any:
        """What the neighbours add to the scores of some users; None for nothing."""
        if wanted and self.counts is None:
            raise UserError("neighbours=True: this model has none; train it with neighbour_weight above 0")
        if self.counts is None or wanted is False:
            return None
        numbers = torch.tensor([0 if users is None else self.content.user(users[row]) for row in rows])
        histories = encoded.numbers[rows].to(self.device)
        return self.counts.addition(numbers, histories, encoded.lengths[rows])

    @torch.no_grad()
    def _best(
        self,
        encoded: Encoded,
        count: int,
        exclude_seen: bool,
        allowed: Tensor | None,
        modalities: Any,
        neighbours: bool | None,
        users: Sequence[str | None] | None,
        size: int,
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Scores and numbers (K,) of each user of whom the shop knows an item."""
        fused = self.sides(modalities).side.fused
        allowed = None if allowed is None else allowed.to(self.device)
        known = (encoded.lengths > 0).nonzero().flatten().tolist()
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for rows in batches(known, size):
            vectors = self._vectors(encoded, rows, modalities)
            added = self._addition(encoded, rows, neighbours, users)
            history = self._seen(encoded, rows) if exclude_seen else None
            values, numbers = best_items(vectors, fused, count, history=history, allowed=allowed, addition=added)
            found.update(zip(rows, zip(values.cpu(), numbers.cpu(), strict=True), strict=True))
        return found

    def _seen(self, encoded: Encoded, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Whole histories of some users: places in the batch and item numbers."""
        place = torch.full((len(encoded.lengths),), -1)
        place[rows] = torch.arange(len(rows))
        row = place[encoded.seen[0]]
        return row[row >= 0].to(self.device), encoded.seen[1][row >= 0].to(self.device)

    def _told(
        self,
        row: int,
        encoded: Encoded,
        found: tuple[Tensor, Tensor] | None,
        count: int,
        allowed: Tensor | None,
        notes: list[str],
    ) -> Recommendations:
        """The list of one user with what there is to say about it."""
        unknown = encoded.unknown[row]
        notes = [*notes]
        if found is None:
            why = "the shop has none of the history's items" if unknown else "the history is empty"
            notes.append(f"{why}: these are the shop's popular items")
            popular = torch.from_numpy(np.concatenate([[-np.inf], self.items.popularity.astype(np.float64)]))
            if allowed is not None:
                popular[~allowed] = -torch.inf
            values, numbers = (part[0] for part in best_of(popular.unsqueeze(0), count))
        else:
            values, numbers = found
            if self.has_time and not encoded.stamped[row]:
                notes.append(NO_TIMES)
        notes += self._few(values, allowed)
        return Recommendations(self._listed(values, numbers), unknown, found is None, tuple(notes))

    def _few(self, values: Tensor, allowed: Tensor | None) -> list[str]:
        left = int((values > -torch.inf).sum())
        if left == len(values):
            return []
        return [f"only {left} items are left to choose from" if left else "no item is left to choose from"]

    def _listed(self, values: Tensor, numbers: Tensor) -> tuple[Recommended, ...]:
        kept = values > -torch.inf
        chosen = numbers[kept].tolist()
        ids = self.items.ids
        return tuple(
            Recommended(ids[number - 1], score, text)
            for number, score, text in zip(chosen, values[kept].tolist(), self.items.texts(chosen), strict=True)
        )


def _of_one(history: Any, times: Any, user: Any) -> tuple[list[Any], list[Any] | None, list[Any] | None]:
    """One history, its times and its user as lists of one."""
    one_user = user if user is None or isinstance(user, list) else [user]
    return [history], None if times is None else [times], one_user
