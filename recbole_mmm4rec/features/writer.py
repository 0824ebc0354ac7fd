"""Writing a feature store: in bounded memory, beside the older one, then into its place where it differs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.features.manifest import Manifest


def write_store(
    path: str | Path,
    *,
    modality: str,
    encoder: str,
    encoder_hash: str | None,
    encoder_version: str | None,
    settings: dict[str, Any],
    dim: int,
    dtype: str,
    normalized: bool,
    input_hash: str | None,
    dataset: str,
    items: Sequence[str],
    present: np.ndarray,
    chunks: Iterable[np.ndarray],
) -> Manifest:
    """Writes a store beside ``path`` in bounded memory, then puts it in the place of an older one.

    An older store of the same bytes stays, with its times of change: what was made with it goes on. A kill leaves the
    older store or the new one, either of them whole; leftovers go at the next call.

    Args:
        path: the store's folder.
        items: tokens in row order, all different.
        present: (rows,) bool.
        chunks: consecutive blocks (n, dim) of the table, in row order; rows that are not present become zeros.
        modality, encoder, encoder_hash, encoder_version, settings, dim, dtype, normalized, input_hash, dataset: as in
            :class:`Manifest`.

    Returns:
        The manifest as written.

    Raises:
        UserError: a token twice or with a line break, NaN or infinite values, chunks that do not add up.
    """
    path = Path(path)
    part = part_of(path)
    settle(path)
    part.mkdir(parents=True)
    try:
        _check_tokens(items)
        _write_table(part / "table.npy", np.dtype(dtype), dim, items, present, chunks)
        np.save(part / "present.npy", np.asarray(present, dtype=bool))
        listing = "".join(f"{token}\n" for token in items).encode()
        (part / "items.txt").write_bytes(listing)
        manifest = Manifest(
            modality=modality,
            encoder=encoder,
            encoder_hash=encoder_hash,
            encoder_version=encoder_version,
            settings=settings,
            rows=len(items),
            dim=dim,
            dtype=dtype,
            normalized=normalized,
            input_hash=input_hash,
            items_hash=hashlib.sha256(listing).hexdigest(),
            dataset=dataset,
        )
        (part / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        if not _are_alike(part, path):
            if path.exists():
                os.replace(path, aside(path))
            os.replace(part, path)
    finally:
        settle(path)
    return manifest


def _are_alike(new: Path, old: Path) -> bool:
    """Whether two stores hold the same files; the bytes are read only where all sizes agree."""
    try:
        sizes = [{file.name: file.stat().st_size for file in folder.iterdir()} for folder in (new, old)]
        return sizes[0] == sizes[1] and all(hash_file(new / name) == hash_file(old / name) for name in sizes[0])
    except OSError:  # none there, or one that cannot be read
        return False


def settle(path: str | Path) -> None:
    """Clears what a killed :func:`write_store` left: brings an older store back, or removes it when a newer stands."""
    path = Path(path)
    if not path.exists() and aside(path).exists():
        os.replace(aside(path), path)
    for leftover in (aside(path), part_of(path)):
        if leftover.exists():
            shutil.rmtree(leftover)


def _write_table(
    file: Path, dtype: np.dtype, dim: int, items: Sequence[str], present: np.ndarray, chunks: Iterable[np.ndarray]
) -> None:
    rows = len(items)
    if present.shape != (rows,):
        raise UserError(f"{file}: present has shape {present.shape}, there are {rows} items")
    row = 0
    # Written, not mapped: on a full disk a write raises, a touched page of a mapped file kills the process.
    with file.open("wb") as handle:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(handle, header)
        for chunk in chunks:
            end = row + len(chunk)
            if chunk.ndim != 2 or chunk.shape[1] != dim or end > rows:
                raise UserError(f"{file}: a block of shape {chunk.shape} at row {row} does not fit ({rows}, {dim})")
            with np.errstate(over="ignore"):  # told below, by item
                block = np.where(present[row:end, None], chunk, 0).astype(dtype)
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(bad):
                names = first_three([items[row + position] for position in bad])
                raise UserError(f"{file}: NaN or values outside {dtype} for {len(bad)} items, first {names}")
            handle.write(block.tobytes())
            row = end
    if row != rows:
        raise UserError(f"{file}: {row} vectors for {rows} items")


def _check_tokens(items: Sequence[str]) -> None:
    if len(set(items)) != len(items):
        raise UserError(f"{len(items) - len(set(items))} item tokens are there twice; keep one of each")
    for token in items:
        if not token or "\n" in token or "\r" in token:
            raise UserError(f"item token {token!r} is empty or holds a line break; rename the item")


def first_three(tokens: Sequence[str]) -> str:
    """The first three tokens, quoted, for a message."""
    return ", ".join(repr(token) for token in tokens[:3])


def part_of(path: Path) -> Path:
    """Where the next store of ``path`` is being written."""
    return path.with_name(f".{path.name}.tmp")


def aside(path: Path) -> Path:
    """Where the older store of ``path`` waits while the new one moves in."""
    return path.with_name(f".{path.name}.old")
