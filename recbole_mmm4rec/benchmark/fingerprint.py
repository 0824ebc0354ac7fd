"""What a run's result depends on, as short hashes: the data set's files, and everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = 2
"""Raised with every change of results (tagged [results] in the changelog): older runs then no longer count."""


_FILES = (".inter", ".item", ".user", ".kg", ".link", ".net")


def fingerprint(folder: Path) -> str:
    """The hash of a data set: its atomic files and feature stores, byte by byte.

    Args:
        folder: ``DATA_PATH/NAME``.
    """
    files = sorted(file for file in folder.glob(f"{folder.name}*.*") if file.suffix in _FILES)
    stores = (folder / "features").glob("*/*")
    files += sorted(file for file in stores if file.is_file() and not file.parent.name.startswith("."))
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(folder)}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(2**20):
                total.update(part)
    return total.hexdigest()[:16]


def identity(parts: Mapping[str, Any]) -> str:
    """The name of a run: the hash of all that decides its result.

    Args:
        parts: plain values, for example the model, its settings and the seed.
    """
    text = json.dumps({**parts, "results": RESULTS}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
