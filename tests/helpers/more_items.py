"""New items of the tests' model folder, and what a folder holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

TEXT, IMAGE = np.eye(12, dtype=np.float32), np.eye(6, dtype=np.float32)


def like(number: int) -> dict[str, Any]:
    """A row with the vectors of item ``number``, without its noise."""
    text = TEXT[number % 6] + TEXT[6 + number // 6]
    return {"item_id": f"n{number}", "text": "new", "text_vector": text, "image_vector": IMAGE[number % 6]}


def state_of(folder: Path) -> dict[str, str]:
    """The hash of each file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
