"""The item table that the sources share: an id and a text a row."""

from __future__ import annotations

from pathlib import Path

from dataset_prep.readers import read_rows
from dataset_prep.text import check_id, clean_text


def read_item_table(path: Path, columns: dict[str, str]) -> tuple[dict[str, str], int]:
    """Reads clean texts by item id.

    Args:
        path: a file that :func:`dataset_prep.readers.read_rows` can read.
        columns: names of the "item_id" and "text" columns in the file.

    Returns:
        Text by item id, empty where there is none, and the number of rows dropped because their item came before.

    Raises:
        UserError: the file or an id in it cannot be used.
    """
    texts: dict[str, str] = {}
    repeated = 0
    for place, (item, text) in read_rows(path, [columns["item_id"], columns["text"]], frozenset([columns["text"]])):
        check_id(item, columns["item_id"], place)
        if item in texts:
            repeated += 1
        else:
            texts[item] = clean_text(text)
    return texts, repeated
