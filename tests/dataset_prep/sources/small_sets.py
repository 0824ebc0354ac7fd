"""Small data sets to merge, as they lie on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.features.store import hash_inputs, write_store


def write_set(out: Path, name: str, texts: list[str], header: str = "text:token_seq", extra: str = "") -> list[str]:
    """A set of items i0, i1, ... and one user for each who buys it and the next one."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    items = [f"i{row}" for row in range(len(texts))]
    lines = "".join(f"{item}\t{text}{extra}\n" for item, text in zip(items, texts, strict=True))
    (folder / f"{name}.item").write_text(f"item_id:token\t{header}\n{lines}")
    bought = [
        (row, (row + step) % len(items), 1_600_000_000 + row + step) for row in range(len(items)) for step in (0, 1)
    ]
    lines = "".join(f"{time}\tu{user}\t{sum(map(ord, name))}\ti{item}\n" for user, item, time in bought)
    header = "timestamp:float\tuser_id:token\trating:float\titem_id:token\n"
    (folder / f"{name}.inter").write_text(header + lines)
    return items


def write_vectors(out: Path, name: str, modality: str = "text", **change: Any) -> np.ndarray:
    """A store of random vectors, present where there is text."""
    items, texts = read_item_column(out / name / f"{name}.item", "text")
    dim = change.get("dim", 4)
    table = np.random.default_rng(len(items) + ord(name[0])).normal(size=(len(items), dim)).astype(np.float32)
    values: dict[str, Any] = {
        "modality": modality,
        "encoder": "letters",
        "encoder_hash": "h1",
        "encoder_version": "1",
        "settings": {"column": "text"},
        "dim": dim,
        "dtype": "float32",
        "normalized": False,
        "input_hash": hash_inputs(zip(items, texts, strict=True)) if modality == "text" else None,
        "dataset": name,
        "items": items,
        "present": np.array([bool(text) for text in texts]),
        "chunks": [table],
        **change,
    }
    write_store(out / name / "features" / modality, **values)
    return table


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
