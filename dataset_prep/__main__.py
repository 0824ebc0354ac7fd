"""Entry point of ``python -m dataset_prep``: from its first line on, Ctrl-C and SIGTERM end it in one line."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def _end(number: int, _: object) -> NoReturn:
    os.write(2, b"interrupted; the same command goes on\n")
    os._exit(128 + number)


if __name__ == "__main__":
    # Before the work begins, and after it has ended; in between the command cleans up first.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)

    from dataset_prep.cli import main

    status = main()
    if status > 128:  # threads that are still waiting for a server are not waited for
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
