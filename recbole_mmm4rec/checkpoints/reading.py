"""Reading checkpoints that somebody else may have made, without running what they hold.

A RecBole ``.pth`` is a pickle with the configuration as Python objects, and a pickle can name any function to be
called. Here tensors are rebuilt by PyTorch, arrays and numbers of NumPy and matrices of SciPy from their bytes; every
other class or function that a checkpoint of RecBole may name becomes a stand-in that keeps what it is given and does
nothing; a file that names anything else is refused.

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

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.torch_files import load_tensors

_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
_STAND_IN_ROOTS = (
    *("recbole", "recbole_mmm4rec", "torch", "numpy", "scipy", "yaml"),
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


class _Numbers(StandIn):
    """An array of NumPy's on its way: kept are shape, kind of numbers, order and bytes."""

    def array(self) -> np.ndarray:
        """The array.

        Raises:
            ValueError: it holds objects, or other bytes than its shape says.
        """
        _, shape, kind, by_columns, content = self.state
        numbers = np.frombuffer(content, _number_kind(kind)).reshape(shape, order="F" if by_columns else "C")
        return numbers.copy(order="C")


class _Kind(StandIn):
    """What an array holds, as NumPy writes it: a word such as ``f8``, and the order of the bytes."""

    def __init__(self, name: Any, *given: Any) -> None:
        self.name = name

    def dtype(self) -> np.dtype:
        """NumPy's.

        Raises:
            ValueError: something else than numbers and words.
        """
        if not re.fullmatch(r"[biufSU]\d+", str(self.name)):
            raise ValueError("an array holds more than numbers and words")
        return np.dtype((">" if self.state and self.state[1] == ">" else "<") + str(self.name))


def _number_kind(kind: Any) -> np.dtype:
    if not isinstance(kind, _Kind):
        raise ValueError("an array does not say what it holds")
    return kind.dtype()


def _number(kind: Any, content: Any = None) -> Any:
    """A number of NumPy's, as Python's own."""
    return np.frombuffer(content, _number_kind(kind))[0].item()


def _array(*given: Any) -> _Numbers:
    return _Numbers()


def _bytes_of(text: str, coding: str = "latin1") -> bytes:
    """Bytes, which old protocols of pickle write as text."""
    return text.encode("latin1")


_NUMPY = {"scalar": _number, "_reconstruct": _array}


class _Unpickler(pickle._Unpickler):
    """Python's unpickler with a few functions and otherwise stand-ins.

    It is the one that is written in Python: the one in C makes room for as many objects as a number in the file says,
    gibibytes for a file of a kilobyte.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL:
            return _REAL[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in _NUMPY:
            return _NUMPY[name]
        if (module, name) == ("numpy", "dtype"):
            return _Kind
        if (module, name) == ("_codecs", "encode"):
            return _bytes_of
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
            plain = _plain(dict(content)) if isinstance(content, Mapping) else None
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint {str(path)!r} is not read: {_first_line(error)}") from None
    except Exception as error:  # a damaged file may make zip, pickle and PyTorch's readers fail in any way
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {_first_line(error)}") from None
    if plain is None:
        raise UserError(f"checkpoint {str(path)!r} holds a {type(content).__name__}, not a dictionary of weights")
    return plain


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """The content with ``config`` as its settings, and arrays in place of what stands for them."""
    if isinstance(content.get("config"), StandIn):
        state = content["config"].state
        content["config"] = dict(state.get("final_config_dict") or {}) if isinstance(state, dict) else {}
    return {name: part if name == "config" else _filled(part) for name, part in content.items()}


def _filled(value: Any) -> Any:
    """A value with arrays and matrices in place of what stands for them, in any nesting of plain containers.

    Raises:
        ValueError: one cannot be rebuilt.
    """
    if type(value) is dict:
        return {key: _filled(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_filled(part) for part in value)
    if isinstance(value, _Numbers):
        return value.array()
    matrix = re.fullmatch(r"(csr|csc|lil)_(matrix|array)", type(value).__name__)
    return _matrix(matrix[1], value.state) if matrix and isinstance(value, StandIn) else value


def _matrix(form: str, state: Any) -> Any:
    """A matrix of SciPy's from what it was filled with."""
    from scipy import sparse

    parts = {name.lstrip("_"): part for name, part in state.items()}
    if form == "lil":  # lists of columns and of numbers, one list a row
        columns, numbers = (parts[name].state[4] for name in ("rows", "data"))
        rows = [row for row, found in enumerate(columns) for _ in found]
        data, places = ([one for found in part for one in found] for part in (numbers, columns))
        return sparse.coo_matrix((data, (rows, places)), shape=parts["shape"]).tolil()
    compressed = sparse.csr_matrix if form == "csr" else sparse.csc_matrix
    given = tuple(_filled(parts[name]) for name in ("data", "indices", "indptr"))
    matrix = compressed(given, shape=parts["shape"])
    matrix.check_format(full_check=True)  # what lies outside would be read as it stands in memory
    return matrix


def _read(file: Path) -> Any:
    zipped = zipfile.is_zipfile(file)
    if not zipped and _first_byte(file) != b"\x80":
        raise pickle.UnpicklingError("it is no file that PyTorch has written")
    if zipped:
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise pickle.UnpicklingError("it is a TorchScript program, not a checkpoint")
    try:
        return load_tensors(file, mapped=zipped)
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
