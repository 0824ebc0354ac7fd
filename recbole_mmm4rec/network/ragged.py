"""Packed batches: the valid positions of right-padded sequences, one after the other, nothing between.

A batch of B sequences of up to L positions holds T valid tokens; on shopping data T is a fraction of B·L, and every
wide product runs on the T tokens alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, to be laid out densely.

    Attributes:
        tokens: (n, l) int64, the packed token at each position; padded positions point at a valid token.
        valid: (n, l) bool, False at padded positions.
    """

    tokens: Tensor
    valid: Tensor


class Ragged:
    """Where the tokens of a packed batch come from.

    Attributes:
        lengths: (B,) int64, valid positions of each sequence, at least 1.
        max_len: L.
        rows: (T,) int64, the sequence of each token.
        cols: (T,) int64, the position of each token in its sequence.
        starts: (B,) int64, the first token of each sequence.
        last: (B,) int64, the last token of each sequence.
    """

    def __init__(self, lengths: Tensor, max_len: int) -> None:
        """Lay out sequences of ``lengths`` (B,) int64.

        Raises:
            ValueError: a length below 1 or above ``max_len``.
        """
        if lengths.numel() == 0:
            raise ValueError("a batch must hold at least one sequence")
        low, high = (int(bound) for bound in torch.aminmax(lengths))
        if low < 1 or high > max_len:
            row = int(torch.nonzero((lengths < 1) | (lengths > max_len))[0, 0])
            raise ValueError(
                f"item_seq_len[{row}] is {int(lengths[row])}: every history must hold 1 to {max_len} items; "
                "leave out users with an empty history and cut longer ones to the last items"
            )
        self.lengths = lengths
        self.max_len = max_len
        self.longest = high
        ends = torch.cumsum(lengths, 0)
        self.starts = ends - lengths
        self.last = ends - 1
        self.rows = torch.repeat_interleave(torch.arange(lengths.numel(), device=lengths.device), lengths)
        self.cols = torch.arange(self.rows.numel(), device=lengths.device) - self.starts[self.rows]

    def __len__(self) -> int:
        """T, the number of tokens."""
        return self.rows.numel()

    @cached_property
    def flat(self) -> Tensor:
        """(T,) int64, the place of each token in a flattened (B·L) layout."""
        return self.rows * self.max_len + self.cols

    def pack(self, padded: Tensor) -> Tensor:
        """(B, L, …) → (T, …), the valid positions."""
        return padded.flatten(0, 1).index_select(0, self.flat)

    def tail(self, width: int) -> tuple[Tensor, Ragged]:
        """The last ``width`` tokens of each sequence (all of a shorter one).

        Returns:
            (S,) int64 indices of these tokens, and their own layout.
        """
        lengths = self.lengths.clamp(max=width)
        short = Ragged(lengths, min(width, self.max_len))
        tokens = (self.last + 1 - lengths).index_select(0, short.rows) + short.cols
        return tokens, short

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The sequences grouped by length (up to the next power of two), so that dense work wastes little."""
        found = []
        low, high = 0, 1
        while low < self.longest:
            picked = torch.nonzero((self.lengths > low) & (self.lengths <= high)).squeeze(1)
            if picked.numel():
                lengths = self.lengths.index_select(0, picked)
                steps = torch.arange(int(lengths.max()), device=lengths.device)
                valid = steps < lengths.unsqueeze(1)
                tokens = self.starts.index_select(0, picked).unsqueeze(1) + steps * valid
                found.append(Bucket(tokens, valid))
            low, high = high, high * 2
        return found
