"""The model that is served now, the change to another one while requests go on, and a new start after a loss."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.desk import Job, Result
from recbole_mmm4rec.serve.limits import FAILED

log = logging.getLogger("recbole_mmm4rec.serve")


class Model(Protocol):
    """Somebody who answers questions: a desk, or the process of one."""

    def about(self) -> dict[str, Any]:
        """What the model is and looks at."""

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Answers to questions."""

    def close(self) -> None:
        """End."""


class Current:
    """Whoever needs the model asks here, once a batch; a change shows from the next batch on.

    Args:
        folder: the model folder; may be a link that is set to another folder before a change.
        start: makes somebody who answers of a folder.

    Attributes:
        about: what is served now.
    """

    def __init__(self, folder: Path, start: Callable[[Path], Model]) -> None:
        self.folder, self._start = folder, start
        self._lock = threading.Lock()
        self._model: Model | None = start(folder)
        self.about = self._model.about()
        self._changing: asyncio.Task[None] | None = None

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Answers to questions; after the loss of the model's process it is started again."""
        with self._lock:
            if self._model is None:
                try:
                    self._serve(self._start(self.folder))
                except UserError as error:
                    log.error("there is no model: %s", error)
                    return [(503, b"there is no model at present; the log says why")] * len(jobs)
            assert self._model is not None
            try:
                return self._model.ask(jobs)
            except (EOFError, OSError):
                log.error("the model's process is gone; the next question starts it again")
                self._model.close()
                self._model = None
                return [(500, FAILED.encode())] * len(jobs)

    def _serve(self, model: Model) -> None:
        self._model, self.about = model, model.about()

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

    async def _change(self, told: Callable[[bool], None]) -> None:
        log.info("loading %s", self.folder)
        try:
            await asyncio.to_thread(self._take)
        except UserError as error:
            log.error("the model stays %s: %s", self.about["name"], error)
            told(False)
        else:
            log.info("serving %s: %s items", self.about["name"], f"{self.about['items']:,}")
            told(True)

    def _take(self) -> None:
        model = self._start(self.folder)
        with self._lock:  # until the batch is answered that the old one has
            old = self._model
            self._serve(model)
        if old is not None:
            old.close()

    def close(self) -> None:
        """End."""
        with self._lock:
            if self._model is not None:
                self._model.close()
