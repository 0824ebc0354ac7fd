"""A table of new items: read from a file or from Python, each row checked, with its place for messages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.arrays import read_array
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.files import names_a_file
from recbole_mmm4rec.base.table_files import as_text, columns_of, is_nothing, read_rows
from recbole_mmm4rec.base.texts import check_id, clean_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
"""Names of the kinds of pictures that are read (:data:`~recbole_mmm4rec.encoders.pictures.FORMATS`), dearest first."""
_VECTORS = {f"{name}_vector": name for name in ("text", "image")}


@dataclass
class NewItem:
    """A row.

    Attributes:
        place: file and line, or the row's number, for messages.
        id: the item's.
        text: cleaned, empty where there is none.
        picture: a file, or its bytes; None where there is none.
        vectors: by modality (F,) float32, made elsewhere by the shop's encoder.
        columns: all other columns.
    """

    place: str
    id: str
    text: str = ""
    picture: Path | bytes | None = None
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)


def read_items(table: Any, images: str | Path | None = None, vectors: Mapping[str, Any] | None = None) -> list[NewItem]:
    """The rows of a table of items.

    Args:
        table: a file (CSV, TSV, JSON lines, Parquet), a list of mappings, a data frame, or an Arrow table. ``item_id``
            is needed; ``text``, ``image`` (a name below ``images``; from Python also a Path or bytes), ``text_vector``
            and ``image_vector`` (from Python, a list of numbers) and the shop's other columns may be there.
        images: folder of pictures; without a column ``image`` an item's is ``ITEM.jpg``, ``.png``, ….
        vectors: modality to (J, F) numbers, or a ``.npy`` file of them, in the order of the rows.

    Raises:
        UserError: the table or a row cannot be read; names it.
    """
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise UserError(f"images {folder}: no such folder")
    files = {} if folder is None else _by_stem(folder)
    made: list[NewItem] = []
    seen: dict[str, str] = {}
    for place, row in _rows(table):
        one = _item(place, dict(row), folder, files)
        if one.id in seen:
            raise UserError(f"{place}: item {one.id!r} is there twice, first in {seen[one.id]}; keep one")
        seen[one.id] = place
        made.append(one)
    if folder is not None and made and all(one.picture is None for one in made):
        raise UserError(f"images {folder}: no picture of any item is in it; a file is named by the item's id")
    for modality, given in (vectors or {}).items():
        for one, vector in zip(made, _array(modality, given, len(made)), strict=True):
            one.vectors.setdefault(modality, vector)
    return made


def _rows(table: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(table, (str, Path)):
        names = columns_of(table)
        if "item_id" not in names:
            raise UserError(
                f"{table}: no column 'item_id' among {', '.join(names) or 'none'}{did_you_mean('item_id', names)}"
            )
        for place, values in read_rows(table, names, frozenset(names)):
            yield place, dict(zip(names, values, strict=True))
        return
    if hasattr(table, "to_pylist"):  # Arrow
        table = table.to_pylist()
    elif hasattr(table, "to_dict"):  # pandas
        table = table.to_dict("records")
    if isinstance(table, Mapping) or not isinstance(table, Sequence):
        raise UserError("items: must be a file, a list of rows, a data frame or an Arrow table")
    for number, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise UserError(f"items[{number}]: must be a mapping with 'item_id', not {type(row).__name__}")
        yield f"items[{number}]", row


def _item(place: str, row: dict[str, Any], folder: Path | None, files: Mapping[str, Path]) -> NewItem:
    row = {key: None if is_nothing(value) else value for key, value in row.items()}
    if row.get("item_id") is None:
        raise UserError(f"{place}: no item_id")
    given = row.pop("item_id")
    given = given.item() if isinstance(given, np.generic) else given
    name = check_id(as_text(given, "item_id", place), "item_id", place)
    text, image = row.pop("text", None), row.pop("image", None)
    if text is not None and not isinstance(text, str):
        raise UserError(f"{place}: text of item {name!r} must be words, not {type(text).__name__}")
    one = NewItem(place, name, clean_text(text) if isinstance(text, str) else "")
    if isinstance(image, (bytes, bytearray, memoryview)):
        one.picture = bytes(image)
    elif isinstance(image, Path):
        one.picture = image
    elif isinstance(image, str) and image:
        if folder is None:
            raise UserError(f"{place}: image {image!r}: give the folder that it is in (images, --images)")
        one.picture = _below(folder, image, place)
    elif image is not None and image != "":
        kind = type(image).__name__
        raise UserError(f"{place}: image of item {name!r} must be a file's name, a Path or bytes, not {kind}")
    else:
        one.picture = files.get(name)
    for column, modality in _VECTORS.items():
        given = row.pop(column, None)
        if given is not None:
            one.vectors[modality] = _vector(given, f"{place}: {column}")
    for key, value in row.items():
        one.columns[key] = (clean_text(value) or None) if isinstance(value, str) else value
    return one


def _below(folder: Path, name: str, place: str) -> Path:
    file = folder / name
    if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder)):
        raise UserError(f"{place}: image {name!r} is outside of {folder}; give a file's name below it")
    if not names_a_file(file):
        raise UserError(f"{place}: image {name!r}: there is no such file in {folder}")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{place}: image {name!r} leads out of {folder}; give a file's name below it")
    return file


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures by the item's id; of several the kind named first."""
    found: dict[str, tuple[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        suffix = file.suffix.lower()
        if suffix in SUFFIXES and file.is_file():
            rank = SUFFIXES.index(suffix), file
            found[file.stem] = min(rank, found.get(file.stem, rank))
    return {stem: file for stem, (_, file) in found.items()}


def _vector(given: Any, place: str) -> np.ndarray:
    try:
        vector = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{place} must be a list of numbers") from None
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise UserError(f"{place} must be a list of finite numbers")
    return vector


def _array(modality: str, given: Any, rows: int) -> np.ndarray:
    where = f"vectors for {modality}"
    if isinstance(given, (str, Path)):
        where = f"{given}"
        try:
            given = read_array(Path(given))
        except (OSError, ValueError) as error:
            raise UserError(f"{where}: no .npy file of numbers ({error})") from None
    try:
        array = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{where}: must be numbers") from None
    if array.ndim != 2 or len(array) != rows:
        raise UserError(f"{where}: {array.shape}, not a row of numbers for each of the {rows} items")
    bad = np.flatnonzero(~np.isfinite(array).all(1))
    if len(bad):
        raise UserError(f"{where}: NaN or infinite values in row {int(bad[0])}")
    return array
