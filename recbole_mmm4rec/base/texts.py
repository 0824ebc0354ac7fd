"""Cleaning of item texts and checks of ids, so that RecBole reads back what was written."""

from __future__ import annotations

import re
import unicodedata

from recbole_mmm4rec.base.errors import UserError

MAX_CHARS = 100_000  # RecBole's CSV reader refuses fields of 131,072 characters; no encoder reads that far
# pandas, and so RecBole, reads these as "no value": such a user or item would become the padding.
READ_AS_MISSING = frozenset(
    (
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)
_LONGEST_NAME = 200  # files add their endings
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# How a program begins that a crawler took for a title: `var aPageStart = (new Date()).getTime();`.
_SCRIPT = re.compile(
    r"\s*((var|let|const)\s+[A-Za-z_$][\w$]*\s*=|(window|document)\.[A-Za-z_$]|function\s*[\w$]*\s*\(|\(\s*function\s*\(|"
    r"if\s*\(\s*(window|document|typeof)\b)[^\0]*[;({]"
)


def clean_text(text: str) -> str:
    """One line of text without control characters and with single blanks; empty when nothing is left.

    A leading straight quotation mark becomes a curly one: RecBole's CSV reader would take the first for the beginning
    of a quoted field and swallow the lines that follow.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if char.isspace() else char for char in text)
        text = "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cs"))
    text = " ".join(text[:MAX_CHARS].split())
    return "\u201c" + text[1:] if text.startswith('"') else text


def is_script(text: str) -> bool:
    """Whether a text is a piece of JavaScript, as the titles of pages that a crawler could not read."""
    return _SCRIPT.match(text) is not None


def check_id(value: str, column: str, place: str) -> str:
    """Returns ``value`` unchanged if RecBole can hold it as an id.

    Args:
        value: a user or item id.
        column: its column, for the message.
        place: file and line, for the message.

    Raises:
        UserError: the id is empty, holds a blank, TAB, line break or control character, begins with a quotation mark,
            or is a word that RecBole reads as a missing value.
    """
    if value.isascii() and value.isalnum() and value not in READ_AS_MISSING:
        return value
    if not value:
        raise UserError(f"{place}: {column} is empty; fill it in or leave the line out")
    for char in value:
        if char.isspace() or unicodedata.category(char) in ("Cc", "Cs"):
            raise UserError(
                f"{place}: {column} {value!r} holds {_char_name(char)}; ids are written blank-separated, rename it"
            )
    if value[0] == '"' or value in READ_AS_MISSING:
        why = "begins with a quotation mark" if value[0] == '"' else "is a word that RecBole reads as a missing value"
        raise UserError(f"{place}: {column} {value!r} {why}; rename it")
    return value


def check_set_name(name: str) -> str:
    """Returns a data set's name unchanged if it can name a folder and files everywhere.

    Raises:
        UserError: it has other characters than letters, digits, dot, dash and underscore, begins with none of the
            first two, or is longer than 200 characters.
    """
    if len(name) > _LONGEST_NAME:
        raise UserError(f"--name '{name[:40]}…': {len(name):,} characters; no file can have a longer name than 255")
    if not _NAME.fullmatch(name):
        raise UserError(f"--name '{name}': use letters, digits, '.', '-' and '_', beginning with a letter or digit")
    return name


def _char_name(char: str) -> str:
    return {" ": "a blank", "\t": "a TAB", "\n": "a line break", "\r": "a line break", "\0": "a NUL"}.get(
        char, f"the character U+{ord(char):04X}"
    )


def short(text: str, width: int = 70) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
