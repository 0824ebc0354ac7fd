"""Optimisers that touch only the rows of a table that a step has a gradient for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn, optim

from recbole_mmm4rec.training.piecewise import PiecewiseAdam, PiecewiseAdamW, PiecewiseNAdam


class _RowWise(optim.Optimizer):
    """Adds sparse gradients to an optimiser of PyTorch.

    A parameter with a dense gradient takes the optimiser's own step. Of one with a sparse gradient, the rows that the
    gradient names are taken out, together with their running means, go through the optimiser's own step, and are put
    back. Where every row has a gradient the two are the same.

    Differs from the dense optimiser for a row without a gradient in a step: it stays where it is. The dense one would
    shrink its running means, move it by what is left of its momentum, and decay it. The number of steps, and with it
    the bias corrections, count all steps, as in PyTorch's ``SparseAdam`` (which has neither weight decay nor Nesterov).

    The state has the shape and names of the dense optimiser's, so a checkpoint of either can be loaded into the other.
    """

    plain: Callable[..., optim.Optimizer]
    """PyTorch's optimiser whose step is taken."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; see :class:`torch.optim.Optimizer`.

        Raises:
            ValueError: a closure, whose sparse gradients would be made too late to be told from the others.
        """
        if closure is not None:
            raise ValueError("row-wise optimisers take no closure")
        with self._without_sparse_gradients() as sparse:
            super().step()
        with torch.no_grad():
            for group, table in sparse:
                self._step_rows(group, table)
        return None

    @contextmanager
    def _without_sparse_gradients(self) -> Iterator[list[tuple[dict[str, Any], nn.Parameter]]]:
        """Hide sparse gradients from the optimiser, which refuses them."""
        sparse = [
            (group, table)
            for group in self.param_groups
            for table in group["params"]
            if table.grad is not None and table.grad.is_sparse
        ]
        gradients = [table.grad for _, table in sparse]
        for _, table in sparse:
            table.grad = None
        try:
            yield sparse
        finally:
            for (_, table), gradient in zip(sparse, gradients, strict=True):
                table.grad = gradient

    def _step_rows(self, group: dict[str, Any], table: nn.Parameter) -> None:
        """The optimiser's step on the rows of a sparse gradient."""
        assert table.grad is not None
        gradient = table.grad.coalesce()  # rows named several times are summed
        rows, state = gradient.indices()[0], self.state[table]
        piece = table.index_select(0, rows)
        piece.grad = gradient.values()
        inner = self.plain([{**group, "params": [piece]}])
        inner.state[piece] = {
            name: value.index_select(0, rows) if _has_rows(value, table) else value for name, value in state.items()
        }
        inner.step()
        table.index_copy_(0, rows, piece)
        for name, value in inner.state[piece].items():
            if not _has_rows(value, piece):
                state[name] = value
                continue
            if name not in state:
                state[name] = torch.zeros_like(table)
            state[name].index_copy_(0, rows, value)


def _has_rows(value: Any, table: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == table.shape


class RowWiseAdam(_RowWise, PiecewiseAdam):
    """Adam on the rows that have a gradient."""

    plain = optim.Adam


class RowWiseAdamW(_RowWise, PiecewiseAdamW):
    """AdamW on the rows that have a gradient; only these decay."""

    plain = optim.AdamW


class RowWiseNAdam(_RowWise, PiecewiseNAdam):
    """NAdam on the rows that have a gradient; only these decay."""

    plain = optim.NAdam


def clippable(parameters: Iterator[nn.Parameter]) -> list[Tensor]:
    """What :func:`torch.nn.utils.clip_grad_norm_` can clip in place of parameters, some with sparse gradients.

    Args:
        parameters: of a model after its backward pass; sparse gradients are summed by row, so that their norm is that
            of the dense gradient.

    Returns:
        the parameters with dense gradients, and for each sparse gradient a tensor whose ``grad`` is its values.
    """
    made: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None or not parameter.grad.is_sparse:
            made.append(parameter)
            continue
        parameter.grad = parameter.grad.coalesce()
        values = torch.empty_like(parameter.grad.values())
        values.grad = parameter.grad.values()
        made.append(values)
    return made
