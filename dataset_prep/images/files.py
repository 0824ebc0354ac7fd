"""Pictures of a data set on disk: one file an item, named by its token's sha256."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_mmm4rec.encoders.picture_files import find_pictures, picture_folder, picture_stem
from recbole_mmm4rec.encoders.pictures import FORMATS

__all__ = ["find_pictures", "picture_folder", "picture_stem", "remove_leftovers", "save_picture"]


def save_picture(folder: Path, token: str, data: bytes, suffix: str) -> None:
    """Writes an item's picture whole or not at all; one of another kind goes."""
    stem = picture_stem(token)
    part = folder / f".{stem}.tmp"
    try:
        part.write_bytes(data)
        os.replace(part, folder / f"{stem}.{suffix}")
        for other in set(FORMATS.values()) - {suffix}:
            (folder / f"{stem}.{other}").unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run was writing."""
    for part in folder.glob(".*.tmp"):
        part.unlink(missing_ok=True)
