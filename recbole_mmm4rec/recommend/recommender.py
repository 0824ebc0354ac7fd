"""Recommendations from a model folder, for raw histories of anyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.hub import fetch
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.recommend.explanation import Explanation
from recbole_mmm4rec.recommend.histories import encode, is_one
from recbole_mmm4rec.recommend.items import Items
from recbole_mmm4rec.recommend.lists import all_scores, best_lists, list_of, told_lists
from recbole_mmm4rec.recommend.results import Recommendations
from recbole_mmm4rec.recommend.scorer import Scorer
from recbole_mmm4rec.recommend.similar import likeness

if TYPE_CHECKING:
    from recbole_mmm4rec.recommend.new_items import Added

BATCH = 1024
"""Users that are scored at a time."""


class Recommender(Scorer):
    """What a shop asks a trained model: the next items for a history, similar items, scores."""

    _of_hub = False
    """Whether the folder lies in a hub's cache, where everybody on this machine takes it for what the hub has."""

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Recommender:
        """Read a model folder; nothing in it is run, and large tables stay on disk.

        Args:
            folder: what a training has written (``model_folder`` in its result).
            device: where scores are computed, cpu or cuda.

        Raises:
            UserError: there is none, or it is cut off, changed, or of a newer program.
        """
        return Folder.whole(folder, lambda content: cls(content, device))

    @classmethod
    def from_pretrained(
        cls,
        repo: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | None = None,
        device: str = "cpu",
    ) -> Recommender:
        """Read a model folder of a hub, where ``mmm4rec push`` has put it.

        Args:
            repo: ``OWNER/NAME``.
            revision: branch, tag or commit; by default the newest.
            cache_dir: where it is kept; by default in huggingface_hub's cache.
            token: of a private repository.
            device: as for :meth:`load`.

        Raises:
            UserError: it cannot be fetched, or as for :meth:`load`.
        """
        found = cls.load(fetch(repo, revision, cache_dir, token), device)
        found._of_hub = True
        return found

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
            exclude_seen: leave out the items of the history. False: lists and scores are the evaluation's of a training
                without ``enable_amp``.
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
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise UserError(f"batch_size={batch_size!r}: must be a whole number, at least 1")
        allowed, notes = self.items.allowed(only, exclude, where)
        encoded = encode(given, times, self.items, self.max_len, self.has_time)
        names = _checked_users(names, len(given))
        found = best_lists(
            self,
            encoded,
            count,
            exclude_seen=exclude_seen,
            allowed=allowed,
            modalities=modalities,
            neighbours=neighbours,
            users=names,
            size=batch_size,
        )
        lists = told_lists(self, encoded, found, count, allowed, notes)
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
        users = _checked_users(users, len(histories))
        found: np.ndarray = all_scores(self, encoded, modalities, neighbours, users)[:, 1:].cpu().numpy()
        return found

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
        scores = self.likeness(number, modalities)
        scores[[0, number]] = -torch.inf
        return list_of(self, scores, count, allowed, notes)

    def likeness(self, number: int, modalities: Any = None) -> Tensor:
        """(I+1,) how much each item is like one of them, between −1 and 1."""
        return likeness(self, number, modalities)

    def search(
        self,
        text: str | None = None,
        *,
        image: Any = None,
        k: int = 10,
        history: Sequence[str] | None = None,
        timestamps: Sequence[Any] | None = None,
        only: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        vectors: Mapping[str, Any] | None = None,
    ) -> Recommendations:
        """The items that fit words, a picture, or both; with a history the ones that fit both it and them.

        A score is the cosine between the query and the item in the encoder's space; with more than one thing asked for
        a sum of standardised ones, see search.py. Items of the history are not left out.

        Args:
            text: words.
            image: a picture: a file's bytes, its Path, or a PIL image.
            k: items of the list.
            history: item ids, oldest first.
            timestamps: whole seconds, one an item of the history.
            only, exclude, where: as for :meth:`recommend`.
            vectors: modality to (F,) numbers that the shop's encoder has made of words or a picture, instead of them.

        Raises:
            UserError: nothing or an empty text is asked for, the picture cannot be read, the model has no items with
                texts or pictures, or the encoder that made their features is not here; as for :meth:`recommend`.
        """
        from recbole_mmm4rec.recommend.search import search

        count, (allowed, notes) = self._count(k), self.items.allowed(only, exclude, where)
        return search(self, text, image, count, history, timestamps, allowed, notes, vectors)

    def explain(
        self,
        history: Sequence[str],
        item: str,
        *,
        timestamps: Sequence[Any] | None = None,
        modalities: Any = None,
        neighbours: bool | None = None,
    ) -> Explanation:
        """What carried the score of an item: which past items, modality and time gaps; see explain.py for how.

        Args:
            history: item ids, oldest first.
            item: the id of any item of the shop.
            timestamps: whole seconds, one an item; None: all gaps count as 0, and none is explained.
            modalities, neighbours: as for :meth:`recommend`.

        Raises:
            UserError: an argument that cannot be used; an unknown item; a history of which the shop knows no item.
        """
        from recbole_mmm4rec.recommend.explain import explain

        return explain(self, history, item, timestamps, modalities, neighbours)

    def add_items(
        self,
        table: Any,
        *,
        images: str | Path | None = None,
        vectors: Mapping[str, Any] | None = None,
        encoders: Mapping[str, str] | None = None,
        output: str | Path | None = None,
        write: bool = True,
        show_progress: bool = False,
    ) -> Added:
        """Make new items recommendable, without training.

        Args:
            table: a file (CSV, TSV, JSON lines, Parquet), a list of mappings, a data frame, or an Arrow table with
                ``item_id`` and ``text``, ``image`` or vectors, see :func:`~.item_rows.read_items`.
            images: folder of their pictures.
            vectors: modality to (J, F) numbers, or a ``.npy`` file, that the shop's encoder has made.
            encoders: modality to where the encoder is, if it is not found under its name.
            output: another folder to write to, which this object then is; None: the model's own, unless it came from a
                hub, whose cache holds what the hub has.
            write: False: they are there in memory, for this object alone. A shallow copy of it is not changed.
            show_progress: a bar for many items.

        Returns:
            :class:`~.new_items.Added`: ids, folder, seconds, notes.

        Raises:
            UserError: a row, picture, vector or encoder that cannot be used, an id that the shop has; nothing is
                written.
        """
        from recbole_mmm4rec.recommend.new_items import add_in_memory, add_to_folder

        how: dict[str, Any] = {"images": images, "vectors": vectors, "encoders": encoders}
        if not write:
            made, added = add_in_memory(self, table, show_progress=show_progress, **how)
            self.network = made.network.to(self.device)
            self._mapped = False  # all rows are in memory of their own now, and none can be given back
            self.items, self.counts, self.side, self._sides = (
                Items(made.items, made.pictures),
                made.counts,
                made.side,
                {},
            )
            return added
        if len(self.items) != self.content.items.num_rows:
            raise UserError(f"{self.folder}: items were added in memory alone before; save(FOLDER) and load that first")
        if self._of_hub and output is None:
            raise UserError(
                f"{self.folder} is the hub's model on this machine; give output, another folder for the new one"
            )
        added = add_to_folder(self, table, output, show_progress=show_progress, **how)
        assert added.folder is not None
        kept = self.encoders
        self.__init__(Folder(added.folder), self.device)  # type: ignore[misc]
        self.encoders, self._of_hub = kept, False
        return added

    def save(self, folder: str | Path) -> Path:
        """Write the model into another folder, whole or not at all, items that were added in memory among its own.

        Raises:
            UserError: it cannot be written.
        """
        contents = self.content.contents()
        if len(self.items) != contents.items.num_rows:
            items = {"items": self.items.table, "pictures": self.items.pictures}
            contents = replace(contents, network=self.network, side=self.side, counts=self.counts, **items)
        return write_folder(folder, contents)

    def _count(self, k: Any) -> int:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(self.items):
            raise UserError(f"k={k}: must be 1 to {len(self.items)}, the number of the shop's items")
        return int(k)


def _checked_users(users: Any, count: int) -> list[str | None] | None:
    """Ids of users as texts, one for each history."""
    if users is None:
        return None
    if isinstance(users, (str, bytes)) or not hasattr(users, "__len__") or len(users) != count:
        raise UserError(f"users={str(users)[:60]!r}: must be a list of {count} ids, one a history, or None in it")
    return [None if user is None else str(user) for user in users]


def _of_one(history: Any, times: Any, user: Any) -> tuple[list[Any], list[Any] | None, list[Any] | None]:
    """One history, its times and its user as lists of one."""
    listed = user is None or (hasattr(user, "__len__") and not isinstance(user, (str, bytes)))
    one_user = user if listed else [user]
    return [history], None if times is None else [times], one_user
