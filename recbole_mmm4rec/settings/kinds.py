"""What a value may be: a test, and the words that say what would pass it."""

from __future__ import annotations

import codecs
import re
import reprlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from recbole_mmm4rec.base.errors import did_you_mean

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 120
_SHORTENED.maxdict = _SHORTENED.maxlist = _SHORTENED.maxtuple = 8
_SHORTENED.maxlevel = 3


def shown(value: Any) -> str:
    """A value as a message shows it, in one line: what is long or deep is cut."""
    text = " ".join(_SHORTENED.repr(value).split())
    return text if len(text) <= 300 else f"{text[:299]}…"


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes:
        accepts: whether a value is right.
        wanted: what would be, as in "it must be …".
        short: the same for tables and comments.
        choices: the words, where there are some.
        cast: the type that a right value is turned into where the program itself needs it.
    """

    accepts: Callable[[Any], bool]
    wanted: str
    short: str
    choices: tuple[str, ...] = ()
    cast: Callable[[Any], Any] | None = None

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        if self.accepts(value):
            return None
        hint = did_you_mean(value, self.choices) if isinstance(value, str) else ""
        if "mapping" in self.wanted and isinstance(value, str) and re.match(r"\s*[\w.]+:\S", value):
            hint = " (YAML needs a blank after the colon)"
        return f"it must be {self.wanted}{hint}"


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    return replace(kind, accepts=lambda value: value is None or kind.accepts(value), wanted=f"{kind.wanted}, or None")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number from ``low`` to ``high``, both included."""
    top = float("inf") if high is None else high
    words = f"a whole number, at least {low}" if high is None else f"a whole number, {low} … {high}"
    short = f"int ≥ {low}" if high is None else f"int {low} … {high}"
    return Kind(lambda value: is_whole(value) and low <= value <= top, words, short, cast=int)


def size(low: int) -> Kind:
    """A whole number that may come as 64.0: libraries that search draw sizes so."""
    strict = whole(low)
    return replace(strict, accepts=lambda value: strict.accepts(int(value) if _is_drawn(value) else value))


def _is_drawn(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def number(
    low: float | None = None, above: float | None = None, below: float | None = None, high: float | None = None
) -> Kind:
    """A finite number.

    Args:
        low, high: its ends, included.
        above, below: its ends, not included.
    """

    def accepts(value: Any) -> bool:
        return (
            is_number(value)
            and (low is None or value >= low)
            and (above is None or value > above)
            and (below is None or value < below)
            and (high is None or value <= high)
        )

    upper = f"below {below:g}" if below is not None else f"{high:g}" if high is not None else ""
    words = "a number"
    if low is not None:
        words += f" from {low:g} to {upper}" if upper else f", at least {low:g}"
    elif above is not None:
        words += f" above {above:g}" + (f", at most {high:g}" if high is not None else "")
    left = f" ≥ {low:g}" if low is not None else f" > {above:g}" if above is not None else ""
    right = f" < {below:g}" if below is not None else f" ≤ {high:g}" if high is not None else ""
    return Kind(accepts, words, f"float{left}{',' if left and right else ''}{right}", cast=float)


def switch() -> Kind:
    """True or False."""
    return Kind(lambda value: isinstance(value, bool), "True or False", "bool", cast=bool)


def word(*choices: str, flag: bool = False, any_case: bool = False) -> Kind:
    """One of some words.

    Args:
        choices: the words.
        flag: True and False are taken as well.
        any_case: capitals do not matter.
    """
    named = (*choices, *(("True", "False") if flag else ()))

    def accepts(value: Any) -> bool:
        if isinstance(value, bool):
            return flag
        return isinstance(value, str) and (value.lower() if any_case else value) in choices

    words = f"one of {', '.join(named)}" if len(named) > 2 else " or ".join(named)
    return Kind(accepts, words, ", ".join(named), choices, cast=str)


def text(example: str) -> Kind:
    """A text that is not empty."""
    return Kind(lambda value: isinstance(value, str) and value != "", f"a text such as {example}", "text", cast=str)


def names(example: str, count: int | None = None) -> Kind:
    """A list of names, of ``count`` where that is given."""

    def accepts(value: Any) -> bool:
        return is_names(value) and count in (None, len(value))

    many = "" if count is None else f"{count} "
    return Kind(accepts, f"a list of {many}names such as {example}", f"list of {many}names")


def is_names(value: Any) -> bool:
    """Whether a value is a list of texts that are not empty."""
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value)


def typed_names(example: str) -> Kind:
    """A list of names, or the text of one as it comes from a command line: ``[ssd, cross]``, ``ssd``."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, str):
            return is_names(value)
        inside = value.strip()
        inside = inside[1:-1] if inside[:1] == "[" and inside[-1:] == "]" else inside
        return inside.strip() != "" and not set("[]") & set(inside)

    return Kind(accepts, f"a list of names such as {example}", "name or list of names")


def mapping(is_value: Callable[[Any], bool], example: str, keys: Collection[str] | None = None, least: int = 0) -> Kind:
    """A mapping from names.

    Args:
        is_value: whether one of its values is right.
        example: a right one.
        keys: the names that it may have; any by default.
        least: how many it has at least.
    """

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and len(value) >= least
            and all(isinstance(key, str) and key and (keys is None or key in keys) for key in value)
            and all(is_value(part) for part in value.values())
        )

    return Kind(accepts, f"a mapping such as {example}", "mapping")


def is_intervals(value: Any) -> bool:
    """Whether RecBole can read intervals such as ``[5,inf)`` or ``[0,2];(7,9]``, and uses them.

    Two numbers are intervals, too: a command line reads ``[5,10]`` as a list and ``(5,10)`` as a tuple.
    """
    if not isinstance(value, (str, list, tuple)):
        return False
    for part in str(value).split(";"):
        ends = re.fullmatch(r"[\[(]([^,]+),([^,]+)[\])]", part.strip())
        try:
            low, high = (float(end) for end in ends.groups()) if ends else (1.0, 0.0)
        except ValueError:
            return False
        if not low <= high:
            return False
    return True


def intervals() -> Kind:
    """RecBole's intervals, see :func:`is_intervals`."""
    return Kind(is_intervals, "an interval such as [5,inf), or several such as [0,2];[7,9)", "interval")


def encoding() -> Kind:
    """The name of an encoding of text files."""

    def accepts(value: Any) -> bool:
        try:
            return isinstance(value, str) and bool(codecs.lookup(value))
        except LookupError:
            return False

    return Kind(accepts, "an encoding that Python knows, such as utf-8 or latin-1", "encoding")


def of(accepts: Callable[[Any], bool], wanted: str, short: str) -> Kind:
    """Any other kind."""
    return Kind(accepts, wanted, short)
