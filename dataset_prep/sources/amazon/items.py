"""Texts and picture addresses of items, from Amazon's metadata of any year."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_prep.sources.amazon.html_text import plain_text
from dataset_prep.sources.amazon.layouts import TEXT_FIELDS, check_metadata
from dataset_prep.sources.amazon.lines import BadLines, UnusableError, amazon_id, head, numbered_lines, parse_record
from dataset_prep.sources.amazon.pictures import is_address, picture_addresses, unread_pictures
from recbole_mmm4rec.base.texts import clean_text, is_script

_COUNTS = (
    "repeated_rows_of_the_metadata_dropped",
    "titles_that_are_a_script_dropped",
    "picture_addresses_dropped",
    "rows_with_pictures_in_a_shape_that_is_not_read",
)


@dataclass(frozen=True)
class ItemData:
    """What the metadata says of the wanted items.

    Attributes:
        texts: clean text by item id, empty for none.
        images: addresses of the first picture by item id, blank-separated, largest first; empty for none.
        counts: what was met on the way, by what it is called in a summary.
        unread: the first row that says something of pictures in a shape that is not read, or None.
    """

    texts: dict[str, str]
    images: dict[str, str]
    counts: dict[str, int]
    unread: str | None

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
    counts = dict.fromkeys(_COUNTS, 0)
    unread: str | None = None
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
            usable = [address for address in addresses if is_address(address)]
            shape = None if addresses else unread_pictures(record)
            if shape is not None and unread is None:
                unread = f"{path} line {number}: {shape}"
            row = (item_text(record, fields), " ".join(usable))
            met = (item in chosen, _is_a_script(record), len(addresses) - len(usable), shape is not None)
            counts = {what: count + more for (what, count), more in zip(counts.items(), met, strict=True)}
            chosen[item] = max(row, chosen.get(item, row), key=_preference)
    bad.report()
    texts = {item: text for item, (text, _) in chosen.items()}
    return ItemData(texts, {item: image for item, (_, image) in chosen.items()}, counts, unread)


def item_text(record: dict[str, Any], fields: Sequence[str]) -> str:
    """The text of an item: a sentence a field, ``Title. Brand. Category Category. Features. Description.``

    None where the title is a piece of script: the crawler met a page that it could not read.

    Args:
        record: a row of metadata.
        fields: keys of ``TEXT_FIELDS``; one that the record lacks is left out.
    """
    if _is_a_script(record):
        return ""
    sentences = []
    for field in fields:
        parts = [plain_text(part) for key in TEXT_FIELDS[field] if key in record for part in _strings(record[key])]
        # Categories of several paths repeat their beginnings.
        sentence = " ".join(filter(None, dict.fromkeys(parts)))
        if sentence:
            sentences.append(sentence if sentence.endswith((".", "!", "?")) else f"{sentence}.")
    return clean_text(" ".join(sentences))


def _is_a_script(record: dict[str, Any]) -> bool:
    return any(map(is_script, _strings(record.get("title"))))


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
