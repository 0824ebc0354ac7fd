"""Where the pictures of a data set lie on disk: one file an item, named by its token's sha256."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from recbole_mmm4rec.encoders.pictures import FORMATS

_STEM = re.compile(r"[0-9a-f]{64}")


def picture_folder(dataset_dir: Path) -> Path:
    """Where a data set's pictures lie: ``DATASET_DIR/images``."""
    return dataset_dir / "images"


def picture_stem(token: str) -> str:
    """File name of an item's picture without its suffix: the sha256 of the item token, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by stem; of two with one stem the first by name. A link that leads nowhere is none."""
    entries = os.scandir(folder) if folder.is_dir() else ()
    names = sorted(e.name for e in entries if e.is_file(follow_symlinks=False) or os.path.isfile(e.path))
    found: dict[str, Path] = {}
    for name in names:
        stem, _, suffix = name.partition(".")
        if _STEM.fullmatch(stem) and suffix in FORMATS.values():
            found.setdefault(stem, folder / name)
    return found
