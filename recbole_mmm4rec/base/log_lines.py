"""A line of a log is written to its end before a signal ends the program: RecBole's comes in pieces, one a colour."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from types import FrameType


def is_written(frame: FrameType | None) -> bool:
    """Whether a signal has struck in the middle of a line.

    Args:
        frame: as a signal's handler gets it.
    """
    while frame is not None:
        if frame.f_code is logging.Logger.handle.__code__:
            return True
        frame = frame.f_back
    return False


def once_more(number: int, wanted: Callable[[], bool] = lambda: True) -> None:
    """Let a signal come once more, a moment later.

    Args:
        number: of the signal.
        wanted: asked then: whether anybody still waits for it.
    """

    def again() -> None:
        if wanted():
            os.kill(os.getpid(), number)

    timer = threading.Timer(0.05, again)
    timer.daemon = True
    timer.start()
