"""Tensors in safetensors files: written piece by piece, read without a copy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, pieces

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
}
_LINE = 64
"""The first tensor begins at a multiple of it, as memory of PyTorch's own does."""


def write_tensors(file: Path, tensors: Mapping[str, Tensor | FrozenTable]) -> None:
    """Write a safetensors file; nothing is copied as a whole, as the library's own writer does.

    Args:
        file: its name.
        tensors: name to tensor, or to a table that may lie on disk, as it is stored.
    """
    header, end = {}, 0
    for name, values in tensors.items():
        begin, end = end, end + int(np.prod(values.shape)) * values.dtype.itemsize
        header[name] = {"dtype": _NAMES[values.dtype], "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _LINE)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            for part in _parts(values):
                out.write(part.contiguous().flatten().view(torch.uint8).numpy().data)


def _parts(values: Tensor | FrozenTable) -> Iterator[Tensor]:
    if isinstance(values, FrozenTable):
        yield from (values.take(piece, values.dtype).cpu() for piece in pieces(*values.shape))
    elif values.dim() < 2 or not values.numel():
        if values.numel():
            yield values.detach().cpu().reshape(-1)
    else:
        yield from (values[piece].detach().cpu() for piece in pieces(len(values), max(1, values[0].numel())))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped: what is not looked at is not read.

    Raises:
        UserError: it is none.
    """
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  it is no dictionary
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
