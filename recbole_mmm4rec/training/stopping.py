"""Ctrl-C and SIGTERM in a training: put off until what goes on can be written."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from recbole_mmm4rec.base import log_lines
from recbole_mmm4rec.distributed import group

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Hears the signals of a training before those who were to hear them, and tells them when it has written.

    Of several processes each one only notes a signal: they write together, when all have made the same step.

    Attributes:
        asked: the signal that came and was put off; 0 where none.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        """Hear nothing yet.

        Args:
            write: is called before a signal is told, with no step under way.
        """
        self.asked = 0
        self._waited = False
        self._write = write
        self._depth = 0
        self._before: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals; only in the main thread, which alone may, and none that are ignored."""
        self.asked, self._depth, self._waited = 0, 0, False
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {number: one for number, one in found.items() if one not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._came)
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Within it a signal waits; a second Ctrl-C does not."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self.asked and not self._depth and not group.active():
            self._depth += 1  # a second signal does not write into what is being written
            self._write()
            self.tell()

    def tell(self, number: int = 0) -> None:
        """End the training by the signal that came, or by another, as whoever listened before does it."""
        number = number or self.asked
        handler = self._before.get(number, signal.SIG_DFL)
        self._give_back()
        if callable(handler):
            handler(number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if log_lines.is_written(frame) and not self._waited:
            self._waited = True
            log_lines.once_more(number)
            return
        again = self.asked == number == signal.SIGINT
        self.asked = number
        if again:
            self.tell()
        elif not self._depth:
            with self.put_off():
                pass
