"""New items in a model folder, without training: encoded, projected, and scored from then on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.batches import encode_shard
from recbole_mmm4rec.encoders.pictures import BadPictureError
from recbole_mmm4rec.model_folder.contents import OURS, Contents
from recbole_mmm4rec.model_folder.grown import grown
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.small_pictures import small_jpeg
from recbole_mmm4rec.model_folder.write import changing, check_replaceable, write_folder
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.recommend.encoders import Encoders
from recbole_mmm4rec.recommend.item_rows import NewItem, read_items
from recbole_mmm4rec.recommend.items import named
from recbole_mmm4rec.recommend.scorer import Scorer

TEXTS, PICTURES = 16, 8  # inputs at a time: few texts need little padding, few pictures fit a processor's caches
SHOWN_FROM = 200  # items, from which on there is a bar


@dataclass(frozen=True)
class Added:
    """What was added.

    Attributes:
        items: ids, in the order of the table.
        folder: where the model with them lies; None: in memory alone.
        seconds: encoding, projecting and writing.
        loading_seconds: of the encoders, before.
        notes: what the user should know, one line each.
    """

    items: tuple[str, ...]
    folder: Path | None
    seconds: float
    loading_seconds: float
    notes: tuple[str, ...] = ()


def add_to_folder(scorer: Scorer, table: Any, output: str | Path | None = None, **how: Any) -> Added:
    """Add items to a model folder, which is the old one until it is the new one.

    Args:
        scorer: the model; what it holds is not changed.
        table, how: as for :func:`add_to`.
        output: another folder to write to; None: the model's own.

    Raises:
        UserError: as for :func:`add_to`, or another command changes the same folder; nothing is written.
    """
    target = scorer.folder if output is None else Path(output)
    if Path.cwd().is_relative_to(target.resolve()):  # which is another folder once this one has taken its place
        target = Path(os.path.abspath(target))
    with changing(target):
        check_replaceable(target)
        began = time.perf_counter()
        contents = Folder.whole(scorer.folder, Folder.contents)  # as it is now, which may be newer than what was loaded
        opening = time.perf_counter() - began
        made, added = add_to(contents, scorer, table, **how)
        began = time.perf_counter()
        write_folder(target, made)
    if (target / "export").is_dir():
        stale = f"{target / 'export'}: of the model as it was; `mmm4rec export {target} --force` makes it anew"
        added = replace(added, notes=(*added.notes, stale))
    return replace(added, folder=target, seconds=added.seconds + opening + time.perf_counter() - began)


def add_in_memory(scorer: Scorer, table: Any, **how: Any) -> tuple[Contents, Added]:
    """What the model is with further items; neither its folder nor ``scorer`` is changed."""
    folder = scorer.content
    contents = Contents(
        model=folder.manifest["model"],
        dataset=folder.manifest["dataset"],
        network=scorer.network,
        side=scorer.side,
        items=scorer.items.table,
        encoders=folder.encoders,
        counts=scorer.counts,
        pictures=scorer.items.pictures,
    )
    return add_to(contents, scorer, table, **how)


def add_to(
    contents: Contents,
    scorer: Scorer,
    table: Any,
    images: str | Path | None = None,
    vectors: Mapping[str, Any] | None = None,
    encoders: Mapping[str, str] | None = None,
    show_progress: bool = False,
) -> tuple[Contents, Added]:
    """A model with further items.

    Args:
        contents: the model.
        scorer: has its encoders.
        table, images, vectors: see :func:`~.item_rows.read_items`.
        encoders: modality to where the encoder is, if it is not found under its name.
        show_progress: a bar for many items.

    Raises:
        UserError: a row, picture, vector or encoder that cannot be used, or an id that the shop has.
    """
    began = time.perf_counter()
    rows = read_items(table, images, vectors)
    if not rows:
        raise UserError(f"{table if isinstance(table, (str, Path)) else 'items'}: no item is in it")
    _check(contents, rows)
    loading = encode_rows(scorer.encoders, scorer.modalities, rows, encoders or {}, show_progress)
    features, present = _features(contents.network, rows)
    pictures = [_small(one) for one in rows]
    described, notes = _described(contents.items.schema, rows, present)
    made = grown(contents, described, features, present, pictures)
    seconds = time.perf_counter() - began - loading
    return made, Added(tuple(one.id for one in rows), None, seconds, loading, tuple(notes))


def _check(contents: Contents, rows: Sequence[NewItem]) -> None:
    items = contents.network.items
    known = set(contents.items["item_id"].to_pylist())
    for one in rows:
        if one.id in known:
            raise UserError(f"{one.place}: the shop has item {one.id!r} already; leave the row out")
        for modality, vector in one.vectors.items():
            if modality not in items.modalities:
                raise UserError(
                    f"{one.place}: a vector for {modality}, and the model knows {' and '.join(items.modalities)}"
                )
            wanted = items.features[modality].shape[1]
            if len(vector) != wanted:
                raise UserError(
                    f"{one.place}: the {modality} vector of item {one.id!r} has {len(vector)} numbers, the shop's "
                    f"have {wanted}"
                )
        if not any(_has(one, modality) for modality in items.modalities):
            what = {"text": "text", "image": "picture"}
            lacking = " or ".join(what[modality] for modality in items.modalities)
            raise UserError(f"{one.place}: item {one.id!r} has no {lacking} and no vector; nothing is known of it")


def _has(one: NewItem, modality: str) -> bool:
    source = one.text if modality == "text" else one.picture
    return bool(source) or modality in one.vectors


def encode_rows(
    encoders: Encoders,
    modalities: Sequence[str],
    rows: Sequence[NewItem],
    names: Mapping[str, str] | None = None,
    show_progress: bool = False,
) -> float:
    """Give each row the vectors of its text and picture, where it has none.

    Args:
        encoders: those of the shop.
        modalities: of the model.
        rows: written to.
        names: modality to where the encoder is, if it is not found under its name.
        show_progress: a bar for many items.

    Returns:
        Seconds for loading encoders.

    Raises:
        UserError: an encoder or a picture that cannot be used.
    """
    start = time.perf_counter()
    wanted = {}
    for modality in modalities:
        missing = [one for one in rows if modality not in one.vectors and _has(one, modality)]
        if missing:
            wanted[modality] = missing, encoders.get(modality, (names or {}).get(modality))
    loading = time.perf_counter() - start
    for modality, (missing, encoder) in wanted.items():
        if modality == "text":
            missing.sort(key=lambda one: -len(one.text))  # so that a batch needs little padding
        sources: list[Any] = [one.text if modality == "text" else one.picture for one in missing]
        hidden = not show_progress or len(missing) < SHOWN_FROM
        with tqdm(total=len(missing), desc=f"Encoding {modality}", unit=" items", ncols=100, disable=hidden) as bar:
            found = encode_shard(encoder, sources, TEXTS if modality == "text" else PICTURES, bar.update)
        for place, reason in found.failed.items():
            raise _unreadable(missing[place], reason)
        for one, vector in zip(missing, found.vectors, strict=True):
            one.vectors[modality] = vector
    return loading


def _features(network: MMM4RecNetwork, rows: Sequence[NewItem]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By modality the features (J, F) float32 and which items have them (J,) bool."""
    features, present = {}, {}
    for modality in network.items.modalities:
        table = np.zeros((len(rows), network.items.features[modality].shape[1]), dtype=np.float32)
        there = [modality in one.vectors for one in rows]
        if any(there):
            table[there] = [one.vectors[modality] for one in rows if modality in one.vectors]
        features[modality], present[modality] = torch.from_numpy(table), torch.tensor(there)
    return features, present


