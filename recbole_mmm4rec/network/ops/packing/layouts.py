"""How a batch is packed, decided in one place: what the layers compute, and what is left out because nothing reads it.

- :class:`Layout`: the valid positions of the histories one after the other, in the order of their lengths, a few idle
  tokens among them where that saves blocks (:mod:`.ragged`), or a number of tokens that is known beforehand
  (:mod:`.constant_shapes`).
- Of several prefixes of one history (:mod:`.shared_prefixes`) what looks back alone is computed once: everything
  (:class:`Histories`), everything but the decays of the scan (:class:`PrefixEnds`), or the first projections
  (:class:`Expanded`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from recbole_mmm4rec.network.ops.blocks.blockscan import MAX_LENGTH, pair_weights
from recbole_mmm4rec.network.ops.choice import choose_scan
from recbole_mmm4rec.network.ops.operands import Operands, Weights, Wide
from recbole_mmm4rec.network.ops.packing.constant_shapes import StaticRagged
from recbole_mmm4rec.network.ops.packing.positions import Positions
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.packing.shared_prefixes import SharedPrefixes
from recbole_mmm4rec.network.ops.scans import SCANS, Scan
from recbole_mmm4rec.network.ops.streams import Prepared, Projections, Stream, Vectors, states_of


def layout_of(
    lengths: Tensor,
    *,
    max_len: int,
    width: int,
    backend: str,
    looks_ahead: bool,
    single: bool,
    origin: Tensor | None = None,
    padded_to: int | None = None,
) -> Layout:
    """Pack a batch.

    Args:
        lengths: (B,) int64 valid positions of each history, at least 1.
        max_len: L.
        width: K.
        backend: ``ssd_backend``.
        looks_ahead: whether a position depends on the whole history, as time signals make it, or on its past alone.
        single: whether there is one layer on one modality.
        origin: (B,) int64; of two rows with the same number the shorter one is a prefix of the longer one.
        padded_to: T, at least the sum of ``lengths``, which is not looked at then.

    Raises:
        ValueError: an empty history, one of more than L positions, or ``padded_to`` where the scan cannot take it.
        UserError: an implementation of the scan that cannot run here.
    """
    scan = choose_scan(backend, lengths.device.type)
    if padded_to is not None:
        if not scan.constant_shapes or origin is not None:
            names = " or ".join(name for name, scan in SCANS.items() if scan.constant_shapes)
            raise ValueError(f"padded_to needs ssd_backend {names}, not {scan.name}, and no origin")
        return Layout(ragged=StaticRagged(lengths, max_len, padded_to), scan=scan)
    merge = scan.merges and max_len <= MAX_LENGTH
    ragged = Ragged(lengths, max_len, merge_from=width if merge else None)
    scan = scan.for_length(ragged.longest)
    if origin is None:
        return Layout(ragged=ragged, scan=scan)
    shared = SharedPrefixes(ragged, origin)
    if not looks_ahead:
        return Histories(ragged=shared.base, scan=scan, shared=shared)
    if single and scan.in_blocks and shared.prefix_of_token is not None:
        return PrefixEnds(ragged=shared.base, scan=scan, shared=shared)
    return Expanded(ragged=ragged, scan=scan, shared=shared)


@dataclass(frozen=True, kw_only=True)
class Layout(Positions):
    """A packed batch as the layers see it.

    Attributes:
        scan: the implementation of convolution and scan.
        tail: layout of the S wanted tokens among themselves, where :meth:`seen_by` has chosen them.
    """

    scan: Scan
    tail: Ragged | None = None
    carries_signals = True
    """Whether a layer's output goes on with the time signals that it got, so that another layer can follow."""

    # the way in and out

    def pack(self, item_seq: Tensor) -> Tensor:
        """(B, L) items → (T,)."""
        return self.ragged.pack(self.ragged.arrange(item_seq))

    def distinct(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """(T,) items → (n,) each once and (T,) where they stand there; as they are where shapes must be constant."""
        if self.ragged.constant:
            return tokens, None
        return torch.unique(tokens, return_inverse=True)

    def stream(self, x: Tensor) -> Stream:
        """What :meth:`pack` has given, as vectors → the stream of the T tokens."""
        return Vectors(x)

    def restore(self, x: Tensor) -> Tensor:
        """Output at the last positions, (B, D) → (B, D) in the caller's order."""
        return self.ragged.restore(x)

    # which positions

    def last(self) -> Layout:
        """The last position of each history."""
        return replace(self, keep=self.ragged.last, width=1)

    def seen_by(self, width: int) -> Layout:
        """What a causal convolution of ``width`` at the wanted positions looks at."""
        if self.keep is None:
            return self
        keep, tail = self.ragged.tail(width)
        return replace(self, keep=keep, width=width, tail=tail)

    def narrow(self, x: Tensor, near: Layout) -> Tensor:
        """(S', …) of ``near = seen_by(…)`` → (S, …)."""
        return x if near.tail is None else x.index_select(0, near.tail.last)

    # the time signals (B, H, L) of the histories

    @property
    def times(self) -> Ragged:
        """Layout of the tokens that have a step size."""
        return self.ragged

    def spread(self, dt: Tensor) -> Tensor:
        """(T, H) of the stream's tokens → of the tokens that have a step size."""
        return dt

    def pack_signal(self, signal: Tensor) -> Tensor:
        """(B, H, L) → (T, H)."""
        return self.times.pack(signal.transpose(1, 2))

    # the operators

    def project(self, u: Stream, linear: nn.Linear, widths: tuple[int, int, int]) -> Projections:
        """z (S, E), x | B | C (T, E + 2GN) and dt (T, H), see :meth:`Stream.project`."""
        return u.project(linear, widths, self.keep, self.scan.in_blocks)

    def project_states(self, x: Tensor, linear: nn.Linear, widths: tuple[int, int]) -> tuple[Wide, Tensor]:
        """x | B (T, E + GN) and dt (T, H) of x (T, D)."""
        return states_of(x, linear, widths, self.scan.in_blocks)

    def conv(self, x: Tensor, conv: Weights) -> Tensor:
        """SiLU of the causal depthwise convolution of the wanted tokens among themselves, (S, C) → (S, C)."""
        return self.scan.conv(x, conv, self.ragged if self.tail is None else self.tail)

    def mix(self, operands: Operands) -> Tensor:
        """Convolution, scan, skip, gate, norm and output Linear, (S, D), see :func:`..plain.mix`."""
        return self.scan.mix(operands, self)


@dataclass(frozen=True, kw_only=True)
class _Shared(Layout):
    """A batch of prefixes whose histories are packed once.

    Attributes:
        shared: how they belong together.
    """

    shared: SharedPrefixes

    def pack(self, item_seq: Tensor) -> Tensor:
        """(B, L) items → (T',) of the histories."""
        return self.shared.base.pack(item_seq.index_select(0, self.shared.longest_row))


class Expanded(_Shared):
    """Every prefix for itself, but for the vectors of its items and what the first block projects them to."""

    def stream(self, x: Tensor) -> Stream:
        """(T', D) of the histories' tokens → the stream of the T tokens of their prefixes."""
        return Prepared(x).rows(self.shared.expand)


class Histories(_Shared):
    """Whole histories, of which every position is the last one of a prefix: where nothing looks ahead."""

    def last(self) -> Layout:
        """All positions."""
        return self

    def restore(self, x: Tensor) -> Tensor:
        """Output at the T' tokens → (B, D) of the prefixes in the caller's order."""
        return self.shared.ragged.restore(x.index_select(0, self.shared.ends))


class PrefixEnds(Histories):
    """Whole histories whose scan takes row t of its decays from the prefix that ends at t.

    Step sizes differ from prefix to prefix, because time signals pass through all L columns; of one layer on one
    modality the output at the last position of each prefix is all that is read.
    """

    carries_signals = False

    @property
    def times(self) -> Ragged:
        """Layout of the T tokens of all prefixes."""
        return self.shared.ragged

    def spread(self, dt: Tensor) -> Tensor:
        """(T', H) → (T, H)."""
        return dt.index_select(0, self.shared.expand)

    @cached_property
    def _prefixes(self) -> Tensor:
        """(T',) int64, the prefix that ends at each token."""
        assert self.shared.prefix_of_token is not None
        return self.shared.prefix_of_token

    def shares(self, step: Tensor, A: Tensor, skip: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Positions.shares`; step (T, H) of all prefixes."""
        pairs, later = self.shared.pair_tokens(self._prefixes), self.blocks.pairs[1]
        weight = pair_weights(step, A, self.shared.ragged.layout(), pairs, later)
        return weight, skip(step.index_select(0, self.shared.ragged.last.index_select(0, self._prefixes)))
