"""Vectors from a file of any common kind; nothing in it is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.arrays import array_of, read_array
from recbole_mmm4rec.base.atomic_files import read_header, read_rows
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.parquet_files import arrow_mistakes
from recbole_mmm4rec.base.torch_files import load_tensors

ID_NAMES = ("item_id", "item_ids", "ids", "id", "items", "item", "iid", "asin", "parent_asin", "tokens", "token")
_INDEX = "__index_level_0__"  # pandas' numbers of rows, of a frame that is a part of another
WANTED = "one table of (items, numbers) is wanted, with ids beside it, or a vector by id"


@dataclass(frozen=True)
class Brought:
    """What a file of vectors holds.

    Attributes:
        table: (rows, F) float16 or float32.
        ids: of the rows, or None where the file does not say.
        raw: nothing but numbers, so that their width is not known yet; ``table`` has one column.
    """

    table: np.ndarray
    ids: list[str] | None = None
    raw: bool = False


def read_vectors(path: Path) -> Brought:
    """Reads a file of vectors.

    Args:
        path: ``.npy``, ``.npz``, ``.pt`` or ``.pth``, ``.safetensors``, ``.parquet``, an atomic file of RecBole's with
            a token and a ``float_seq`` column, or float32 numbers alone (``.feat1CLS`` as UniSRec writes it).

    Raises:
        UserError: no such file, another kind of content, no table of vectors, or an id that is none.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of vectors")
    read = _READERS.get(path.suffix.lower(), _text_or_numbers)
    try:
        return read(path)
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)})") from None


def _npy(path: Path) -> Brought:
    return Brought(_table(read_array(path, mapped=True)))


def _npz(path: Path) -> Brought:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            parts = {name.removesuffix(".npy"): array_of(archive.read(name)) for name in names}
    except Exception as error:  # a damaged archive makes zipfile raise errors of many kinds
        raise UserError(f"cannot be read ({_first_line(error)})") from None
    return _of_parts(parts)


def _torch(path: Path) -> Brought:
    import torch

    try:
        content = load_tensors(path)
    except pickle.UnpicklingError:  # PyTorch's words are how to read it all the same
        raise UserError("no file of tensors alone; save tensors, or a dictionary of them, and nothing else") from None
    except Exception as error:  # zip and torch have errors of their own
        raise UserError(f"no file of tensors alone ({_first_line(error)})") from None
    if isinstance(content, list | tuple):
        if not content or not all(isinstance(part, torch.Tensor) and part.ndim == 1 for part in content):
            raise UserError(f"holds a {type(content).__name__}; {WANTED}")
        if len({part.shape for part in content}) > 1:
            raise UserError("holds vectors of different lengths")
        content = torch.stack(list(content))
    if isinstance(content, torch.Tensor):
        return Brought(_table(_of_tensor(content)))
    if not isinstance(content, dict):
        raise UserError(f"holds a {type(content).__name__}; {WANTED}")
    return _of_parts({str(key): _of_tensor(value) for key, value in content.items()})


def _safetensors(path: Path) -> Brought:
    from safetensors.torch import load_file

    try:
        content = load_file(path)
    except Exception as error:  # safetensors has errors of its own
        raise UserError(f"no safetensors file ({_first_line(error)})") from None
    return _of_parts({key: _of_tensor(value) for key, value in content.items()})


def _parquet(path: Path) -> Brought:
    with arrow_mistakes(path):
        import pyarrow.parquet as pq

        return _of_table(pq.read_table(path))


