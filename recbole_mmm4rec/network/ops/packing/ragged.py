"""Packed batches: the valid positions of right-padded sequences, one after the other, nothing between.

A batch of B sequences of up to L positions holds T valid tokens; on shopping data T is a fraction of B·L, and every
wide product runs on the T tokens alone. The sequences are packed in the order of their lengths, so that those of one
length form a dense block (n, l) without any padding. Where few sequences have a length, a block may also hold some
shorter ones with idle tokens in front: a few more tokens for fewer blocks, each of which costs a processor its share of
small operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# a block more costs a processor about as much as this many tokens more (both from steps on two cores)
BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Block:
    """n sequences of l tokens, dense: tokens ``first_token … first_token + n·l``.

    Attributes:
        first_row: the first of the sequences.
        first_token: the first of their tokens.
        count: n.
        length: l.
        idle: (n,) int64, how many of each sequence's first tokens stand for nothing; None where there are none.
    """

    first_row: int
    first_token: int
    count: int
    length: int
    idle: Tensor | None = None


def block_lengths(lengths: list[int], counts: list[int], shortest: int) -> list[int]:
    """The length of the block that each length belongs to, chosen so that fewer blocks pay for their idle tokens.

    Args:
        lengths: the lengths of a batch, ascending.
        counts: how many sequences have each.
        shortest: lengths below it keep a block of their own.
    """
    chosen = list(lengths)
    for at in range(len(lengths) - 2, -1, -1):
        more = counts[at] * (chosen[at + 1] - lengths[at])
        if lengths[at] >= shortest and more <= BLOCK_TOKENS:
            chosen[at] = chosen[at + 1]
    return chosen


@dataclass(frozen=True)
class Piece:
    """A block's slices of tokens, of wanted rows and of (wanted, earlier) pairs; ``idle`` as in :class:`Block`."""

    tokens: slice
    kept: slice
    pairs: slice
    count: int
    length: int
    wanted: int
    idle: Tensor | None = None

    @cached_property
    def busy(self) -> Tensor | None:
        """(n, l, 1) bool, False at idle tokens; None where there are none."""
        if self.idle is None:
            return None
        return (torch.arange(self.length, device=self.idle.device) >= self.idle.unsqueeze(1)).unsqueeze(2)


