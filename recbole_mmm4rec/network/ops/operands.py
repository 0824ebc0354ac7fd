"""What a state-space block gives to its scan.

Axes as everywhere: T tokens of a packed batch, S of them wanted, D, E inner width, H heads, P = E/H, G groups, N
states, K taps of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """A Linear, (out, in) and (out,), or a depthwise convolution, (channels, K) and (channels,), newest tap last."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Wide:
    """x | B | C, or x | B, of T tokens before the convolution: the widest tensor of a block, whose passes are spared.

    A scan in blocks reads it once, a block at a time: it adds the bias and picks the rows there, where each would take
    a pass of its own otherwise.

    Attributes:
        values: (T, channels), or (R, channels) with ``rows``.
        bias: (channels,) what is still to be added at every token, None where nothing is. It gets no gradient here: the
            sum of the gradient of ``values`` is the Linear's own for its bias.
        rows: (T,) int64, the row of ``values`` of each token, None where they are in order; no gradients then.
    """

    values: Tensor
    bias: Tensor | None = None
    rows: Tensor | None = None

    def whole(self) -> Tensor:
        """(T, channels)."""
        chosen = self.values if self.rows is None else self.values.index_select(0, self.rows)
        return chosen if self.bias is None else chosen + self.bias


@dataclass(frozen=True)
class Operands:
    """The operands of :func:`.plain.mix`, which says what is computed of them.

    Attributes:
        wide: (T, E + 2GN) x | B | C, or (T, E + GN) x | B where ``C`` is given.
        C: (S, GN) queries of the wanted tokens, convolved already; None where they are part of ``wide``.
        z: (S, E) gate before its SiLU.
        step: (T, H) Δ, positive, at least float32.
        A: (H,) negative.
        skip: Δ of the wanted tokens (S, H) → what y takes of x there beside the scan, (S, H).
        conv: the causal convolution of ``wide``.
        groups: G.
        norm: (E,) weight of the RMSNorm; eps: added to its mean square.
        out: the Linear E → D.
    """

    wide: Wide
    C: Tensor | None
    z: Tensor
    step: Tensor
    A: Tensor
    skip: Callable[[Tensor], Tensor]
    conv: Weights
    groups: int
    norm: Tensor
    eps: float
    out: Weights

    def split(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T, channels) → x (T, H, P), B (T, G, N), and C (T, G, N), or the given one (S, G, N)."""
        E = self.z.shape[1]
        GN = convolved.shape[1] - E if self.C is not None else (convolved.shape[1] - E) // 2
        x, B = convolved[:, :E].unflatten(1, (len(self.A), -1)), convolved[:, E : E + GN]
        C = convolved[:, E + GN :] if self.C is None else self.C
        return x, B.unflatten(1, (self.groups, -1)), C.unflatten(1, (self.groups, -1))
