"""What the files of a model folder must hold: a hash tells damage, and whoever changes a file can change its hash.

Each function raises a ValueError whose words go on after "FILE: it".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recbole_mmm4rec.base import json_lines as kind
from recbole_mmm4rec.model_folder.contents import NO_PART, OURS

_SETTINGS = {
    "network": kind.is_table,
    "modalities": kind.list_of(kind.one_of("text", "image")),
    "neighbours": kind.or_none(kind.is_table),
    "run": kind.is_table,
}
_NEIGHBOURS = {"weight": kind.is_finite, "decay": kind.is_finite, "window": kind.is_count}
_ENCODER = {
    **dict.fromkeys(("modality", "encoder", "dtype"), kind.is_text),
    **dict.fromkeys(("encoder_hash", "encoder_version", "input_hash"), kind.or_none(kind.is_text)),
    "settings": kind.is_table,
    "normalized": kind.is_flag,
    "dim": kind.is_count,
}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_settings(settings: dict[str, Any]) -> None:
    """``settings.json``; the network's are looked at by its own configuration."""
    kind.check_fields(settings, _SETTINGS)
    names = settings["modalities"]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"has a wrong 'modalities': {names}")
    if settings["neighbours"] is not None:
        kind.check_fields(settings["neighbours"], _NEIGHBOURS)


def check_encoders(encoders: dict[str, Any], modalities: Sequence[str]) -> None:
    """``encoders.json``: what the feature store of each modality says about itself."""
    kind.check_fields(encoders, {}, dict.fromkeys(modalities, kind.is_table))
    for name in modalities:
        if name in encoders:
            kind.check_fields(encoders[name], _ENCODER)


def check_metrics(metrics: dict[str, Any]) -> None:
    """``metrics.json``, as the card shows it."""
    value = kind.table_of(kind.or_none(_is_value))
    kind.check_fields(
        metrics,
        {},
        {
            "test": kind.table_of(_is_value),
            "valid": kind.table_of(kind.or_none(kind.is_number)),
            "without": kind.table_of(value),
            "users": kind.or_none(kind.is_count),
        },
    )


def _is_value(value: Any) -> bool:
    """A metric, perhaps with the ends of its interval."""
    needed = {"value", *({"low", "high"} if isinstance(value, dict) and "low" in value else ())}
    return isinstance(value, dict) and needed <= value.keys() and all(map(kind.is_number, value.values()))


def check_items(table: pa.Table) -> None:
    """``items.parquet``: ids that differ, texts, our columns without gaps, and others of texts or numbers."""
    _check_columns(table, {"item_id": pa.string(), "text": pa.string(), **OURS})
    for field in table.schema:
        if not (pa.types.is_string(field.type) or pa.types.is_primitive(field.type)) or _is_time(field.type):
            raise ValueError(f"has a column {field.name!r} of {field.type}")
    _check_filled(table, ("item_id", *OURS))
    if not table.num_rows or pc.count_distinct(table["item_id"]).as_py() < table.num_rows:
        raise ValueError("has no item, or an item twice")


def _is_time(of: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(of))


def check_interactions(table: pa.Table, items: int) -> None:
    """``interactions.parquet``: users, numbers of items, seconds, parts of the split."""
    user = table.schema.field("user_id").type if table.schema.get_field_index("user_id") >= 0 else None
    named = pa.types.is_dictionary(user) and pa.types.is_string(user.value_type) if user is not None else False
    wanted = {"item": pa.int32(), "timestamp": pa.int64(), "part": pa.int8()}
    _check_columns(table, {"user_id": user if named else pa.string(), **wanted})
    _check_filled(table, ("user_id", *wanted))
    for name, most in (("item", items), ("part", NO_PART)):
        ends = pc.min_max(table[name]).as_py()
        if table.num_rows and not (int(name == "item") <= ends["min"] and ends["max"] <= most):
            raise ValueError(f"has a wrong '{name}': from {ends['min']} to {ends['max']}")


def _check_columns(table: pa.Table, wanted: Mapping[str, pa.DataType]) -> None:
    names = table.column_names
    for name, of in wanted.items():
        if names.count(name) != 1 or not table.schema.field(name).type.equals(of):
            raise ValueError(f"has no column {name!r} of {of}, or several")
    if len(set(names)) < len(names):
        raise ValueError("has a column twice")


def _check_filled(table: pa.Table, names: Sequence[str]) -> None:
    for name in names:
        if table[name].null_count:
            raise ValueError(f"has gaps in {name!r}")


def check_tables(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    """Tensors of floating-point numbers, all of one kind.

    Args:
        tensors: by name.
        shapes: of those that must be there; None for any length above 0.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise ValueError(f"has no tensor {name!r}")
        found = tuple(tensors[name].shape)
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        if not fits or 0 in found:
            raise ValueError(f"has a tensor {name!r} of the shape {found}")
    kinds = {tensors[name].dtype for name in shapes}
    if len(kinds) > 1 or not kinds <= set(_FLOATS):
        raise ValueError(f"has tensors of {', '.join(sorted(map(str, kinds)))}")


def check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """The parameters that the network has.

    Args:
        weights: of the file.
        wanted: of the network, without memory.
    """
    stray = sorted(weights.keys() ^ wanted.keys())
    if stray:
        raise ValueError(f"has other tensors than the network of settings.json: {', '.join(stray[:3])} …")
    check_tables(weights, {name: tuple(value.shape) for name, value in wanted.items()})


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays; those of a kind that NumPy does not know are refused."""
    if any(value.dtype == torch.bfloat16 for value in tensors.values()):
        raise ValueError("has tensors of torch.bfloat16")
    return {name: value.numpy() for name, value in tensors.items()}


def check_counts(arrays: Mapping[str, np.ndarray], rows: int) -> None:
    """``neighbours.safetensors``: a sparse matrix (rows, rows) and pairs of items by user.

    What lies outside would be read as it stands in memory.
    """
    whole = ("indptr", "indices", "targets", "pairs.start", "pairs.earlier", "pairs.later")
    for name in (*whole, "data", "pairs.weight"):
        if name not in arrays or arrays[name].ndim != 1 or arrays[name].dtype.kind != ("i" if name in whole else "f"):
            raise ValueError(f"has no list of numbers {name!r}")
    if len(arrays["targets"]) != rows or len(arrays["indptr"]) != rows + 1:
        raise ValueError(f"has counts of {len(arrays['targets'])} items, not of {rows}")
    _check_starts("indptr", arrays["indptr"], len(arrays["indices"]))
    _check_starts("pairs.start", arrays["pairs.start"], len(arrays["pairs.earlier"]))
    if len({len(arrays[f"pairs.{name}"]) for name in ("earlier", "later", "weight")}) > 1:
        raise ValueError("has pairs of different lengths")
    if len(arrays["data"]) != len(arrays["indices"]):
        raise ValueError("has other 'data' than 'indices'")
    for name in ("indices", "pairs.earlier", "pairs.later"):
        if len(arrays[name]) and not (arrays[name].min() >= 0 and arrays[name].max() < rows):
            raise ValueError(f"has numbers of no item in {name!r}")
    if (arrays["targets"] < 0).any():
        raise ValueError("has a negative count in 'targets'")


def _check_starts(name: str, starts: np.ndarray, end: int) -> None:
    """Places where rows begin: from 0 on, never back, the last one the end."""
    if not len(starts) or starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
        raise ValueError(f"has wrong places in {name!r}")
