"""Prefixes of one user in a batch: what they have in common is computed once.

A user's training samples are the prefixes of one sequence. Whatever looks back alone is the same in all of them: the
item vectors, the first block's projection and, without time gaps, the whole network. With time gaps the step sizes of
the scan differ from prefix to prefix, because the time signals pass through all L columns; what follows the scan
differs, too, except at the last position of each prefix, which is all that one layer on one modality needs.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from recbole_mmm4rec.network.ops.packing.ragged import Ragged


class SharedPrefixes:
    """The sequences of a batch as prefixes of fewer, longer ones.

    Attributes:
        ragged: layout of the T tokens of all prefixes.
        base: layout of the T' tokens of the sequences that they are prefixes of.
        longest_row: (B',) int64, the caller's row of each such sequence, in the packed order of ``base``.
        expand: (T,) int64, the token of ``base`` that each token of a prefix is.
    """

    def __init__(self, ragged: Ragged, origin: Tensor) -> None:
        """Find the common sequences.

        Args:
            ragged: layout of the prefixes.
            origin: (B,) int64 in the caller's order; of two rows with the same number the shorter one is a prefix of
                the longer one.
        """
        self.ragged = ragged
        _, group = torch.unique(ragged.arrange(origin), return_inverse=True)  # of each packed prefix
        count = int(group.max()) + 1
        places = torch.arange(group.numel(), device=group.device)
        # packed prefixes are sorted by length: the last one of a group is its longest
        longest = torch.zeros(count, dtype=torch.int64, device=group.device).scatter_reduce(0, group, places, "amax")
        self.base = Ragged(ragged.lengths.index_select(0, longest), ragged.max_len)
        self.longest_row = ragged.order.index_select(0, longest.index_select(0, self.base.order))
        begins = self.base.starts.index_select(0, torch.argsort(self.base.order)).index_select(0, group)
        self.expand = begins.index_select(0, ragged.rows) + ragged.cols

    @cached_property
    def ends(self) -> Tensor:
        """(B,) int64, the token of ``base`` at which each packed prefix ends."""
        return self.expand.index_select(0, self.ragged.last)

    @cached_property
    def prefix_of_token(self) -> Tensor | None:
        """(T',) int64, the packed prefix that ends at each token; None unless each token ends exactly one."""
        if self.ends.numel() != len(self.base):
            return None
        tokens, prefixes = torch.sort(self.ends)
        each = torch.arange(len(self.base), device=tokens.device)
        return prefixes if torch.equal(tokens, each) else None

    def pair_tokens(self, prefixes: Tensor) -> tuple[Tensor, Tensor]:
        """For each pair (t, s) of ``base.layout()``, its tokens within the prefix that ends at t.

        Args:
            prefixes: :attr:`prefix_of_token`.

        Returns:
            (Np,) int64 twice, tokens of ``ragged``; where s comes after t, any token of the prefix.
        """
        (t, s), _ = self.base.layout().pairs
        row = prefixes.index_select(0, t)
        last = self.ragged.last.index_select(0, row)
        first = self.ragged.starts.index_select(0, row)
        return last, torch.minimum(first + self.base.cols.index_select(0, s), last)
