"""The exception for mistakes that a user can mend, and the one for a process that is lost."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's: names the key or file, the value and the way out.

    Commands print it as one line and exit with status 2; library callers may treat it as the ``ValueError`` it is.
    """


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