def _small(one: NewItem) -> bytes | None:
    try:
        return None if one.picture is None else small_jpeg(one.picture)
    except BadPictureError as error:
        raise _unreadable(one, str(error)) from None


def _unreadable(one: NewItem, reason: str) -> UserError:
    name = one.picture if isinstance(one.picture, Path) else "it"
    return UserError(f"{one.place}: the picture of item {one.id!r} cannot be used: {name}: {reason}")


def _described(schema: pa.Schema, rows: Sequence[NewItem], present: Mapping[str, Tensor]) -> tuple[pa.Table, list[str]]:
    """The rows with the columns of the shop, and what is to be said of those that it has not."""
    columns: dict[str, Any] = {"item_id": [one.id for one in rows], "text": [one.text for one in rows]}
    columns["popularity"] = [0] * len(rows)
    for name in ("text", "image"):
        columns[f"has_{name}"] = present[name].tolist() if name in present else [False] * len(rows)
    made = []
    for part in schema:
        values = columns.get(part.name) or [_typed(one, part) for one in rows]
        made.append(pa.array(values, part.type, from_pandas=True))  # no number is none
    stray = list(dict.fromkeys(key for one in rows for key in one.columns if key not in schema.names or key in OURS))
    notes = [f"columns that the shop's items do not have were left out: {named(stray)}"] if stray else []
    return pa.Table.from_arrays(made, schema=schema), notes


def _typed(one: NewItem, part: pa.Field) -> Any:
    value = one.columns.get(part.name)
    if value is None:
        return None
    try:
        return float(value) if pa.types.is_floating(part.type) else str(value)
    except OverflowError:
        raise UserError(f"{one.place}: {part.name}: a number of more than 300 digits; leave it out") from None
    except (TypeError, ValueError):
        if isinstance(value, int):  # Python writes none of more than 4,300 digits
            raise UserError(f"{one.place}: {part.name}: a number of more than 4,300 digits; leave it out") from None
        raise UserError(f"{one.place}: {part.name} {value!r} is no number, as the shop's are") from None
