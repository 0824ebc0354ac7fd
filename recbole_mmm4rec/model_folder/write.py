"""Writing a model folder: whole under its name, or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recbole_mmm4rec.base.files import whole_folder
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.card import card_of
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.manifest import write_manifest
from recbole_mmm4rec.model_folder.tensors import write_tensors


def write_folder(path: str | Path, contents: Contents) -> Path:
    """Write a model folder; one that had the name before stays as it was until the new one is whole.

    Args:
        path: its name.
        contents: what goes in.

    Returns:
        ``path``.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
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
    return path


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
