"""The exception for mistakes that a user can mend, and the one for a process that is lost."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 4_000
"""Characters of a message."""
_LINE_END = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*")


def one_line(text: str) -> str:
    """A text that quotes what somebody else has written, as one line that a terminal shows as it is.

    Line ends become blanks, control characters and halves of characters are spelt out, and what is very long is cut in
    the middle: the way out stands at the end.
    """
    if not text.isprintable():
        text = _LINE_END.sub(" ", text)
        hidden = {char for char in text if unicodedata.category(char) in ("Cc", "Cs")}
        text = text.translate({ord(char): char.encode("unicode_escape").decode() for char in hidden})
    half = LONGEST // 2 - 8
    return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"


class UserError(ValueError):
    """A mistake of the user's: names the key or file, the value and the way out.

    Commands print it as one line and exit with status 2; library callers may treat it as the ``ValueError`` it is.
    Whatever a message quotes, it is one line, see :func:`one_line`.
    """

    def __init__(self, *said: object) -> None:
        super().__init__(*(one_line(part) if isinstance(part, str) else part for part in said))


class MissingPackageError(ModuleNotFoundError, UserError):
    """A package that is needed is not installed; as an import that fails, and as a mistake of the user's."""


class LostProcessError(RuntimeError):
    """A process of several has ended before its time, and the others were stopped; commands exit with status 1."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was most likely meant to be, or None when nothing is near.

    Args:
        word: what was typed.
        known: the words that exist.
    """
    folded = {name.lower(): name for name in sorted(known)}
    hits = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.75)
    return folded[hits[0]] if hits else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a near miss, an empty string otherwise."""
    hit = nearest(word, known)
    return f"; did you mean '{hit}'?" if hit else ""
