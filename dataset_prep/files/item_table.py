"""The item table that the sources share: an id, a text and perhaps where its picture is, a row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
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
        kept: values of further columns, by column and item id.
        columns: names in the file by our names, "image" among them where ``images`` are from a column.
        notes: what the screen should say.
    """

    texts: dict[str, str]
    images: dict[str, str] | None
    counts: dict[str, int]
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_item_table(
    path: Path, columns: dict[str, str], keep: Sequence[str] = (), folder: Path | None = None
) -> ItemTable:
    """Reads an item table; of several rows of an item the first counts.

    A column called "image" is the one of pictures where no other is named, it says where one is, and no folder of
    pictures is given.

    Args:
        path: a file that :func:`recbole_mmm4rec.base.table_files.read_rows` can read.
        columns: names of the "item_id", "text" and, if wanted, "image" columns in the file.
        keep: further columns that are wanted.
        folder: of pictures named by item, or None.

    Raises:
        UserError: the file or an id in it cannot be used.
    """
    texts: dict[str, str] = {}
    images: dict[str, str] = {}
    kept: dict[str, dict[str, str]] = {column: {} for column in keep}
    repeated = scripts = 0
    wanted = [columns["item_id"], columns["text"], columns.get("image", "image")]
    hoped = frozenset({"image"} - {*columns.values(), *keep})
    for place, values in read_rows(path, [*wanted, *keep], frozenset([*wanted[1:], *keep]), hoped):
        item, text, image = values[:3]
        check_id(item, columns["item_id"], place)
        if item in texts:
            repeated += 1
        else:
            scripts += is_script(text)
            texts[item] = "" if is_script(text) else clean_text(text)
            images[item] = clean_text(image)
            for column, value in zip(keep, values[3:], strict=True):
                kept[column][item] = clean_text(value)
    counts = {"repeated_rows_of_the_item_table_dropped": repeated}
    if scripts:
        counts["texts_that_are_a_script_dropped"] = scripts
    notes = []
    if hoped and any(images.values()):
        if folder is None:
            columns = {**columns, "image": "image"}
        else:
            notes = [f"column 'image' of the item table is not used, for pictures are named by --images {folder}"]
    return ItemTable(texts, images if "image" in columns else None, counts, kept, columns, notes)


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
