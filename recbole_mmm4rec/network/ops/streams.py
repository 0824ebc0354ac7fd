"""The vectors that enter a layer, and what the Linear before a scan makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor, nn

from recbole_mmm4rec.network.ops.linear import split_linear
from recbole_mmm4rec.network.ops.operands import Wide

Projections = tuple[Tensor, Wide, Tensor]
"""z (S, E), x | B | C (T, E + 2GN) and dt (T, H)."""


class Stream(ABC):
    """A modality's vectors at the T tokens of a packed batch."""

    @property
    @abstractmethod
    def x(self) -> Tensor:
        """(T, D)."""

    @abstractmethod
    def project(self, linear: nn.Linear, widths: tuple[int, int, int], keep: Tensor | None, lazy: bool) -> Projections:
        """A Linear of the stream in three parts.

        Args:
            linear: D → the sum of ``widths``.
            widths: of z, of x | B | C and of dt.
            keep: (S,) int64 tokens whose z is wanted, None for all.
            lazy: x | B | C may be left for the scan to complete, see :class:`.operands.Wide`.
        """


class Vectors(Stream):
    """Vectors of their own for every token."""

    def __init__(self, x: Tensor) -> None:
        """Keep x (T, D)."""
        self._x = x

    @property
    def x(self) -> Tensor:
        """(T, D)."""
        return self._x

    def project(self, linear: nn.Linear, widths: tuple[int, int, int], keep: Tensor | None, lazy: bool) -> Projections:
        """See :meth:`Stream.project`."""
        z, wide, dt = split_linear(self._x, linear.weight, linear.bias, widths, keep, 1 if lazy else None)
        return z, _wide(wide, linear, widths[0], lazy), dt


class Prepared:
    """Vectors that many tokens have in common: those of all items, or of histories whose prefixes are asked for.

    Attributes:
        x: (R, D).
    """

    def __init__(self, x: Tensor) -> None:
        """Keep x (R, D)."""
        self.x = x
        self._made: dict[nn.Linear, tuple[Tensor, ...]] = {}

    def projected(self, linear: nn.Linear, widths: tuple[int, int, int]) -> tuple[Tensor, ...]:
        """z, x | B | C and dt of every row, made once for each Linear."""
        if linear not in self._made:
            self._made[linear] = split_linear(self.x, linear.weight, linear.bias, widths)
        return self._made[linear]

    def rows(self, tokens: Tensor) -> Stream:
        """The stream whose tokens are these rows, (T,) int64."""
        return _Rows(self, tokens)


class _Rows(Stream):
    """Tokens that are rows of a :class:`Prepared`."""

    def __init__(self, table: Prepared, tokens: Tensor) -> None:
        self.table, self.tokens = table, tokens

    @cached_property
    def x(self) -> Tensor:
        """(T, D)."""
        return self.table.x.index_select(0, self.tokens)

    def project(self, linear: nn.Linear, widths: tuple[int, int, int], keep: Tensor | None, lazy: bool) -> Projections:
        """See :meth:`Stream.project`."""
        z, wide, dt = self.table.projected(linear, widths)
        kept = self.tokens if keep is None else self.tokens.index_select(0, keep)
        if lazy and not torch.is_grad_enabled():
            made = Wide(wide, rows=self.tokens)
        else:
            made = Wide(wide.index_select(0, self.tokens))
        return z.index_select(0, kept), made, dt.index_select(0, self.tokens)


def states_of(x: Tensor, linear: nn.Linear, widths: tuple[int, int], lazy: bool) -> tuple[Wide, Tensor]:
    """A Linear of x (T, D) in two parts: x | B (T, E + GN) and dt (T, H), ``lazy`` as in :meth:`Stream.project`."""
    wide, dt = split_linear(x, linear.weight, linear.bias, widths, bare=0 if lazy else None)
    return _wide(wide, linear, 0, lazy), dt


def _wide(values: Tensor, linear: nn.Linear, first: int, lazy: bool) -> Wide:
    """``values`` (T, channels), which a ``lazy`` Linear has left without its bias, from output ``first`` on."""
    return Wide(values, linear.bias[first : first + values.shape[1]].detach() if lazy else None)
