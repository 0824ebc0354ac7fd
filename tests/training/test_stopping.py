"""Signals that come in the middle of a line of the log: the line is written first, then what goes on, then the end."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest

from recbole_mmm4rec.training.stopping import Stopping


@pytest.mark.parametrize("stuck", [False, True], ids=["written", "stuck"])
def test_a_line_of_a_log_is_written_first(stuck: bool) -> None:
    seen: list[str] = []

    class Pieces(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append("begins")
            os.kill(os.getpid(), signal.SIGINT)
            if stuck:  # a reader who takes no more lines holds nobody up
                time.sleep(60)
            seen.append("ends")

    logger = logging.Logger("pieces")
    logger.addHandler(Pieces())
    stopping = Stopping(lambda: seen.append("checkpoint"))

    def fit() -> None:
        with stopping.listening():
            logger.info("epoch 1 training [time: 1 s]")
            seen.append("goes on")
            time.sleep(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["begins", *([] if stuck else ["ends", "goes on"]), "checkpoint"]
