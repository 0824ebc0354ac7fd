"""Addresses of an item's picture, from Amazon's metadata in any of its shapes."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

# Largest first. 2023 has the pictures in sizes, 2018 two lists of addresses, early 2018 a list of small ones, 2014 one.
_KEYS = ("images", "imageURLHighRes", "imageURL", "imUrl", "image")
_MIXED = ("images", "image")  # hold other strings, too
_SIZES = {"hi_res": 0, "large": 2, "thumb": 3}
_WIDTH = re.compile(r"([0-9]{1,6})w")
_OF_PICTURES = re.compile(r"im(age|g|url)", re.IGNORECASE)
_LONGEST_ADDRESS = 2_000
_MOST_PICTURES = 1_000


def picture_addresses(record: dict[str, Any]) -> list[str]:
    """Addresses of an item's first picture, largest first, as they stand there.

    Args:
        record: a row of metadata.
    """
    found: dict[str, None] = {}
    for key in _KEYS:
        addresses = (_addresses(picture, any_text=key not in _MIXED) for picture in _pictures(record.get(key)))
        found.update(dict.fromkeys(next(filter(None, addresses), ())))
    return list(found)


def is_address(text: str) -> bool:
    """Whether a text is an http(s) address that can stand in a column."""
    readable = text.isascii() and text.isprintable() and " " not in text
    return readable and text.startswith(("http://", "https://")) and len(text) <= _LONGEST_ADDRESS


def unread_pictures(record: dict[str, Any]) -> str | None:
    """What a row without addresses says of pictures, cut short; None where it says nothing.

    Args:
        record: a row of metadata.
    """
    for key, value in record.items():
        if _OF_PICTURES.match(str(key)) and next(_texts(value), None) is not None:
            return f"{key!r}: {reprlib.repr(value)}"
    return None


def _pictures(value: Any) -> Iterator[Any]:
    """The pictures in a value, each a text or its sizes; of an object of lists, the first of each list, and so on."""
    if isinstance(value, dict) and any(isinstance(part, list) for part in value.values()):
        lists = {key: part for key, part in value.items() if isinstance(part, list)}
        for parts in islice(zip_longest(*lists.values()), _MOST_PICTURES):
            yield dict(zip(lists, parts, strict=True))
        return
    waiting = [value]
    while waiting:  # not by recursion, however deep the lists lie
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend(reversed(value))
        elif value:
            yield value


def _addresses(picture: Any, any_text: bool) -> list[str]:
    if isinstance(picture, str):
        return [picture] if any_text or "://" in picture else []
    if not isinstance(picture, dict):
        return []
    sizes: list[tuple[tuple[int, int], str]] = []
    for key, value in picture.items():
        width = _WIDTH.fullmatch(str(key))
        if not isinstance(value, str) or not value:
            continue
        if width:
            sizes.append(((1, -int(width[1])), value))
        elif key in _SIZES or "://" in value:
            sizes.append(((_SIZES.get(key, 4), 0), value))
    return [value for _, value in sorted(sizes, key=lambda size: size[0])]


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value that may tell where a picture is."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and value.strip():
            yield value
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(part for key, part in value.items() if key != "variant")
