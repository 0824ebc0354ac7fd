"""What all commands share: one parser, one style of help, mistakes told in one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from recbole_mmm4rec.base import log_lines
from recbole_mmm4rec.base.command_names import typed
from recbole_mmm4rec.base.errors import LostProcessError, UserError, one_line
from recbole_mmm4rec.base.files import no_room
from recbole_mmm4rec.base.json_lines import is_text

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
        self.exit(2, f"error: {one_line(message)} (see {self.prog} --help)\n")


def ended(
    run: Callable[[], int],
    interrupted: Callable[[], str] = lambda: "the same command goes on where it was",
    terminable: bool = False,
    kill_safe: bool = False,
    prog: str = "",
) -> int:
    """The exit status of a command: each mistake and interruption is told in one line on stderr.

    Args:
        run: the command's work, which finds no arguments in ``sys.argv``: RecBole would read them once more, and
            differently.
        interrupted: makes the words for what goes on after an interruption.
        terminable: whether SIGTERM ends the command as Ctrl-C does, so that everything is written before.
        kill_safe: whether the command may end anywhere. In the middle of an import it then does so at once: what
            imports would take the interruption for a package that is missing, or go on without it.
        prog: what the user has typed for the command; hints name other commands likewise.

    Returns:
        What ``run`` returns; 2 after a user's mistake, and where a disk is full or the system refuses a file; 1 after
        the loss of one of several processes, 130 when interrupted, 143 when ended by SIGTERM.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    stop = _Stop(interrupted, kill_safe)
    try:
        with typed(prog), stop.listening(terminable):
            return run()
    except BaseException as error:
        # Whatever became of the interruption on its way through other people's code, it was one.
        if stop.number or isinstance(error, KeyboardInterrupt):
            print(stop.words(), file=sys.stderr)
            return INTERRUPTED if not stop.number else 128 + stop.number
        if isinstance(error, UserError):
            if os.environ.get("LOCAL_RANK", "0") == "0":  # all of torchrun's processes make the same mistake
                print(f"error: {error}", file=sys.stderr)
            return 2
        if isinstance(error, LostProcessError):
            print(f"error: {error}", file=sys.stderr)
            return 1
        if reason := no_room(error):  # a full disk; what is written whole or not at all has said it itself
            print(f"error: {one_line(_at(error) + reason)}; make room, then the same command again", file=sys.stderr)
            return 2
        if isinstance(error, OSError) and error.filename is not None:  # no right to read it, a name too long for a file
            print(f"error: {one_line(f'{_at(error)}{error.strerror}')}", file=sys.stderr)
            return 2
        raise
    finally:
        sys.argv = arguments


def _at(error: BaseException) -> str:
    """The file that an error names, with a colon; empty where it names none."""
    name = error.filename if isinstance(error, OSError) else None
    return "" if name is None else f"{os.fsdecode(name) if isinstance(name, bytes) else name}: "


def command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], argv: Sequence[str] | None, **how: Any
) -> int:
    """Read a command's arguments and do its work: all that the ``main`` of most commands does.

    Args:
        parser: of the arguments.
        run: the work, given the arguments.
        argv: arguments without the program's name; None: ``sys.argv``'s.
        how: ``interrupted``, ``terminable`` and ``kill_safe`` of :func:`ended`.

    Returns:
        The exit status, see :func:`ended`.
    """
    arguments = parser.parse_args(argv)
    return ended(lambda: run(arguments), prog=parser.prog, **how)


class _Stop:
    """Ctrl-C or SIGTERM, from their arrival to the end of the command.

    Args:
        interrupted, kill_safe: as for :func:`ended`.

    Attributes:
        number: of the signal that came, or 0.
    """

    def __init__(self, interrupted: Callable[[], str], kill_safe: bool) -> None:
        self.number = 0
        self._listens = self._waited = False
        self._interrupted, self._kill_safe = interrupted, kill_safe

    def words(self) -> str:
        """What the user is told."""
        return f"interrupted; {self._interrupted()}"

    @contextmanager
    def listening(self, terminable: bool) -> Iterator[None]:
        """Within it the signals are ours; a process that had them ignored goes on ignoring them."""
        if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM) if terminable else (signal.SIGINT,)
        before = {number: signal.getsignal(number) for number in numbers}
        ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in ours:
            signal.signal(number, self._came)
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for number, handler in ours.items():
                signal.signal(number, handler)

    def _came(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        sys.unraisablehook = self._lost
        if log_lines.is_written(frame) and not self._waited:
            self._waited = True  # once: a reader who takes no more lines holds nobody up
            log_lines.once_more(number, lambda: self._listens)
            return
        while self._kill_safe and frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, f"{self.words()}\n".encode())
                os._exit(128 + number)
            frame = frame.f_back
        raise KeyboardInterrupt

    def _lost(self, what: Any) -> None:
        """What is torn down by an interruption says nothing; where a tear-down swallowed it, it comes once more."""
        if what.exc_type is KeyboardInterrupt:
            log_lines.once_more(self.number, lambda: self._listens)


def typed_text(given: str) -> str:
    """Ids or words, as the type of an argument: bytes that are no UTF-8 are none."""
    if not is_text(given):
        raise argparse.ArgumentTypeError(f"{given[:60]!r} is no text in UTF-8")
    return given


def whole(text: str) -> int:
    """A whole number, at least 1, as the type of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, at least 1")
    return int(text)
