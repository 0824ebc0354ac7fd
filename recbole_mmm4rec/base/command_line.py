"""What all commands share: one parser, one style of help, mistakes told in one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from recbole_mmm4rec.base.errors import LostProcessError, UserError

INTERRUPTED = 130
"""Exit status of a command that was interrupted."""


class Parser(argparse.ArgumentParser):
    """Shows help as it is written, takes no shortened options, and tells a mistake in one line, without the usage."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            **{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **given},
        )

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def ended(
    run: Callable[[], int],
    interrupted: Callable[[], str] = lambda: "the same command goes on where it was",
    terminable: bool = False,
) -> int:
    """The exit status of a command: each mistake and interruption is told in one line on stderr.

    Args:
        run: the command's work, which finds no arguments in ``sys.argv``: RecBole would read them once more, and
            differently.
        interrupted: makes the words for what goes on after an interruption.
        terminable: whether SIGTERM ends the command as Ctrl-C does, so that everything is written before.

    Returns:
        What ``run`` returns; 2 after a user's mistake, 1 after the loss of one of several processes, 130 when
        interrupted.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        with _terminated_like_ctrl_c() if terminable else nullcontext():
            return run()
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # all of torchrun's processes make the same mistake
            print(f"error: {error}", file=sys.stderr)
        return 2
    except LostProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted()}", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.argv = arguments


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def whole(text: str) -> int:
    """A whole number, at least 1, as the type of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, at least 1")
    return int(text)
