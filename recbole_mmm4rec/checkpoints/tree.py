"""A state as a tree of plain values in JSON and tensors by name, and back: nothing in it can be run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SPARSE = ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")


class Unwritable(TypeError):  # noqa: N818  it is about a value, not an error of the program's
    """A value that neither JSON nor a tensor can hold."""


def to_tree(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """What of a state goes into JSON, and its tensors by their path.

    Args:
        state: tensors, NumPy's arrays and numbers, SciPy's sparse matrices, and None, bool, int, float and str in any
            nesting of dictionaries, lists, tuples and sets.

    Returns:
        plain values, in which ``{"tensor": name}`` stands for a tensor; and tensors by name, one for those that share
        their memory.

    Raises:
        Unwritable: naming the place of another value.
    """
    tensors: dict[str, Tensor] = {}
    return _Writer(tensors).written(state, ""), tensors


class _Writer:
    """Takes tensors out of a state."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.known: dict[tuple[Any, ...], str] = {}

    def written(self, value: Any, path: str) -> Any:
        """A value as JSON."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, np.generic):
            return self.written(value.item(), path)
        if isinstance(value, list):
            return [self.written(part, f"{path}/{at}") for at, part in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": [self.written(part, f"{path}/{at}") for at, part in enumerate(value)]}
        if isinstance(value, (set, frozenset)):
            return {"set": [self.written(part, path) for part in sorted(value, key=repr)]}
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value, path)}
        if isinstance(value, np.ndarray):
            return {"array": self._tensor(self._numbers(value, path), path)}
        if getattr(value, "format", None) in _SPARSE and hasattr(value, "tocoo"):
            return self._sparse(value, path)
        raise Unwritable(f"{path.strip('/') or 'it'} is a {type(value).__name__}")

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        if all(type(key) is str for key in value):
            return {"dict": {key: self.written(part, f"{path}/{key}") for key, part in value.items()}}
        return {
            "pairs": [[self.written(key, path), self.written(part, f"{path}/{key}")] for key, part in value.items()]
        }

    def _tensor(self, value: Tensor, path: str) -> str:
        if value.layout != torch.strided or value.is_quantized:
            raise Unwritable(f"{path.strip('/')} is no dense tensor")
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else (path,)
        if place not in self.known:
            self.known[place] = path.strip("/") or "tensor"
            self.tensors[self.known[place]] = value.detach()
        return self.known[place]

    def _numbers(self, value: np.ndarray, path: str) -> Tensor:
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise Unwritable(f"{path.strip('/')} is an array of {value.dtype}")
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))

    def _sparse(self, value: Any, path: str) -> Any:
        points = value.tocoo()
        parts = {
            name: self.written(np.asarray(getattr(points, name)), f"{path}/{name}") for name in ("data", "row", "col")
        }
        return {"sparse": [value.format, list(map(int, value.shape)), *parts.values()]}


def from_tree(tree: Any, tensor: Callable[[str], Tensor]) -> Any:
    """The state again.

    Args:
        tree: what :func:`to_tree` gave, read from JSON.
        tensor: gives a tensor by its name.

    Raises:
        ValueError, KeyError, TypeError: it is another tree.
    """
    if isinstance(tree, list):
        return [from_tree(part, tensor) for part in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    if kind == "dict":
        return {key: from_tree(part, tensor) for key, part in inner.items()}
    if kind == "pairs":
        return {from_tree(key, tensor): from_tree(part, tensor) for key, part in inner}
    if kind == "tuple":
        return tuple(from_tree(part, tensor) for part in inner)
    if kind == "set":
        return {from_tree(part, tensor) for part in inner}
    if kind == "float":
        return float(inner)
    if kind == "tensor":
        return tensor(inner)
    if kind == "array":
        return tensor(inner).numpy()
    if kind == "sparse":
        return _matrix(inner[0], inner[1], *(from_tree(part, tensor) for part in inner[2:]))
    raise ValueError(f"a {kind!r} is not known")


def _matrix(form: str, shape: list[int], data: Any, row: Any, col: Any) -> Any:
    from scipy import sparse

    if form not in _SPARSE:
        raise ValueError(f"a matrix in the form {form!r} is not known")
    return sparse.coo_matrix((data, (row, col)), shape=tuple(shape)).asformat(form)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain values: words of RecBole's lists and devices by their names; classes are left out.

    Args:
        settings: ``final_config_dict`` of RecBole's configuration.
    """
    found = {}
    for key, value in settings.items():
        if not isinstance(value, type):
            found[key] = plain_value(value)
    return found


def plain_value(value: Any) -> Any:
    """A setting's value without objects, in any nesting."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {plain_value(key): plain_value(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_value(part) for part in value)
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
