"""The item table that the sources share: an id, a text and perhaps where its picture is, a row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import read_rows
from recbole_mmm4rec.base.texts import check_id, clean_text, is_script

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
# How ids of one shop come to differ in two files.
_WRITTEN: dict[str, Callable[[str], str]] = {
    "'.0' at the end": lambda item: item.removesuffix(".0"),
    "zeros at the beginning": lambda item: item.lstrip("0"),
    "capitals": str.casefold,
}


@dataclass(frozen=True)
class ItemTable:
    """What an item table says.

    Attributes:
        texts: clean text by item id, empty where there is none.
        images: addresses or path of the picture by item id, empty where there is none; None without such a column.
        counts: what was left out, by what it is called in a summary.
    """

    texts: dict[str, str]
    images: dict[str, str] | None
    counts: dict[str, int]


def read_item_table(path: Path, columns: dict[str, str]) -> ItemTable:
    """Reads an item table; of several rows of an item the first counts.

    Args:
        path: a file that :func:`recbole_mmm4rec.base.table_files.read_rows` can read.
        columns: names of the "item_id", "text" and, if wanted, "image" columns in the file.

    Raises:
        UserError: the file or an id in it cannot be used.
    """
    texts: dict[str, str] = {}
    images: dict[str, str] = {}
    repeated = scripts = 0
    wanted = [columns[name] for name in ("item_id", "text", "image") if name in columns]
    for place, (item, text, *image) in read_rows(path, wanted, frozenset(wanted[1:])):
        check_id(item, columns["item_id"], place)
        if item in texts:
            repeated += 1
        else:
            scripts += is_script(text)
            texts[item] = "" if is_script(text) else clean_text(text)
            images.update((item, clean_text(value)) for value in image)
    counts = {"repeated_rows_of_the_item_table_dropped": repeated}
    if scripts:
        counts["texts_that_are_a_script_dropped"] = scripts
    return ItemTable(texts, images if "image" in columns else None, counts)


def check_match(interacted: Sequence[str], listed: Collection[str], where: str) -> list[str]:
    """Makes sure that interactions and items speak of the same things.

    Args:
        interacted: ids of the items with interactions.
        listed: ids of the item table.
        where: that table, for the message.

    Returns:
        For the screen: how many match, unless all do.

    Raises:
        UserError: there are interactions, and none of their items is in the table.
    """
    found = sum(item in listed for item in interacted)
    if found == len(interacted):
        return []
    if found:
        return [f"{found:,} of {len(interacted):,} items with interactions are in the item table"]
    example = f"'{interacted[0]}'" + (f", there '{next(iter(listed))}'" if listed else "")
    for what, change in _WRITTEN.items():
        if not set(map(change, interacted)).isdisjoint(map(change, listed)):
            example += f"; without {what} they match"
            break
    raise UserError(
        f"{where}: has none of the {len(interacted):,} items of the interactions (here {example}); "
        "write the ids alike, or give the table that belongs to these interactions"
    )


def find_images(folder: Path, items: Iterable[str]) -> dict[str, str]:
    """Names of the picture files of items, which are named by item id.

    Args:
        folder: where the pictures lie; its subfolders are not searched.
        items: ids.

    Returns:
        File name by item id. Of several pictures of an item the kind named first in ``IMAGE_SUFFIXES`` counts.

    Raises:
        UserError: no such folder, or none of the items has a picture in it.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder")
    best: dict[str, tuple[int, str]] = {}
    for file in folder.iterdir():
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES and file.is_file():
            rank = (IMAGE_SUFFIXES.index(suffix), file.name)
            best[file.stem] = min(rank, best.get(file.stem, rank))
    found = {item: best[item][1] for item in items if item in best}
    if not found:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise UserError(f"--images {folder}: no picture of any item; files are named ITEM and one of {kinds}")
    return found
