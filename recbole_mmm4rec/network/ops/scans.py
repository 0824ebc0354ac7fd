"""The implementations of a state-space block's convolution, scan and gate; :mod:`.choice` picks one a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops import kernels, plain
from recbole_mmm4rec.network.ops.blocks.blockconv import block_conv
from recbole_mmm4rec.network.ops.blocks.blockscan import MAX_LENGTH, block_scan
from recbole_mmm4rec.network.ops.conv import packed_conv
from recbole_mmm4rec.network.ops.dual_form import CHUNK, dual_form, last_of_dual_form
from recbole_mmm4rec.network.ops.linear import normed_linear
from recbole_mmm4rec.network.ops.operands import Operands, Weights
from recbole_mmm4rec.network.ops.packing.positions import Positions
from recbole_mmm4rec.network.ops.packing.ragged import Ragged


class Scan(ABC):
    """One way to compute what :func:`.plain.causal_conv` and :func:`.plain.mix` say.

    Attributes:
        name: its ``ssd_backend``.
        in_blocks: reads x | B | C a dense block at a time, so that it may complete it, see :class:`.operands.Wide`.
        merges: gains by blocks that hold shorter sequences as well, see :func:`.packing.ragged.block_lengths`.
        constant_shapes: takes :class:`.packing.constant_shapes.StaticRagged`.
    """

    name: str
    in_blocks = False
    merges = False
    constant_shapes = False

    def for_length(self, longest: int) -> Scan:
        """The implementation for a batch whose longest sequence has ``longest`` positions."""
        return self

    @abstractmethod
    def conv(self, x: Tensor, conv: Weights, ragged: Ragged) -> Tensor:
        """SiLU of the causal depthwise convolution of packed tokens, (T, C) → (T, C)."""

    @abstractmethod
    def mix(self, o: Operands, at: Positions) -> Tensor:
        """Convolution, scan, skip, gate, RMSNorm and output Linear at the wanted positions → (S, D)."""


class TokenScan(Scan):
    """Operators over all tokens, one after the other; the gradients are autograd's."""

    def conv(self, x: Tensor, conv: Weights, ragged: Ragged) -> Tensor:
        """See :meth:`Scan.conv`."""
        return packed_conv(x, *conv, ragged.cols)

    @abstractmethod
    def scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
        """What :func:`.plain.recurrence` gives, (T, H, P)."""

    def mix(self, o: Operands, at: Positions) -> Tensor:
        """See :meth:`Scan.mix`."""
        x, B, C = o.split(self.conv(o.wide.whole(), o.conv, at.ragged))
        if o.C is not None and at.width == 1:
            y = last_of_dual_form(x, o.step, o.A, B, C, at.ragged)
        else:
            y = at.wanted(self.scan(x, o.step, o.A, B, C, at.ragged))
        x = at.wanted(x)  # (S, H, P)
        y = y + o.skip(at.wanted(o.step)).to(x.dtype).unsqueeze(-1) * x
        return self.output(y.flatten(1), o)

    def output(self, y: Tensor, o: Operands) -> Tensor:
        """Gate, RMSNorm and output Linear, (S, E) → (S, D)."""
        return normed_linear(y * F.silu(o.z), o.norm, *o.out, o.eps)


class Recurrence(TokenScan):
    """One position after the other: slow, and the truth for the others."""

    name = "recurrence"
    constant_shapes = True

    def scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
        """See :meth:`TokenScan.scan`."""
        return plain.recurrence(x, dt, A, B, C, ragged)


class Kernels(TokenScan):
    """mamba-ssm's and causal-conv1d's kernels on one packed sequence with boundaries."""

    name = "mamba_ssm"
    constant_shapes = True

    def __init__(self, chunk: int = 256) -> None:
        """Scan in blocks of up to ``chunk`` positions, which has no effect on the result."""
        self.chunk = chunk

    def conv(self, x: Tensor, conv: Weights, ragged: Ragged) -> Tensor:
        """See :meth:`Scan.conv`; without causal-conv1d as the others."""
        fused = kernels.conv_silu(x, *conv, ragged.seq_idx)
        return super().conv(x, conv, ragged) if fused is None else fused

    def scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
        """See :meth:`TokenScan.scan`."""
        return kernels.scan(x, dt, A, B, C, ragged.seq_idx, self.chunk)

    def output(self, y: Tensor, o: Operands) -> Tensor:
        """See :meth:`TokenScan.output`; gate and norm by mamba-ssm's kernel, where that can."""
        normed = kernels.gated_norm(y, o.z, o.norm, o.eps)
        return super().output(y, o) if normed is None else F.linear(normed, *o.out)


class DualForm(TokenScan):
    """Products over dense blocks of sequences of one length, in chunks: for long sequences on a processor."""

    def __init__(self, name: str, chunk: int = CHUNK) -> None:
        """Name it for the backend that it stands in for; ``chunk`` has no effect on the result."""
        self.name = name
        self.chunk = chunk

    def conv(self, x: Tensor, conv: Weights, ragged: Ragged) -> Tensor:
        """See :meth:`Scan.conv`."""
        return block_conv(x, *conv, ragged.layout())

    def scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
        """See :meth:`TokenScan.scan`."""
        return dual_form(x, dt, A, B, C, ragged, self.chunk)


class BlockScan(Scan):
    """Dense blocks of sequences of one length, or one sequence after the other by compiled loops, gradients by hand."""

    in_blocks = True

    def __init__(self, name: str, compiled: bool) -> None:
        """Name it; ``compiled``: by numba's loops (:mod:`.loops.seqscan`) where these can and are faster."""
        self.name = name
        self.compiled = compiled
        self.merges = not compiled

    def for_length(self, longest: int) -> Scan:
        """See :meth:`Scan.for_length`."""
        return self if longest <= MAX_LENGTH else DualForm(self.name)

    def conv(self, x: Tensor, conv: Weights, ragged: Ragged) -> Tensor:
        """See :meth:`Scan.conv`."""
        return block_conv(x, *conv, ragged.layout())

    def mix(self, o: Operands, at: Positions) -> Tensor:
        """See :meth:`Scan.mix`."""
        weight, skip = at.shares(o.step, o.A, o.skip)
        gated = block_scan(o.wide, o.z, o.C, weight, skip, o.conv, o.groups, at.blocks, self.compiled)
        return normed_linear(gated, o.norm, *o.out, o.eps)


SCANS: dict[str, Scan] = {
    scan.name: scan for scan in (Kernels(), Recurrence(), BlockScan("torch", False), BlockScan("numba", True))
}
"""By ``ssd_backend``."""
