"""The item table that the sources share: an id, a text and perhaps where its picture is, a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.files.readers import read_rows
from dataset_prep.files.text import check_id, clean_text
from recbole_mmm4rec.base.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


@dataclass(frozen=True)
class ItemTable:
    """What an item table says.

    Attributes:
        texts: clean text by item id, empty where there is none.
        images: addresses or path of the picture by item id, empty where there is none; None without such a column.
        repeated: rows dropped because their item came before.
    """

    texts: dict[str, str]
    images: dict[str, str] | None
    repeated: int


def read_item_table(path: Path, columns: dict[str, str]) -> ItemTable:
    """Reads an item table; of several rows of an item the first counts.

    Args:
        path: a file that :func:`dataset_prep.files.readers.read_rows` can read.
        columns: names of the "item_id", "text" and, if wanted, "image" columns in the file.

    Raises:
        UserError: the file or an id in it cannot be used.
    """
    texts: dict[str, str] = {}
    images: dict[str, str] = {}
    repeated = 0
    wanted = [columns[name] for name in ("item_id", "text", "image") if name in columns]
    for place, (item, text, *image) in read_rows(path, wanted, frozenset(wanted[1:])):
        check_id(item, columns["item_id"], place)
        if item in texts:
            repeated += 1
        else:
            texts[item] = clean_text(text)
            images.update((item, clean_text(value)) for value in image)
    return ItemTable(texts, images if "image" in columns else None, repeated)


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
