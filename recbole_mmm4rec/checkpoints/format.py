"""The format of checkpoints: the one module that knows how a state becomes a file and a file a state.

A state is a dictionary of tensors and plain values in any nesting; ``config``, where it is there, is RecBole's
configuration as plain settings. A file is one of safetensors: tensors by their path, and in its metadata the rest of
the state as JSON, the number of this format and the SHA-256 of the whole file, counted with zeros in its own place.
Nothing in such a file can be run. A name that ends with ``.pth`` stands for a pickle as stock RecBole writes it, which
is written where somebody asks for it and read by :mod:`~recbole_mmm4rec.checkpoints.reading`, which runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.checkpoints.reading import read_checkpoint
from recbole_mmm4rec.checkpoints.tree import Unwritable, from_tree, plain_settings, to_tree

ENDING = ".safetensors"
"""How the names of our checkpoints end."""
STOCK = ".pth"
"""How the names of RecBole's end, and of ours before version 1 of this format."""
FORMAT = 1
"""The number of the format; files of a higher one are refused."""

_HEAD = '{"__metadata__":{"kind":"mmm4rec checkpoint","format":"%d","sha256":"'
_BEGIN = re.compile(rb'\{"__metadata__":\{"kind":"mmm4rec checkpoint","format":"(\d{1,9})","sha256":"')
_DIGEST = 64
_BLANK = b"0" * _DIGEST
_PIECE = 2**24
_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state; the file has its name only when it is whole, and is on the disk when this returns.

    Args:
        path: the file; with the ending ``.pth`` it is RecBole's pickle.
        state: what is written; ``config`` may be RecBole's object.

    Raises:
        UserError: it cannot be written; what had the name before is as it was.
    """
    if str(path).endswith(STOCK):
        with whole_file(path) as file:
            torch.save(dict(state), file, pickle_protocol=4)
        return
    if hasattr(state.get("config"), "final_config_dict"):
        state = {**state, "config": plain_settings(state["config"].final_config_dict)}
    try:
        tree, tensors = to_tree(dict(state))
        header, ordered = _header(tree, tensors)
    except Unwritable as error:
        told = f"{error}, which no checkpoint can hold; leave it out of other_parameter_name"
        raise UserError(f"{str(path)!r} cannot be written: {told}") from None
    digest = hashlib.sha256(header)
    with whole_file(path, durable=True) as file:
        file.write(header)
        for tensor in ordered:
            for piece in _bytes(tensor):
                digest.update(piece)
                file.write(piece)
        file.seek(8 + len(_HEAD % FORMAT))
        file.write(digest.hexdigest().encode())


def _header(tree: Any, tensors: Mapping[str, Tensor]) -> tuple[bytes, list[Tensor]]:
    """The length and the JSON that a file begins with, and the tensors in the order that they follow in."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise Unwritable(f"{name} is of {tensor.dtype}")
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # each at a multiple of its size
    places, end = {}, 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.dtype.itemsize
        places[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    told = json.dumps(json.dumps(tree, separators=(",", ":"), allow_nan=False))
    text = f'{_HEAD % FORMAT}{_BLANK.decode()}","tree":{told}}}'
    rest = json.dumps(places, separators=(",", ":"))
    text += f",{rest[1:]}" if places else "}"
    content = text.encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content, [tensors[name] for name in names]


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    """A tensor's bytes, some at a time."""
    flat = tensor.reshape(-1)
    step = max(1, _PIECE // flat.dtype.itemsize)
    for start in range(0, len(flat), step):
        piece = flat[start : start + step].cpu().contiguous()
        yield memoryview(piece.view(torch.uint8).numpy())  # type: ignore[arg-type]


def read(path: str | Path) -> dict[str, Any]:
    """A state, its tensors on the processor, ``config`` as a plain dictionary of settings; nothing in the file is run.

    Raises:
        UserError: in one line: there is no such file, it is none that can be read, it is not as it was written, or a
            newer version of this program has written it.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"checkpoint {str(path)!r} does not exist, or is no file")
    try:
        with file.open("rb") as opened:
            begin = opened.read(8 + len(_HEAD % FORMAT) + 16)
    except OSError as error:
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {error.strerror}") from None
    if begin[8:9] != b"{" and not str(path).endswith(ENDING):
        return _older(read_checkpoint(path))
    try:
        return _read(file, begin)
    except UserError as error:
        raise UserError(f"checkpoint {str(path)!r} {error}") from None
    except Exception as error:  # a file made to deceive may make the readers of JSON and tensors fail in any way
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {_one_line(error)}") from None


def _read(file: Path, begin: bytes) -> dict[str, Any]:
    found = _BEGIN.match(begin, 8)
    if not found:
        raise UserError("is no checkpoint of this program, or is damaged")
    if int(found[1]) > FORMAT:
        raise UserError(
            f"was written by a newer version of this program (format {int(found[1])}; this one reads up to {FORMAT}): "
            "pip install -U recbole-mmm4rec"
        )
    _check_bytes(file, found.end())
    with safe_open(file, framework="pt", device="cpu") as opened:
        state = from_tree(json.loads(opened.metadata()["tree"]), opened.get_tensor)
    if not isinstance(state, dict):
        raise UserError("holds no dictionary")
    return state


def _check_bytes(file: Path, place: int) -> None:
    """Refuse a file of which any byte is another than when it was written.

    Args:
        file: the checkpoint.
        place: where its hash stands.
    """
    total = hashlib.sha256()
    with file.open("rb") as opened:
        total.update(opened.read(place))
        noted = opened.read(_DIGEST)
        total.update(_BLANK)
        while piece := opened.read(_PIECE):
            total.update(piece)
    if noted != total.hexdigest().encode():
        raise UserError("is damaged: its bytes are not those that were written; take another copy of it")


def _older(state: dict[str, Any]) -> dict[str, Any]:
    """A pickle's content; of our notes of the last epoch before parts had names of their own, its groups undone."""
    if isinstance(state.get("noted"), dict):
        more = state.pop("more", None)
        state = {**state, **state.pop("noted"), **(more if isinstance(more, dict) else {})}
        state = {name: value for name, value in state.items() if value is not None or name == "best_valid_result"}
    return state


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
