"""Writing a model folder: whole under its name, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_folder
from recbole_mmm4rec.base.locks import claimed
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.card import card_of
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.manifest import read_manifest, write_manifest
from recbole_mmm4rec.model_folder.tensors import write_tensors


def write_folder(path: str | Path, contents: Contents) -> Path:
    """Write a model folder; one that had the name before stays as it was until the new one is whole.

    Files and folders in it that are none of its own, such as an export or somebody's notes, are in the new one, too.

    Args:
        path: its name.
        contents: what goes in.

    Returns:
        ``path``.

    Raises:
        UserError: it cannot be written, or what has the name is no model folder.
    """
    path = Path(path)
    check_replaceable(path)
    with whole_folder(path) as folder:
        network = contents.network
        _write_json(folder / layout.SETTINGS, settings_of(contents))
        write_tensors(folder / layout.WEIGHTS, network.state_dict())
        tables = {f"table.{name}": table for name, table in contents.side.tables.items()}
        write_tensors(folder / layout.SIDE, {"fused": contents.side.fused, **tables})
        for name, table in network.items.features.items():
            (folder / layout.features(name)).parent.mkdir(exist_ok=True)
            write_tensors(folder / layout.features(name), {"values": table})
        pq.write_table(contents.items, folder / layout.ITEMS)
        if contents.interactions is not None:
            pq.write_table(contents.interactions, folder / layout.INTERACTIONS)
        if contents.counts is not None:
            arrays = contents.counts.arrays()
            write_tensors(folder / layout.NEIGHBOURS, {name: torch.from_numpy(part) for name, part in arrays.items()})
        if contents.pictures is not None:
            _write_pictures(folder / layout.PICTURES, contents.pictures)
        _write_json(folder / layout.ENCODERS, contents.encoders)
        _write_json(folder / layout.METRICS, contents.metrics)
        (folder / layout.CARD).write_text(card_of(contents), encoding="utf-8")
        write_manifest(folder, contents.model, contents.dataset)
        _take_over(path, folder)
    return path


def check_replaceable(path: Path) -> None:
    """Refuse a name that something else has.

    Raises:
        UserError: a file has it, or a folder with other things in it than a model.
    """
    if path.exists() and not (path / layout.MANIFEST).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path}: is there already, and no model folder; name another place")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep two commands from changing one model folder: a claim beside it, since it is replaced as a whole.

    Raises:
        UserError: another command is at it, or nothing can be written there.
    """
    place = Path(os.path.realpath(folder))
    path = place.with_name(f".{place.name}.lock")
    try:
        lock = claimed(path)
    except BlockingIOError:
        raise UserError(f"{folder}: another command is changing this model folder; wait for it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); name another place (--output)") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()


def staying(folder: str | Path) -> AbstractContextManager[None]:
    """Keep commands from changing a model folder that is read file by file, where they could.

    Raises:
        UserError: one is at it.
    """
    place = Path(os.path.realpath(folder))
    return changing(place) if place.is_dir() and os.access(place.parent, os.W_OK) else nullcontext()


def _take_over(old: Path, new: Path) -> None:
    """What lies in a folder and is none of its model's files, into the one that takes its place."""
    try:
        ours = {Path(name).parts[0] for name in read_manifest(old)["files"]}
    except UserError:  # there is none, or it is damaged: what was of the model cannot be told
        return
    for entry in old.iterdir():
        if entry.name in ours or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True, copy_function=_linked)
        else:
            _linked(entry, new / entry.name)


def _linked(file: str | Path, place: str | Path) -> str | Path:
    """The same file under a second name; a copy where the file system has no such names."""
    with suppress(OSError):
        os.link(file, place, follow_symlinks=False)
        return place
    return shutil.copy2(file, place, follow_symlinks=False)


def settings_of(contents: Contents) -> dict[str, Any]:
    """What ``settings.json`` holds."""
    return {
        "network": asdict(contents.network.config),
        "modalities": list(contents.network.items.modalities),
        "neighbours": contents.neighbours,
        "run": contents.run,
    }


def _write_pictures(file: Path, pictures: pa.Array) -> None:
    table = pa.table({"picture": pictures.cast(pa.large_binary())}).combine_chunks()
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
