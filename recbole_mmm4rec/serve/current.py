"""Who answers now: started when asked, again after a loss, and changed for another model while requests go on."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.batching import Batcher, Deliver
from recbole_mmm4rec.serve.desk import Job, Result
from recbole_mmm4rec.serve.limits import FAILED

log = logging.getLogger("recbole_mmm4rec.serve")


class Answering(Protocol):
    """Somebody who answers questions: a desk, or the process of one."""

    @property
    def alive(self) -> bool:
        """Whether questions can be answered."""

    def about(self) -> dict[str, Any]:
        """What it is."""

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Answers to questions."""

    def close(self) -> None:
        """End."""


class Kept:
    """Somebody who answers, for whoever asks; started with the first question, and again after a loss.

    Args:
        start: makes somebody who answers.
        named: what the log calls it.
    """

    def __init__(self, start: Callable[[], Answering], named: str) -> None:
        self._start, self._named = start, named
        self._lock = threading.RLock()
        self._kept: Answering | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether somebody is there who can answer."""
        kept = self._kept
        return kept is not None and kept.alive

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Answers to questions; what was asked when the process was lost is asked once more of a new one."""
        with self._lock:
            for _ in range(2):
                if self._kept is None:
                    try:
                        self._keep(self._start())
                    except (UserError, OSError) as error:
                        log.error("there is no %s: %s", self._named, error)
                        return [(503, f"there is no {self._named} at present; the log says why".encode())] * len(jobs)
                assert self._kept is not None
                try:
                    return self._kept.ask(jobs)
                except (EOFError, OSError):
                    if self._closed:
                        break
                    log.error("the process of the %s is gone; it is started again", self._named)
                    self._kept.close()
                    self._kept = None
            return [(500, FAILED.encode())] * len(jobs)

    def _keep(self, started: Answering) -> None:
        self._kept = started

    def close(self) -> None:
        """End, whoever still waits for an answer."""
        self._closed = True
        if self._kept is not None:
            self._kept.close()


class Current(Kept):
    """The model that is served now; a change shows from the next batch on.

    Args:
        folder: the model folder; may be a link that is set to another folder before a change.
        start: makes somebody who answers of a folder.

    Attributes:
        about: what is served now.
        made: of which encoders its features are.
    """

    def __init__(self, folder: Path, start: Callable[[Path], Answering]) -> None:
        super().__init__(lambda: start(folder), "model")
        self.folder = folder
        self._changing: asyncio.Task[None] | None = None
        # no thread of asyncio's, for which a loop would wait at its end
        self._taking: Batcher[None, None] = Batcher(self._take, 1, 1, "loading")
        self._keep(self._start())

    def _keep(self, started: Answering) -> None:
        self._kept = started
        self.tell(started.about())

    def tell(self, about: dict[str, Any]) -> None:
        """What the model has said of itself."""
        self.about = {name: value for name, value in about.items() if name != "made"}
        self.made = about["made"]

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """As of everyone who is kept; what has been added shows in :attr:`about` with the answer."""
        with self._lock:  # no other model comes between
            found = super().ask(jobs)
            if any(name == "add" and status == 200 for (name, _), (status, _) in zip(jobs, found, strict=True)):
                ((status, about),) = super().ask([("about", None)])
                if status == 200:
                    self.tell(json.loads(about))
        return found

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

    def close(self) -> None:
        """End, and wait for no model that is being loaded."""
        self._taking.close(0)
        super().close()

    async def _change(self, told: Callable[[bool], None]) -> None:
        log.info("loading %s", self.folder)
        try:
            await self._taking.ask(None)
        except Exception as error:  # of the folder, or of a machine without room for a second process
            log.error("the model stays %s: %s", self.about["name"], error)
            told(False)
        else:
            log.info("serving %s: %s items", self.about["name"], f"{self.about['items']:,}")
            told(True)

    def _take(self, jobs: Sequence[None], deliver: Deliver) -> None:
        model = self._start()
        with self._lock:  # until the batch is answered that the old one has
            old = self._kept
            self._keep(model)
        if old is not None:
            old.close()
        deliver([0], [None])
