"""What ``embed`` encodes: an item's text or picture, and the digest by which a change is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset_prep.files.set_files import SetFiles
from dataset_prep.images.files import find_pictures, picture_folder, picture_stem
from dataset_prep.images.report import EMBED, FETCH, Missing, read_report, report_path, write_report
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.encoders.spec import Source
from recbole_mmm4rec.features.store import hash_inputs


@dataclass(frozen=True)
class Inputs:
    """Items and what there is to encode of each.

    Attributes:
        items: tokens in the order of the ``.item`` file.
        sources: by item, a text or a picture's file; None where there is none.
        digests: by item, sha256 of the source; empty where there is none.
        hash: over all of them, for the manifest.
        unreadable: by item, why its picture's file cannot be read.
    """

    items: list[str]
    sources: list[Source | None]
    digests: list[bytes]
    hash: str
    unreadable: dict[str, str] = field(default_factory=dict)


def read_texts(item_file: Path, column: str) -> Inputs:
    """Texts of a column.

    Raises:
        UserError: no such file or column, or no item has text.
    """
    items, texts = read_item_column(item_file, column)
    sources: list[Source | None] = [text if text.strip() else None for text in texts]
    if not any(sources):
        raise UserError(f"{item_file}: no item has text in column '{column}'; nothing to encode")
    digests = [hashlib.sha256(text.encode()).digest() if text.strip() else b"" for text in texts]
    return Inputs(items, sources, digests, hash_inputs(zip(items, texts, strict=True)))


def read_pictures(item_file: Path) -> Inputs:
    """Pictures in the folder ``images`` beside an ``.item`` file.

    Raises:
        UserError: no such file, or no item has a picture.
    """
    items, _ = read_item_column(item_file, "item_id")
    folder = picture_folder(item_file.parent)
    there = find_pictures(folder)
    files = [there.get(picture_stem(item)) for item in items]
    if not any(files):
        bring = prepare("images", item_file.parent)
        raise UserError(f"{folder}: no picture of any item; bring them with '{bring}'")
    hashes: list[str] = []
    unreadable: dict[str, str] = {}
    for row, file in enumerate(files):
        try:
            hashes.append(hash_file(file) if file else "")
        except OSError as error:
            hashes.append("")
            unreadable[items[row]], files[row] = f"cannot be read ({error.strerror})", None
    digests = [bytes.fromhex(digest) for digest in hashes]
    return Inputs(items, list(files), digests, hash_inputs(zip(items, hashes, strict=True)), unreadable)


def absent_line(files: SetFiles, items: Sequence[str]) -> str | None:
    """For the screen: how many items of the interactions have no row in the ``.item`` file; None where all have one.

    Args:
        files: of the data set.
        items: tokens of the ``.item`` file.
    """
    try:
        interacted = files.interacted()
    except UserError:
        return None  # embedding does not need them, and whoever trains is told what is wrong
    missing = len(interacted - set(items))
    if not missing:
        return None
    return (
        f"{missing:,} of {len(interacted):,} items with interactions have no row in {files.file('item')}: "
        "they are trained as items without text and picture"
    )


def report_pictures(dataset_dir: Path, inputs: Inputs, reasons: dict[str, str]) -> None:
    """Brings the report up to date: every item without a usable picture is in it.

    Args:
        dataset_dir: ``OUT/NAME``.
        inputs: the pictures.
        reasons: by item, why its picture cannot be used.
    """
    path = report_path(dataset_dir)
    old = read_report(path)
    entries = []
    for item, source in zip(inputs.items, inputs.sources, strict=True):
        if item in reasons:
            entries.append(Missing(item, EMBED, reasons[item]))
        elif source is None:
            known = old.get(item)
            fetched = known is not None and known.stage == FETCH
            entries.append(known if known and fetched else Missing(item, FETCH, "no picture", try_again=True))
    write_report(path, entries)
