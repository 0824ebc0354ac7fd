"""Seeing how large the tensors are that a computation makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watch(TorchDispatchMode):
    """Notes the shape of every tensor that an operation makes in memory of its own.

    Attributes:
        made: (operation, shape, dtype), without views and results written into an argument.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, tuple[int, ...], torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it made."""
        result = func(*args, **(kwargs or {}))
        held = {_storage(value) for value in tree_leaves((args, kwargs)) if _dense(value)}
        for value in tree_leaves(result):
            if _dense(value) and _storage(value) not in held:
                self.made.append((str(func), tuple(value.shape), value.dtype))
        return result

    def sizes(self) -> list[int]:
        """How many numbers each tensor has."""
        return [torch.Size(shape).numel() for _, shape, _ in self.made]

    def largest(self) -> int:
        """Most numbers in one tensor."""
        return max(self.sizes())


def _dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
