"""``embed``: encodes the item texts and pictures that are new, and writes the feature stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_prep.embed.cache import VectorCache
from dataset_prep.embed.engines import Encoded, RayCluster, encode_locally, encode_on_ray
from dataset_prep.embed.inputs import Inputs, absent_line, read_pictures, read_texts, report_pictures
from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.load import load_encoder
from recbole_mmm4rec.encoders.spec import DEFAULT_TEXT_ENCODER, Encoder, EncoderSpec, Load, Source
from recbole_mmm4rec.features.store import FeatureStore, settle, store_path, write_store

BATCH, CPU_PICTURES = 64, 8  # a CPU's caches hold no more pictures: 64 at a time take three times as long
SHARD_ITEMS = 1024  # what a killed run loses at most; about 20 s on two CPU cores


@dataclass(frozen=True)
class EmbedOptions:
    """How texts and pictures are encoded.

    Attributes:
        text_encoder: a folder, the packaged default, a name on the model hub, or ``open_clip:…``; None for none.
        image_encoder: ``efficientnet-lite0``, ``timm:…`` or ``open_clip:…``; None for none. Without either, texts are
            encoded with the packaged default.
        column: of the ``.item`` file, for texts; None for "text".
        batch_size: inputs at a time; None for 64, or 8 for pictures on a CPU.
        device: "auto" or a torch device.
        precision: of the computation, "fp32", "fp16" or "bf16".
        dtype: of the stored table, "float32" or "float16".
        max_seq_length: cut texts after this many tokens; None for the encoder's own limit.
        normalize: scale vectors to length 1.
        force: encode everything again, whatever is cached.
        engine: "local" or "ray".
        ray_address: of the Ray cluster; None for "auto".
        num_workers: Ray actors; None for as many as there are GPUs, or CPUs without any.
    """

    text_encoder: str | None = None
    image_encoder: str | None = None
    column: str | None = None
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    dtype: str = "float32"
    max_seq_length: int | None = None
    normalize: bool = True
    force: bool = False
    engine: str = "local"
    ray_address: str | None = None
    num_workers: int | None = None

    def wanted(self) -> list[tuple[str, str]]:
        """Modalities and their encoders."""
        text = self.text_encoder if self.text_encoder or self.image_encoder else DEFAULT_TEXT_ENCODER
        pairs = [("text", text), ("image", self.image_encoder)]
        return [(modality, encoder) for modality, encoder in pairs if encoder]


def embed(name: str, out: Path, options: EmbedOptions, load: Load = load_encoder) -> str:
    """Makes the feature stores of a data set; only inputs that are new to their encoder are encoded.

    A killed run is taken up at its last finished shard and ends with the bytes of an undisturbed one.

    Args:
        name: of the data set.
        out: folder of data sets.
        options: how texts and pictures are encoded.
        load: gives an encoder.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: no such data set, column, picture or encoder; nothing to encode; vectors that are not finite.
    """
    for flag, count in (("--batch-size", options.batch_size), ("--num-workers", options.num_workers)):
        if count is not None and count < 1:
            raise UserError(f"{flag} {count}: must be at least 1")
    for flag, value in (("--ray-address", options.ray_address), ("--num-workers", options.num_workers)):
        if value is not None and options.engine != "ray":
            raise UserError(f"{flag} {value}: is for --engine ray; add that, or leave {flag} out")
    if options.column is not None and "text" not in dict(options.wanted()):
        raise UserError(f"--column {options.column}: no texts are encoded; add --text-encoder, or leave --column out")
    item_file = out / name / f"{name}.item"
    if not item_file.is_file():
        raise UserError(f"{item_file}: no such data set; see 'ls {out}', --out, or make it: {called('prep')} --help")
    lines = [_embed(name, out, options, modality, encoder, load) for modality, encoder in options.wanted()]
    files = SetFiles(name, out / name)
    absent = absent_line(files, files.tokens())
    return "\n".join([*lines, absent] if absent else lines)


def _embed(name: str, out: Path, options: EmbedOptions, modality: str, encoder_name: str, load: Load) -> str:
    item_file = out / name / f"{name}.item"
    inputs = read_texts(item_file, options.column or "text") if modality == "text" else read_pictures(item_file)
    spec = EncoderSpec(
        modality, encoder_name, options.device, options.precision, options.max_seq_length, options.normalize
    )
    encoder = load(spec)
    identity = _identity(name, inputs, encoder, options, modality)
    path = store_path(out / name, modality)
    settle(path)
    what = "text" if modality == "text" else "a picture"
    if not options.force and _up_to_date(path, identity):
        have = int(FeatureStore.open(path).present.sum())
        return f"{path} is up to date: {have:,} of {len(inputs.items):,} items have {what}; --force encodes them again"
    cache, keys = _open_cache(path, encoder, inputs)
    cache.begin(options.force)
    rows = [row for row, key in enumerate(keys) if key is not None]
    new = [rows[position] for position in cache.missing([_key(keys, row) for row in rows])]
    if new:
        _encode(new, cache, keys, inputs, spec, encoder, options, load)
    reasons = dict(inputs.unreadable)
    for row, key in enumerate(keys):
        reason = cache.failure(key) if key is not None else None
        if reason is not None:
            reasons[inputs.items[row]], keys[row] = reason, None
    if modality == "image":
        report_pictures(out / name, inputs, reasons)
    present = np.array([key is not None for key in keys], dtype=bool)
    if not present.any():
        raise UserError(f"{out / name}: none of the pictures can be read; see images.report.jsonl there")
    chunks = cache.vectors(keys, options.dtype)
    write_store(path, modality=modality, items=inputs.items, present=present, chunks=chunks, **identity)
    cache.finish()
    done = f"{path}: {int(present.sum()):,} of {len(present):,} items have {what}, {len(new):,} newly encoded"
    unusable = f"; {len(reasons):,} unusable, see images.report.jsonl" if reasons else ""
    return f"{done}, {encoder.dim} numbers each, by {encoder.name}{unusable}"


def _identity(name: str, inputs: Inputs, encoder: Encoder, options: EmbedOptions, modality: str) -> dict[str, Any]:
    """The part of the manifest that tells whether a store is the one asked for."""
    column = {"column": options.column or "text"} if modality == "text" else {}
    return {
        "encoder": encoder.name,
        "encoder_hash": encoder.hash,
        "encoder_version": encoder.version,
        "settings": {**encoder.settings, **column},
        "dim": encoder.dim,
        "dtype": options.dtype,
        "normalized": encoder.normalized,
        "input_hash": inputs.hash,
        "dataset": name,
    }


def _up_to_date(path: Path, identity: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    try:
        manifest = FeatureStore.open(path).manifest
    except UserError:
        return False  # damaged: made again
    return all(getattr(manifest, key) == value for key, value in identity.items())


def _open_cache(path: Path, encoder: Encoder, inputs: Inputs) -> tuple[VectorCache, list[bytes | None]]:
    """The encoder's cache and, by item, the key of its input there."""
    shaping = [encoder.hash, encoder.settings, encoder.normalized, encoder.dim]
    encoder_key = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
    cache = VectorCache(path.parent / ".cache" / path.name / encoder_key.hexdigest()[:32], encoder.dim)
    keys = [hashlib.sha256(encoder_key.digest() + digest).digest() if digest else None for digest in inputs.digests]
    return cache, keys