class BlockLayout:
    """Slices and pair indices of all blocks of a packed batch.

    Attributes:
        pieces: one for each block.
        kept: the number S of wanted tokens, Σ n·w.
        longest: the largest l.
    """

    def __init__(self, blocks: list[Block], wanted: int | None, device: torch.device) -> None:
        """Lay out a batch of which the last ``wanted`` positions of each sequence (None: all) are wanted."""
        self.pieces: list[Piece] = []
        token = kept = pair = 0
        for block in blocks:
            n, length = block.count, block.length
            w = length if wanted is None else min(wanted, length)
            sizes = (n * length, n * w, n * w * length)
            self.pieces.append(
                Piece(
                    slice(token, token + sizes[0]),
                    slice(kept, kept + sizes[1]),
                    slice(pair, pair + sizes[2]),
                    n,
                    length,
                    w,
                    block.idle,
                )
            )
            token, kept, pair = token + sizes[0], kept + sizes[1], pair + sizes[2]
        self.kept = kept
        self.longest = max(block.length for block in blocks)
        self.device = device

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(2, Np) int64, the tokens t and s of every pair, and (Np,) bool, True where s comes after t or is idle."""
        at, later = [], []
        for piece in self.pieces:
            first = torch.arange(piece.tokens.start, piece.tokens.stop, piece.length, device=self.device)
            tokens = first.unsqueeze(1) + torch.arange(piece.length, device=self.device)  # (n, l)
            ends = tokens[:, piece.length - piece.wanted :]  # (n, w)
            t, s = torch.broadcast_tensors(ends.unsqueeze(2), tokens.unsqueeze(1))
            at.append(torch.stack([t.flatten(), s.flatten()]))
            after = s > t if piece.busy is None else (s > t) | ~piece.busy.transpose(1, 2)
            later.append(after.flatten())
        return torch.cat(at, 1), torch.cat(later)


def refuse_lengths(lengths: Tensor, max_len: int) -> None:
    """Name the first length that is below 1 or above ``max_len``: lengths (B,) int64.

    Raises:
        ValueError: there is one.
    """
    wrong = torch.nonzero((lengths < 1) | (lengths > max_len))
    if len(wrong):
        row = int(wrong[0, 0])
        raise ValueError(
            f"item_seq_len[{row}] is {int(lengths[row])}: every history must hold 1 to {max_len} items; "
            "leave out users with an empty history and cut longer ones to the last items"
        )


class Ragged:
    """Where the tokens of a packed batch come from.

    Attributes:
        order: (B,) int64, the caller's sequence that stands at each packed place, shortest first.
        lengths: (B,) int64, valid positions of each packed sequence, at least 1, ascending.
        max_len: L.
        rows: (T,) int64, the packed sequence of each token.
        cols: (T,) int64, the position of each token in its sequence; 0 for an idle one.
        starts: (B,) int64, the first token of each packed sequence that is not idle.
        last: (B,) int64, the last token of each packed sequence.
        constant: whether the number of tokens is known beforehand.
    """

    constant = False

    def __init__(self, lengths: Tensor, max_len: int, merge_from: int | None = None) -> None:
        """Lay out sequences of ``lengths`` (B,) int64.

        Args:
            lengths: valid positions of each sequence.
            max_len: L.
            merge_from: sequences at least that long may share a block with longer ones, idle tokens in front; None for
                blocks of one length each, without idle tokens.

        Raises:
            ValueError: a length below 1 or above ``max_len``.
        """
        if lengths.numel() == 0:
            raise ValueError("a batch must hold at least one sequence")
        self.lengths, self.order = torch.sort(lengths, stable=True)
        low, high = int(self.lengths[0]), int(self.lengths[-1])
        if low < 1 or high > max_len:
            refuse_lengths(lengths, max_len)
        self._layouts: dict[int | None, BlockLayout] = {}
        self.max_len = max_len
        self.longest = high
        taken = self.lengths if merge_from is None else self._taken(merge_from)  # (B,) tokens of each sequence
        ends = torch.cumsum(taken, 0)
        self.starts = ends - self.lengths
        self.last = ends - 1
        self.rows = torch.repeat_interleave(torch.arange(lengths.numel(), device=lengths.device), taken)
        self.cols = torch.arange(self.rows.numel(), device=lengths.device) - self.starts[self.rows]
        self._places = taken
        if merge_from is not None:
            self.cols.clamp_(min=0)

    def _taken(self, shortest: int) -> Tensor:
        """(B,) int64, the length of the block of each packed sequence."""
        lengths, counts = torch.unique_consecutive(self.lengths, return_counts=True)
        chosen = block_lengths(lengths.tolist(), counts.tolist(), shortest)
        return torch.repeat_interleave(torch.tensor(chosen, device=lengths.device), counts)

    @cached_property
    def blocks(self) -> list[Block]:
        """Dense blocks of sequences, shortest first."""
        lengths, counts = torch.unique_consecutive(self._places, return_counts=True)
        found, row, token = [], 0, 0
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
            idle = length - self.lengths[row : row + count]
            found.append(Block(row, token, count, length, idle if bool(idle.any()) else None))
            row, token = row + count, token + count * length
        return found

    def __len__(self) -> int:
        """T, the number of tokens."""
        return self.rows.numel()

    @cached_property
    def seq_idx(self) -> Tensor:
        """(T,) int32, :attr:`rows` as the kernels take them."""
        return self.rows.to(torch.int32)

    @cached_property
    def flat(self) -> Tensor:
        """(T,) int64, the place of each token in a flattened (B·L) layout of packed sequences."""
        return self.rows * self.max_len + self.cols

    def layout(self, wanted: int | None = None) -> BlockLayout:
        """Slices of the blocks of which the last ``wanted`` positions of each sequence (None: all) are wanted."""
        if wanted not in self._layouts:
            self._layouts[wanted] = BlockLayout(self.blocks, wanted, self.lengths.device)
        return self._layouts[wanted]

    def arrange(self, per_sequence: Tensor) -> Tensor:
        """(B, …) in the caller's order → in the packed order."""
        return per_sequence.index_select(0, self.order)

    def restore(self, per_sequence: Tensor) -> Tensor:
        """(B, …) in the packed order → in the caller's order."""
        places = torch.arange(self.order.numel(), device=self.order.device)
        return per_sequence.index_select(0, torch.empty_like(self.order).scatter_(0, self.order, places))

    def pack(self, padded: Tensor) -> Tensor:
        """(B, L, …) of packed sequences → (T, …), the valid positions."""
        return padded.flatten(0, 1).index_select(0, self.flat)

    def unpack(self, tokens: Tensor) -> Tensor:
        """(T, …) → (B, L, …), zeros elsewhere."""
        count = self.lengths.numel()
        padded = tokens.new_zeros(count * self.max_len, *tokens.shape[1:]).index_copy(0, self.flat, tokens)
        return padded.unflatten(0, (count, self.max_len))

    def spread(self, per_sequence: Tensor) -> Tensor:
        """(B, …) → (T, …), each token its sequence's value."""
        return per_sequence.index_select(0, self.rows)

    def collect(self, tokens: Tensor) -> Tensor:
        """(T, …) → (B, …), the sum over each sequence's tokens."""
        return tokens.new_zeros(self.lengths.numel(), *tokens.shape[1:]).index_add(0, self.rows, tokens)

    def tail(self, width: int) -> tuple[Tensor, Ragged]:
        """The last ``width`` tokens of each sequence (all of a shorter one).

        Returns:
            (S,) int64 indices of these tokens, and their own layout.
        """
        lengths = self.lengths.clamp(max=width)
        short = Ragged(lengths, min(width, self.max_len))
        tokens = (self.last + 1 - lengths).index_select(0, short.rows) + short.cols
        return tokens, short
