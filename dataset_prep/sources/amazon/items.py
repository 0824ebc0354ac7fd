"""Texts and picture addresses of items, from Amazon's metadata of any year."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_prep.files.text import clean_text
from dataset_prep.sources.amazon.html_text import plain_text
from dataset_prep.sources.amazon.layouts import TEXT_FIELDS, check_metadata
from dataset_prep.sources.amazon.lines import BadLines, UnusableError, amazon_id, head, numbered_lines, parse_record

# 2023 gives a picture in three sizes; 2018 has two lists, 2014 one address.
_SIZES = ("hi_res", "large", "thumb")
_ADDRESS_KEYS = ("imageURLHighRes", "imageURL", "imUrl")
_LONGEST_ADDRESS = 2_000


@dataclass(frozen=True)
class ItemData:
    """What the metadata says of the wanted items.

    Attributes:
        texts: clean text by item id, empty for none.
        images: addresses of the first picture by item id, blank-separated, largest first; empty for none.
        repeated: rows of an item that was there before.
        dropped_addresses: picture addresses that are no http(s) address.
    """

    texts: dict[str, str]
    images: dict[str, str]
    repeated: int
    dropped_addresses: int

    def digest(self) -> str:
        """sha256 of it all; the order of lines and files does not matter."""
        digest = hashlib.sha256()
        for item in sorted(self.texts):
            digest.update(f"{item}\t{self.texts[item]}\t{self.images[item]}\n".encode())
        return digest.hexdigest()


def read_metadata(paths: Sequence[Path], fields: Sequence[str], wanted: Container[str], bad: BadLines) -> ItemData:
    """Reads the metadata of some items.

    Of several rows of an item one counts, whatever their order: one with text before one without, then one with a
    picture, then the longest text, then the last by code points.

    Args:
        paths: files of JSON lines or Python literals, plain or gzip.
        fields: keys of ``TEXT_FIELDS``, in the order of the text.
        wanted: ids of the items; other rows are left out.
        bad: takes the unusable lines.

    Raises:
        UserError: a file is missing, damaged or holds no metadata; too many lines are unusable.
    """
    for path in paths:
        check_metadata(path, head(path))
    chosen: dict[str, tuple[str, str]] = {}
    repeated = dropped = 0
    for path in paths:
        for number, line in numbered_lines(path):
            try:
                record = parse_record(line)
                item = amazon_id(record.get("parent_asin") or record.get("asin"), "item")
            except UnusableError as error:
                bad.add(path, number, str(error), line)
                continue
            if item not in wanted:
                continue
            addresses = picture_addresses(record)
            usable = [address for address in addresses if _is_address(address)]
            dropped += len(addresses) - len(usable)
            row = (item_text(record, fields), " ".join(usable))
            repeated += item in chosen
            chosen[item] = max(row, chosen.get(item, row), key=_preference)
    bad.report()
    texts = {item: text for item, (text, _) in chosen.items()}
    return ItemData(texts, {item: image for item, (_, image) in chosen.items()}, repeated, dropped)


def item_text(record: dict[str, Any], fields: Sequence[str]) -> str:
    """The text of an item: a sentence a field, ``Title. Brand. Category Category. Features. Description.``

    Args:
        record: a row of metadata.
        fields: keys of ``TEXT_FIELDS``; one that the record lacks is left out.
    """
    sentences = []
    for field in fields:
        parts = [plain_text(part) for key in TEXT_FIELDS[field] if key in record for part in _strings(record[key])]
        # Categories of several paths repeat their beginnings.
        sentence = " ".join(filter(None, dict.fromkeys(parts)))
        if sentence:
            sentences.append(sentence if sentence.endswith((".", "!", "?")) else f"{sentence}.")
    return clean_text(" ".join(sentences))


def picture_addresses(record: dict[str, Any]) -> list[str]:
    """Addresses of an item's first picture, largest first.

    Args:
        record: a row of metadata.
    """
    found: dict[str, None] = {}
    pictures = record.get("images")
    for picture in pictures if isinstance(pictures, list) else ():
        if isinstance(picture, dict):
            found.update((picture[size], None) for size in _SIZES if isinstance(picture.get(size), str))
        if found:
            break
    for key in _ADDRESS_KEYS:
        if key in record:
            found.update((address, None) for address in islice(_strings(record[key]), 1))
    return [address for address in found if address]


def _is_address(text: str) -> bool:
    readable = text.isascii() and text.isprintable() and " " not in text
    return readable and text.startswith(("http://", "https://")) and len(text) <= _LONGEST_ADDRESS


def _preference(row: tuple[str, str]) -> tuple[bool, bool, int, str, str]:
    text, image = row
    return bool(text), bool(image), len(text), text, image


def _strings(value: Any) -> Iterator[str]:
    """The strings in a value and in lists within it, in order; without recursion, however deep they lie."""
    if isinstance(value, str):
        yield value
        return
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            waiting.extend(reversed(value))