def _of_table(table: Any) -> Brought:
    import pyarrow as pa

    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = [field.name for field in table.schema if any(is_kind(field.type) for is_kind in kinds)]
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    named = [name for name in ID_NAMES if name in table.column_names]
    others = named or [name for name in table.column_names if name not in {*lists, *floats}]
    if len(others) > 1 and not (
        named or lists
    ):  # of several the id is the one that is no number, and not the frame's own
        others = [name for name in others if name not in {*whole, _INDEX}]
    if len(lists) > 1 or not (lists or floats) or len(set(others) - set(named[:1])) > (0 if named else 1):
        raise UserError(f"has columns {', '.join(table.column_names)}; an id and a list of numbers are wanted")
    ids = None if not others else _ids(table.column(others[0]).to_pylist())
    if not lists:
        numbers = {*floats, *whole} - {*others[:1], _INDEX}
        wanted = [name for name in table.column_names if name in numbers]
        return Brought(_table(np.stack([table.column(name).to_numpy() for name in wanted], axis=1)), ids)
    column = table.column(lists[0]).combine_chunks()
    lengths = {len(value) for value in column if value.is_valid}
    if column.null_count or len(lengths) != 1:
        raise UserError(f"column '{lists[0]}' has vectors of different lengths, or none in some rows")
    return Brought(_table(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)), ids)


def _text_or_numbers(path: Path) -> Brought:
    """RecBole's atomic layout where the file begins as one, else float32 numbers alone."""
    with path.open("rb") as handle:
        first = handle.readline(65_536)
    if b":float_seq" not in first:
        if not path.suffix.lower().startswith(".feat"):
            known = ", ".join(_READERS)
            raise UserError(f"neither {known}, nor an atomic file with a column of float_seq, nor .feat1CLS")
        if path.stat().st_size % 4 or not path.stat().st_size:
            raise UserError(f"has {path.stat().st_size:,} bytes, which are no float32 numbers")
        return Brought(np.fromfile(path, dtype="<f4")[:, None], raw=True)
    header = read_header(path)
    kinds = list(header.values())
    if sorted(kinds) != ["float_seq", "token"]:
        raise UserError(f"has columns {', '.join(header)}; one token and one float_seq are wanted")
    id_at, vector_at = kinds.index("token"), kinds.index("float_seq")
    ids, rows = [], []
    for number, fields in read_rows(path, header):
        try:
            rows.append(np.array(fields[vector_at].split(), dtype=np.float32))
        except ValueError:
            raise UserError(f"{path} line {number}: {list(header)[vector_at]} holds a word that is no number") from None
        if len(rows[-1]) != len(rows[0]):
            said = f"{len(rows[-1])} numbers where the first line has {len(rows[0])}"
            raise UserError(f"{path} line {number}: {said}")
        ids.append(fields[id_at])
    if not rows:
        raise UserError("has no line after its header")
    return Brought(_table(np.stack(rows)), _ids(ids))


_READERS: dict[str, Callable[[Path], Brought]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}


def _of_parts(parts: Mapping[str, Any]) -> Brought:
    """One table and perhaps its ids, or a vector by id."""
    shapes = ", ".join(f"{name} {np.shape(part)}" for name, part in list(parts.items())[:5]) or "nothing"
    tables = [name for name, part in parts.items() if np.ndim(part) == 2]
    if len(tables) == 1:
        table = _table(parts[tables[0]])
        lists = [name for name in parts if name not in tables]
        named = [name for name in lists if name.lower() in ID_NAMES]
        if len(lists) > 1 and len(named) != 1:
            raise UserError(f"holds {shapes}; which of them are the ids? Call them 'ids'")
        chosen = named or lists
        if chosen and np.ndim(parts[chosen[0]]) != 1:
            raise UserError(f"holds {shapes}; {WANTED}")
        return Brought(table, _ids(list(parts[chosen[0]])) if chosen else None)
    widths = {np.shape(part) for part in parts.values()}
    if tables or len(widths) != 1 or len(next(iter(widths))) != 1:
        raise UserError(f"holds {shapes}; {WANTED}")
    return Brought(_table(np.stack(list(parts.values()))), _ids(list(parts)))


def _of_tensor(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _table(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"has the shape {array.shape}; (items, numbers) is wanted")
    if array.dtype.kind != "f":
        raise UserError(f"holds {array.dtype}; floating-point numbers are wanted")
    return array


def _ids(values: list[Any]) -> list[str]:
    return [_id(value, row) for row, value in enumerate(values)]


def _id(value: Any, row: int) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str | np.str_) and value:
        return str(value)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return str(int(value))
    shown = value.item() if isinstance(value, np.generic) else value  # NumPy 2 names the type of its numbers
    raise UserError(f"row {row}: {shown!r} is no item id")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
