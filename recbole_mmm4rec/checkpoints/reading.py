"""Reading checkpoints that somebody else may have made, without running what they hold.

A RecBole ``.pth`` is a pickle with the configuration as Python objects, and a pickle can name any function to be
called. Here tensors are rebuilt by PyTorch; every other class or function that a checkpoint of RecBole may name becomes
a stand-in that keeps what it is given and does nothing; a file that names anything else is refused.

What is trusted: PyTorch's reader of tensors, and Python's unpickler with the names that :data:`_REAL` lists. What is
not guarded against: a file that is made to take much memory.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError

_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
_STAND_IN_ROOTS = (
    *("recbole", "recbole_mmm4rec", "torch", "numpy", "yaml"),
    *("collections", "pathlib", "datetime", "copyreg", "_codecs"),
)
_STAND_IN_BUILTINS = ("set", "frozenset", "complex", "bytearray", "object", "slice", "range")


class StandIn:
    """Takes the place of an object that is not rebuilt.

    Attributes:
        state: what the object would have been filled with, None where nothing was.
    """

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything and keep nothing."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Of a dictionary's kin; not kept."""

    def append(self, value: Any) -> None:
        """Of a list's kin; not kept."""

    def extend(self, values: Any) -> None:
        """Of a list's kin; not kept."""


class _Unpickler(pickle.Unpickler):
    """Python's unpickler with three functions and otherwise stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL:
            return _REAL[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        builtin = module in ("builtins", "__builtin__") and name in _STAND_IN_BUILTINS
        if builtin or module.partition(".")[0] in _STAND_IN_ROOTS:
            return type(name.rpartition(".")[2] or "StandIn", (StandIn,), {})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint of a RecBole trainer holds")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors on the processor; nothing in the file is run.

    Args:
        path: a ``.pth`` of a RecBole trainer, or a file of tensors and plain values such as the published ``.ckpt``.

    Returns:
        The top-level dictionary; of a RecBole checkpoint with ``config`` as a plain dictionary of its settings.

    Raises:
        UserError: in one line: no such file, no checkpoint, or one that holds more than tensors and plain values.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"checkpoint {str(path)!r} does not exist, or is no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch remarks on RecBole's version of pickle
            content = _read(file)
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint {str(path)!r} is not read: {_first_line(error)}") from None
    except Exception as error:  # a damaged file may make zip, pickle and PyTorch's readers fail in any way
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {_first_line(error)}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"checkpoint {str(path)!r} holds a {type(content).__name__}, not a dictionary of weights")
    content = dict(content)
    if isinstance(content.get("config"), StandIn):
        state = content["config"].state
        content["config"] = dict(state.get("final_config_dict") or {}) if isinstance(state, dict) else {}
    return content


def _read(file: Path) -> Any:
    zipped = zipfile.is_zipfile(file)
    if not zipped and _first_byte(file) != b"\x80":
        raise pickle.UnpicklingError("it is no file that PyTorch has written")
    if zipped:
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise pickle.UnpicklingError("it is a TorchScript program, not a checkpoint")
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if not zipped:
            raise pickle.UnpicklingError(f"it holds more than tensors and plain values ({_reason(error)})") from None
    restricted = SimpleNamespace(Unpickler=_Unpickler, __name__=__name__)
    return torch.load(file, map_location="cpu", weights_only=False, mmap=True, pickle_module=restricted)


def _first_byte(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(1)


def _reason(error: Exception) -> str:
    """What PyTorch's refusal is about, without its advice how to get round it."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {named[1]}" if named else "its format is not the one of weights alone"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def tensors(mapping: Any) -> dict[str, Tensor] | None:
    """A state dict as names and tensors, None for anything else."""
    if not isinstance(mapping, Mapping) or not mapping:
        return None
    right = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in mapping.items())
    return {name: value.detach() for name, value in mapping.items()} if right else None
