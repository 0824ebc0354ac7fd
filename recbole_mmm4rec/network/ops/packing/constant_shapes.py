"""Packed batches of a shape that is known beforehand: what a CUDA graph can record.

The layout of :class:`.ragged.Ragged` depends on the data: reading T from the device waits for
it, and a recorded step cannot change its shapes. Here T is a number that the caller gives; the tokens behind the last
sequence belong to a sequence of their own that nothing reads, and every index is computed by the device alone.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from recbole_mmm4rec.network.ops.packing.ragged import Block, Ragged, refuse_lengths


def count_tokens(lengths: Tensor, max_len: int) -> int:
    """The number of tokens of a batch, found on the processor before the batch goes to the device.

    Args:
        lengths: (B,) int64 on the processor.
        max_len: L.

    Returns:
        Σ lengths.

    Raises:
        ValueError: a length below 1 or above ``max_len``; :class:`StaticRagged` does not look.
    """
    refuse_lengths(lengths, max_len)
    return int(lengths.sum())


class StaticRagged(Ragged):
    """A packed batch of a given number of tokens, in the caller's order; attributes as in :class:`Ragged`.

    Tokens that are too many form one more sequence: ``rows`` is B there. They are copies of arbitrary positions of the
    batch, so that their values are finite, and no result of a real sequence reads them.
    """

    constant = True

    def __init__(self, lengths: Tensor, max_len: int, tokens: int) -> None:
        """Lay out sequences without looking at their lengths.

        Args:
            lengths: (B,) int64, each in 1 … ``max_len``.
            max_len: L.
            tokens: T, at least the sum of ``lengths`` (the caller's duty, see :func:`count_tokens`).
        """
        self.lengths = lengths
        self.max_len = self.longest = max_len
        self._layouts = {}
        count = lengths.numel()
        ends = torch.cumsum(lengths, 0)
        self.starts = ends - lengths
        self.last = ends - 1
        self.order = torch.arange(count, device=lengths.device)
        self.places = torch.arange(tokens, device=lengths.device)  # (T,)
        self.rows = torch.searchsorted(ends, self.places, right=True)
        self.cols = self.places - torch.cat([self.starts, ends[-1:]]).index_select(0, self.rows)
        self.real = self.rows < count  # (T,) bool

    @cached_property
    def flat(self) -> Tensor:
        """(T,) int64, the place of each token in a flattened (B·L) layout; anywhere there for tokens too many."""
        size = self.lengths.numel() * self.max_len
        return torch.where(self.real, self.rows * self.max_len + self.cols, self.places % size)

    @property
    def blocks(self) -> list[Block]:
        """Not known.

        Raises:
            RuntimeError: always; the lengths are on the device alone.
        """
        raise RuntimeError("a layout of constant shape has no dense blocks: its lengths are on the device alone")

    def arrange(self, per_sequence: Tensor) -> Tensor:
        """(B, …), as it is."""
        return per_sequence

    def restore(self, per_sequence: Tensor) -> Tensor:
        """(B, …), as it is."""
        return per_sequence

    def unpack(self, tokens: Tensor) -> Tensor:
        """(T, …) → (B, L, …), zeros elsewhere."""
        count = self.lengths.numel()
        size = count * self.max_len
        slots = torch.where(self.real, self.flat, size)  # tokens too many go into one row more, which is cut off
        padded = tokens.new_zeros(size + 1, *tokens.shape[1:]).index_copy(0, slots, tokens)
        return padded[:size].unflatten(0, (count, self.max_len))

    def spread(self, per_sequence: Tensor) -> Tensor:
        """(B, …) → (T, …), each token its sequence's value, the last one's for tokens too many."""
        return per_sequence.index_select(0, self.rows.clamp(max=self.lengths.numel() - 1))

    def collect(self, tokens: Tensor) -> Tensor:
        """(T, …) → (B, …), the sum over each sequence's tokens."""
        count = self.lengths.numel()
        return tokens.new_zeros(count + 1, *tokens.shape[1:]).index_add(0, self.rows, tokens)[:count]

    def tail(self, width: int) -> tuple[Tensor, Ragged]:
        """The last ``width`` tokens of each sequence (all of a shorter one), in a layout of B·width tokens.

        Returns:
            (B·width,) int64 indices of these tokens, any for those too many, and their own layout.
        """
        count, lengths = self.lengths.numel(), self.lengths.clamp(max=width)
        short = StaticRagged(lengths, min(width, self.max_len), count * width)
        tokens = short.spread(self.last + 1 - lengths) + short.cols
        return torch.where(short.real, tokens, short.places % len(self)), short
