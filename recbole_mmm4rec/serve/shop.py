"""A loaded model and what answers need beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_mmm4rec.serve.titles import Titles

WARM = 10_000
"""Items, in histories, that a model is asked about before it is served."""
BATCH = 64
"""Histories of one question of those."""


class Shop:
    """A model that has answered once.

    Args:
        recommender: the model.

    Attributes:
        recommender: the model.
        name: of the model folder, without its path.
        titles: search in ids and texts.
        made: of which encoders the features of each modality are.

    Raises:
        UserError: a file of the folder that is only read with the first question was changed or cut off.
    """

    def __init__(self, recommender: Any) -> None:
        self.recommender = recommender
        self.name = Path(recommender.folder).resolve().name
        made = recommender.encoders.made
        self.made = {name: made.get(name) for name in recommender.modalities}
        self.refresh()
        self._warm()

    def refresh(self) -> None:
        """Take in the items that the model has now."""
        items = self.recommender.items
        texts = [text or "" for text in items.table["text"].to_pylist()]
        self.titles = Titles(items.ids, texts, items.popularity)

    def _warm(self) -> None:
        """Ask for lists, so that whatever is read, checked or prepared with the first ones stands ready."""
        ids, size = self.recommender.items.ids, self.recommender.max_len
        histories = [ids[start : start + size] for start in range(0, min(len(ids), WARM), size)]
        for start in range(0, len(histories), BATCH):
            self.recommender.recommend(histories[start : start + BATCH], 1)
        self.recommender.recommend(histories[0], 1)

    def about(self) -> dict[str, Any]:
        """What the model is and looks at."""
        model = self.recommender
        return {
            "name": self.name,
            "items": len(model.items),
            "modalities": list(model.modalities),
            "time": model.has_time,
            "neighbours": model.has_neighbours,
            "pictures": model.items.pictured,
            "history": model.max_len,
        }
