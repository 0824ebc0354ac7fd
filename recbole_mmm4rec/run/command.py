"""What long commands have in common: arguments refused in one line, a folder for one command at a time."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from recbole_mmm4rec.base.errors import UserError

INTERRUPTED = 130
TERMINATED = 143


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as a scheduler or ``kill`` does."""


@contextmanager
def sigterm_as_interruption() -> Iterator[None]:
    """Let SIGTERM break off what is done here, as Ctrl-C does; in the main thread, and not in torchrun's processes."""
    if threading.current_thread() is not threading.main_thread() or "RANK" in os.environ:
        yield
        return

    def end(number: int, frame: Any) -> NoReturn:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ended(run: Callable[[], int]) -> int:
    """The exit status of a command: 2 after a user's mistake and 130 when interrupted, each told in one line.

    Args:
        run: the command's work, which finds no arguments in ``sys.argv``: RecBole would read them once more, and
            differently.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.argv = arguments


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def whole(text: str) -> int:
    """A whole number, at least 1, as the type of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, at least 1")
    return int(text)


def check_installed(modules: Sequence[str], extra: str) -> None:
    """Refuse to begin what could not be ended.

    Args:
        modules: that are imported later.
        extra: of this package, which brings them.

    Raises:
        UserError: one of them is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(f"{module} is not installed: pip install 'recbole-mmm4rec[{extra}]'")


@contextmanager
def alone(out: Path, what: str) -> Iterator[None]:
    """Make a folder of results, and keep two commands from working in it; a kill ends the claim.

    Args:
        out: the folder.
        what: works there, for messages.

    Raises:
        UserError: it cannot be made or written to, or another command works there.
    """
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--out {out}: no folder to write to ({error.strerror}); name another") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {out}: another {what} is running there; wait for it, or name another") from None
        yield