def _encode(
    rows: list[int],
    cache: VectorCache,
    keys: list[bytes | None],
    inputs: Inputs,
    spec: EncoderSpec,
    encoder: Encoder,
    options: EmbedOptions,
    load: Load,
) -> None:
    order = _in_order(rows, inputs, keys)
    # Shards are cut from the front and finished in order, so a run that goes on cuts the rest at the same places:
    # every batch holds what it would have held in an undisturbed run.
    shards = [order[start : start + SHARD_ITEMS] for start in range(0, len(order), SHARD_ITEMS)]
    total = len(set(keys) - {None})
    title = f"encoding with {encoder.name}"
    with tqdm(total=total, initial=total - len(rows), unit=" items", desc=title) as progress:
        for shard, encoded in zip(shards, _run(shards, inputs, spec, encoder, options, load, progress), strict=True):
            _check_finite(encoder, encoded, [inputs.items[shard[position]] for position in encoded.good], options)
            for position in sorted(encoded.unread):  # nothing to be kept of their content
                raise UserError(
                    f"the picture of item {inputs.items[shard[position]]!r}: {encoded.failed[position]}; give the same "
                    "command once more, or take the picture away"
                )
            shard_keys = [_key(keys, row) for row in shard]
            failed = {shard_keys[position]: reason for position, reason in encoded.failed.items()}
            cache.save([shard_keys[position] for position in encoded.good], encoded.vectors, failed)
    cache.reload()


def _run(
    shards: list[list[int]],
    inputs: Inputs,
    spec: EncoderSpec,
    encoder: Encoder,
    options: EmbedOptions,
    load: Load,
    progress: Any,
) -> Iterator[Encoded]:
    sources = ([_source(inputs, row) for row in shard] for shard in shards)
    small = spec.modality == "image" and encoder.device == "cpu"
    batch_size = options.batch_size or (CPU_PICTURES if small else BATCH)
    if options.engine == "local":
        return encode_locally(encoder, sources, batch_size, progress.update)
    cluster = RayCluster(options.ray_address or "auto", options.num_workers)
    return encode_on_ray(cluster, spec, load, encoder, sources, batch_size, progress.update)


def _in_order(rows: list[int], inputs: Inputs, keys: list[bytes | None]) -> list[int]:
    """Longest texts first, so that a batch needs little padding and memory runs out at once or never."""
    if isinstance(inputs.sources[rows[0]], str):
        return sorted(rows, key=lambda row: (-len(str(inputs.sources[row])), _key(keys, row)))
    return rows


def _check_finite(encoder: Encoder, encoded: Encoded, items: list[str], options: EmbedOptions) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(encoded.vectors.astype(options.dtype)).all(axis=1)
    bad = [item for item, good in zip(items, finite.tolist(), strict=True) if not good]
    if bad:
        hint = "; use --dtype float32" if options.dtype == "float16" else ""
        raise UserError(
            f"{encoder.name} gave NaN or values outside {options.dtype} for item '{bad[0]}' and {len(bad) - 1} more"
            f"{hint}"
        )


def _key(keys: list[bytes | None], row: int) -> bytes:
    key = keys[row]
    assert key is not None  # only rows with an input are encoded
    return key


def _source(inputs: Inputs, row: int) -> Source:
    source = inputs.sources[row]
    assert source is not None
    return source
