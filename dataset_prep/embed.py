"""``embed``: encodes item texts once, in shards that a killed run leaves finished, and writes the feature store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_prep.atomic import replace_file
from dataset_prep.encoders import DEFAULT_TEXT_ENCODER, TextEncoder, load_text_encoder
from recbole_mmm4rec.errors import UserError
from recbole_mmm4rec.features import FeatureStore, hash_inputs, read_item_column, settle, store_path, write_store

SHARD_ITEMS = 1024  # what a killed run loses at most; about 20 s on two CPU cores


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are encoded.

    Attributes:
        encoder: a folder, the packaged default, or a name on the model hub.
        column: of the ``.item`` file.
        batch_size: texts at a time.
        device: "auto" or a torch device.
        dtype: of the stored table, "float32" or "float16".
        max_seq_length: cut texts after this many tokens; None for the encoder's own limit.
        normalize: scale vectors to length 1.
        force: encode again even if the store is up to date.
    """

    encoder: str = DEFAULT_TEXT_ENCODER
    column: str = "text"
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"
    max_seq_length: int | None = None
    normalize: bool = True
    force: bool = False


Load = Callable[[str, str, int | None, bool], TextEncoder]


def embed_texts(name: str, out: Path, options: EmbedOptions, load: Load = load_text_encoder) -> str:
    """Makes the text store of a data set, unless it is there already; a killed run is taken up where it was.

    Args:
        name: of the data set.
        out: folder of data sets.
        options: how texts are encoded.
        load: gives the encoder.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: no such data set, column or encoder; no item has text; an encoder's vectors are not finite.
    """
    if options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: must be at least 1")
    item_file = out / name / f"{name}.item"
    if not item_file.is_file():
        raise UserError(
            f"{item_file}: no such data set; see 'ls {out}', --out, or make it: python -m dataset_prep --help"
        )
    items, texts = read_item_column(item_file, options.column)
    present = np.array([bool(text.strip()) for text in texts], dtype=bool)
    if not present.any():
        raise UserError(f"{item_file}: no item has text in column '{options.column}'; nothing to encode")
    encoder = load(options.encoder, options.device, options.max_seq_length, options.normalize)
    identity = _identity(name, items, texts, encoder, options)
    path = store_path(out / name, "text")
    settle(path)
    done = f"{int(present.sum()):,} of {len(items):,} items have text"
    # What moves only the last bits belongs to the shards too: a mixture would equal no undisturbed run.
    how = {"batch_size": options.batch_size, "device": encoder.device, "shard_items": SHARD_ITEMS}
    shards = _Shards(path, {**identity, **how}, len(items))
    if not options.force and _up_to_date(path, identity):
        shards.remove()
        return f"{path} is up to date: {done}; --force encodes them again"
    shards.begin()
    _encode_all(encoder, items, texts, options, shards)
    write_store(path, modality="text", items=items, present=present, chunks=shards.tables(), **identity)
    shards.remove()
    return f"{path}: {done}, {encoder.dim} numbers each, by {encoder.name}"


def _identity(
    name: str, items: list[str], texts: list[str], encoder: TextEncoder, options: EmbedOptions
) -> dict[str, Any]:
    """The part of the manifest that tells whether a store is the one asked for."""
    return {
        "encoder": encoder.name,
        "encoder_hash": encoder.hash,
        "encoder_version": encoder.version,
        "settings": {**encoder.settings, "column": options.column},
        "dim": encoder.dim,
        "dtype": options.dtype,
        "normalized": encoder.normalized,
        "input_hash": hash_inputs(zip(items, texts, strict=True)),
        "dataset": name,
    }


def _encode_all(
    encoder: TextEncoder, items: list[str], texts: list[str], options: EmbedOptions, shards: _Shards
) -> None:
    with_text = [sum(bool(text.strip()) for text in texts[block]) for block in shards.blocks]
    to_do = [number for number, block in enumerate(shards.blocks) if not shards.finished(number, encoder.dim)]
    initial = sum(with_text) - sum(with_text[number] for number in to_do)
    title = f"encoding with {encoder.name}"
    with tqdm(total=sum(with_text), initial=initial, unit=" items", desc=title) as progress:
        for number in to_do:
            block = shards.blocks[number]
            shards.save(number, _encode(encoder, items[block], texts[block], options, progress))


def _encode(
    encoder: TextEncoder, items: list[str], texts: list[str], options: EmbedOptions, progress: Any
) -> np.ndarray:
    """One shard; texts of like length share a batch, so that little padding is computed."""
    table = np.zeros((len(texts), encoder.dim), dtype=options.dtype)
    order = sorted((row for row, text in enumerate(texts) if text.strip()), key=lambda row: (-len(texts[row]), row))
    for start in range(0, len(order), options.batch_size):
        rows = order[start : start + options.batch_size]
        with np.errstate(over="ignore"):  # told below, by item
            table[rows] = encoder.encode([texts[row] for row in rows])
        bad = [items[row] for row in rows if not np.isfinite(table[row]).all()]
        if bad:
            hint = "; use --dtype float32" if options.dtype == "float16" else ""
            raise UserError(
                f"{encoder.name} gave NaN or values outside {options.dtype} for item '{bad[0]}' and {len(bad) - 1} more"
                f"{hint}"
            )
        progress.update(len(rows))
    return table


def _up_to_date(path: Path, identity: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    try:
        manifest = FeatureStore.open(path).manifest
    except UserError:
        return False  # damaged: made again
    return all(getattr(manifest, key) == value for key, value in identity.items())


class _Shards:
    """Finished shards beside the store, good only for the run they belong to."""

    def __init__(self, store: Path, key: dict[str, Any], rows: int):
        self.blocks = [slice(start, min(start + SHARD_ITEMS, rows)) for start in range(0, rows, SHARD_ITEMS)]
        self._folder = store.with_name(f".{store.name}.partial")
        self._digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def begin(self) -> None:
        key_file = self._folder / "key.txt"
        if not key_file.is_file() or key_file.read_text(encoding="utf-8") != self._digest:
            self.remove()
            self._folder.mkdir(parents=True)
            replace_file(key_file, [self._digest])

    def finished(self, number: int, dim: int) -> bool:
        block = self.blocks[number]
        try:
            shape = np.load(self._file(number), mmap_mode="r", allow_pickle=False).shape
        except (FileNotFoundError, ValueError, EOFError):
            return False  # not there, or damaged: encoded again
        return bool(shape == (block.stop - block.start, dim))

    def save(self, number: int, table: np.ndarray) -> None:
        part = self._folder / "shard.tmp"
        with part.open("wb") as handle:
            np.save(handle, table)
        os.replace(part, self._file(number))

    def tables(self) -> Iterator[np.ndarray]:
        for number in range(len(self.blocks)):
            yield np.load(self._file(number), allow_pickle=False)

    def remove(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npy"
