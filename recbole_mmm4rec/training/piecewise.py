"""Optimisers whose step on a large table takes no other table's worth of memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, optim

PIECE_NUMBERS = 4 * 2**20
"""Numbers of a parameter that are moved at a time: of all that a step makes for them, some 16 MiB tensors."""


class _Piecewise(optim.Optimizer):
    """Lets an optimiser of PyTorch see a large parameter as many small ones, a range of rows each.

    Adam's kinds work number by number, so that nothing changes but memory: their step makes temporary tensors of a
    parameter's size, two for NAdam. On a GPU, where many small launches cost more, parameters stay whole.
    """

    def _init_group(self, group: dict[str, Any], params: list[Tensor], *lists: list[Tensor]) -> bool:
        """PyTorch's hook that lists what its step works on; each list has an entry a parameter, or none at all."""
        has_complex: bool = super()._init_group(group, params, *lists)  # type: ignore[misc]
        everything = [params, *(entries for entries in lists if entries)]
        if not any(_is_large(param) for param in params):
            return has_complex
        rows = [entries.copy() for entries in everything]
        for entries in everything:
            entries.clear()
        for entry in zip(*rows, strict=True):
            for entries, pieces in zip(everything, _pieces(entry), strict=True):
                entries.extend(pieces)
        return has_complex


def _is_large(param: Tensor) -> bool:
    return param.device.type == "cpu" and param.dim() > 0 and param.shape[0] > 1 and param.numel() > PIECE_NUMBERS


def _pieces(entry: tuple[Tensor, ...]) -> list[list[Tensor]]:
    """Of a parameter, its gradient and its states: for each the pieces, which share its memory.

    Numbers of the whole parameter, such as the count of steps, the step changes in place: for all pieces but the first
    in copies, so that they change once.
    """
    param = entry[0]
    if not _is_large(param):
        return [[value] for value in entry]
    count = -(-param.numel() // PIECE_NUMBERS)
    rows = max(1, param.shape[0] // count)
    made = []
    for value in entry:
        if value.shape == param.shape:
            made.append(list(torch.split(value, rows)))
        else:
            made.append([value, *(value.clone() for _ in range(-(-param.shape[0] // rows) - 1))])
    return made


class PiecewiseAdam(_Piecewise, optim.Adam):
    """Adam, a large table piece by piece."""


class PiecewiseAdamW(_Piecewise, optim.AdamW):
    """AdamW, a large table piece by piece."""


class PiecewiseNAdam(_Piecewise, optim.NAdam):
    """NAdam, a large table piece by piece."""
