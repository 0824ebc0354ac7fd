"""The model that is served now, and the change to another one while requests go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.titles import Titles

log = logging.getLogger("recbole_mmm4rec.serve")


class Shop:
    """A loaded model with what the service needs beside it.

    Args:
        recommender: the model.

    Attributes:
        name: of the model folder, without its path.
        titles: search in ids and texts.
    """

    def __init__(self, recommender: Any) -> None:
        self.recommender = recommender
        self.name = Path(recommender.folder).resolve().name
        self.refresh()

    def refresh(self) -> None:
        """Take in the items that the model has now."""
        items = self.recommender.items
        texts = [text or "" for text in items.table["text"].to_pylist()]
        self.titles = Titles(items.ids, texts, items.popularity)

    def about(self) -> dict[str, Any]:
        """What the page asks first."""
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


class Current:
    """Whoever needs the model asks here, once a batch; a change shows from the next batch on.

    Args:
        folder: the model folder; may be a link that is set to another folder before a change.
        load: makes a recommender of a folder.

    Attributes:
        shop: served now.
    """

    def __init__(self, folder: Path, load: Callable[[Path], Any]) -> None:
        self.folder, self._load = folder, load
        self.shop = Shop(load(folder))
        self._changing: asyncio.Task[bool] | None = None

    @property
    def changing(self) -> bool:
        """Whether another model is being loaded; what is added meanwhile would be lost."""
        return self._changing is not None and not self._changing.done()

    def change(self, told: Callable[[bool], None] = lambda done: None) -> None:
        """Begin to load the folder again, from the event loop; a second call meanwhile does nothing.

        A folder that cannot be read is told in a line of the log, and the model stays.

        Args:
            told: whether it was done.
        """
        if not self.changing:
            self._changing = asyncio.get_running_loop().create_task(self._change(told))

    async def _change(self, told: Callable[[bool], None]) -> bool:
        log.info("loading %s", self.folder)
        try:
            self.shop = await asyncio.to_thread(lambda: Shop(self._load(self.folder)))
        except UserError as error:
            log.error("the model stays %s: %s", self.shop.name, error)
            told(False)
            return False
        except Exception:
            log.exception("the model stays %s", self.shop.name)
            told(False)
            return False
        log.info("serving %s: %s items", self.shop.name, f"{len(self.shop.recommender.items):,}")
        told(True)
        return True
