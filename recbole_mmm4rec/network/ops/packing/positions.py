"""Which tokens of a packed batch a layer computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from recbole_mmm4rec.network.ops.blocks.blockscan import pair_weights
from recbole_mmm4rec.network.ops.packing.ragged import BlockLayout, Ragged


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The S wanted ones of T tokens: all of them, or the last ones of each sequence.

    Attributes:
        ragged: layout of the T tokens.
        keep: (S,) int64, the wanted ones; None for all.
        width: how many of the last positions of each sequence these are (all of a shorter one); None for all.
    """

    ragged: Ragged
    keep: Tensor | None = None
    width: int | None = None

    def wanted(self, x: Tensor) -> Tensor:
        """(T, …) → (S, …)."""
        return x if self.keep is None else x.index_select(0, self.keep)

    @property
    def blocks(self) -> BlockLayout:
        """The dense blocks of the T tokens, with their wanted ones."""
        return self.ragged.layout(self.width)

    def shares(self, step: Tensor, A: Tensor, skip: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """What a wanted y takes of the x before it, beside C·B, and of its own x.

        Args:
            step: (T, H) Δ; A: (H,); skip: see :class:`~..operands.Operands`.

        Returns:
            (H, Np) for the pairs of :attr:`blocks`, and (S, H).
        """
        own = skip(self.wanted(step))
        (t, s), later = self.blocks.pairs
        return pair_weights(step, A, self.blocks, (t, s), later), own
