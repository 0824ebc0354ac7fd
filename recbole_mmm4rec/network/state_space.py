"""The state-space blocks on packed tokens: TiSSD and Cross-SSD, and how a layer is to compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.conv import PackedConv
from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.ops.blockscan import MAX_LENGTH, block_scan, pair_weights
from recbole_mmm4rec.network.ops.linear import normed_linear, split_linear
from recbole_mmm4rec.network.ops.ragged import Ragged
from recbole_mmm4rec.network.ops.shared_prefixes import SharedPrefixes
from recbole_mmm4rec.network.ops.ssd import ssd, ssd_last
from recbole_mmm4rec.network.time_path import TimeGate, TimeScale


@dataclass(frozen=True)
class Plan:
    """How a layer is computed.

    Attributes:
        backend: implementation of the scan.
        keep: (S,) int64 tokens whose output is wanted, None for all.
        wanted: how many of the last positions of each sequence these are, None for all.
    """

    backend: str
    keep: Tensor | None = None
    wanted: int | None = None

    def in_blocks(self, ragged: Ragged) -> bool:
        """Whether a batch is scanned in dense blocks, see :mod:`.blockscan`."""
        return self.backend in kernels.DENSE and ragged.longest <= MAX_LENGTH

    def kept(self, x: Tensor) -> Tensor:
        """(T, …) → (S, …)."""
        return x if self.keep is None else x.index_select(0, self.keep)


@dataclass(frozen=True)
class Projected:
    """Rows of ``in_proj``'s output where they are at hand: without dropout, the first layer's depend on the item alone.

    Attributes:
        parts: z (I+1, E), x | B | C (I+1, E + 2GN) and dt (I+1, H) of every item.
        tokens: (T,) int64 item of each token.
    """

    parts: tuple[Tensor, Tensor, Tensor]
    tokens: Tensor

    def gather(self, keep: Tensor | None, wide: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """z (S, E) of the kept tokens, x | B | C (T, E + 2GN), or if not ``wide`` its table, and dt (T, H) of all."""
        z, xBC, dt = self.parts
        kept = self.tokens if keep is None else self.tokens.index_select(0, keep)
        gathered = xBC.index_select(0, self.tokens) if wide else xBC
        return z.index_select(0, kept), gathered, dt.index_select(0, self.tokens)


class StateSpace(nn.Module):
    """What both state-space blocks share: the step size, the scan with its skip, the gated RMSNorm, the output."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        heads = config.n_heads
        # Mamba-2's initial values: A uniform in 1 … 16, steps log-uniform in 1e-3 … 1e-1 behind the softplus
        self.A_log = nn.Parameter(torch.log(torch.empty(heads).uniform_(1, 16)))
        step = torch.exp(torch.empty(heads).uniform_(math.log(1e-3), math.log(1e-1)))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.D_skip = nn.Parameter(torch.ones(heads))
        self.norm_weight = nn.Parameter(torch.ones(config.inner_width))
        self.out_proj = nn.Linear(config.inner_width, config.hidden_size)

    def step_size(self, dt: Tensor, scale: Tensor | None, ragged: Ragged) -> Tensor:
        """Δ = softplus(dt·sᵀ + dt_bias): dt (T, H), scale (B, H, L) or None → (T, H), at least float32."""
        dt = dt.to(self.dt_bias.dtype)
        if scale is not None:
            dt = dt * ragged.pack(scale.transpose(1, 2))
        return F.softplus(dt + self.dt_bias)

    def skip_weight(self, dt: Tensor) -> Tensor:
        """What the skip takes of x: Δ (T, H) → (T, H).

        Differs from Mamba-2 under ``d_skip: scaled``: the published program multiplies the skip by Δ.
        """
        return self.D_skip * dt if self.config.d_skip == "scaled" else self.D_skip.expand_as(dt)

    def mix(
        self,
        xb: Tensor,
        z: Tensor,
        c: Tensor | None,
        dt: Tensor,
        conv: PackedConv,
        ragged: Ragged,
        plan: Plan,
        missing: Tensor | None,
        tokens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Convolution of x and B (and C), scan and skip, and where one step does it, the gate.

        Args:
            xb: (T, E + 2GN) x | B | C, or (T, E + GN) x | B.
            z: (S, E) gate of the wanted tokens.
            c: (S, GN) the convolved queries of the wanted tokens, None where they are part of ``xb``.
            dt: (T, H) step sizes.
            conv: the convolution of ``xb``.
            ragged: layout of the T tokens.
            plan: how to compute, and which tokens are wanted.
            missing: the bias that ``xb`` still lacks, None where it is complete.
            tokens: (T,) int64 rows of ``xb``, where that is a table of all items and the batch is scanned in blocks.

        Returns:
            (S, E), before the norm, and the gate (S, E) that is still to be applied, None where it has been.
        """
        config = self.config
        if plan.in_blocks(ragged):
            layout = ragged.layout(plan.wanted)
            skip = self.skip_weight(dt if plan.keep is None else dt.index_select(0, plan.keep))
            (t, s), later = layout.pairs
            weight = pair_weights(dt, self.A, layout, (t, s), later)
            taps = (conv.weight, conv.bias, missing, config.n_groups)
            return block_scan(xb, z, c, weight, skip, *taps, layout, tokens, plan.backend == "numba"), None
        xb = conv(xb if missing is None else xb + missing, ragged, plan.backend)
        E, GN = config.inner_width, config.group_width
        x, B = xb[:, :E].unflatten(1, (config.n_heads, -1)), xb[:, E : E + GN].unflatten(1, (config.n_groups, -1))
        C = (xb[:, E + GN :] if c is None else c).unflatten(1, (config.n_groups, -1))
        if plan.wanted == 1 and c is not None:
            y = ssd_last(x, dt, self.A, B, C, ragged)
        else:
            if c is not None and plan.keep is not None:
                C = torch.zeros_like(B).index_copy(0, plan.keep, C)
            y = ssd(x, dt, self.A, B, C, ragged, backend=plan.backend)
            y = y if plan.keep is None else y.index_select(0, plan.keep)
        if plan.keep is not None:
            x, dt = x.index_select(0, plan.keep), dt.index_select(0, plan.keep)
        y = y + self.skip_weight(dt).to(x.dtype).unsqueeze(-1) * x
        return y.flatten(1), z

    def mix_prefixes(
        self,
        xb: Tensor,
        z: Tensor,
        dt: Tensor,
        conv: PackedConv,
        shared: SharedPrefixes,
        prefixes: Tensor,
        missing: Tensor | None,
        backend: str,
    ) -> Tensor:
        """:meth:`mix` at the last position of every prefix of the sequences in ``shared.base``.

        Row t of a sequence's mixing matrix takes its decays from the prefix that ends at t.

        Args:
            xb: (T', E + 2GN) x | B | C and z: (T', E) of the base sequences.
            dt: (T, H) step sizes of all prefixes.
            conv: the convolution of ``xb``.
            shared: how they belong together.
            prefixes: (T',) int64, :attr:`~SharedPrefixes.prefix_of_token`.
            missing: the bias that ``xb`` still lacks.
            backend: "torch" or "numba".

        Returns:
            (T', E), before the norm; row t belongs to the prefix that ends at t.
        """
        layout = shared.base.layout()
        pairs, later = shared.pair_tokens(prefixes), layout.pairs[1]
        weight = pair_weights(dt, self.A, shared.ragged.layout(), pairs, later)
        skip = self.skip_weight(dt.index_select(0, shared.ragged.last.index_select(0, prefixes)))
        taps = (conv.weight, conv.bias, missing, self.config.n_groups)
        return block_scan(xb, z, None, weight, skip, *taps, layout, None, backend == "numba")

    def output(self, y: Tensor, z: Tensor | None, backend: str) -> Tensor:
        """The gate where it is still to be applied, RMSNorm over all E, then the output Linear.

        Args:
            y: (S, E).
            z: (S, E) the gate before its SiLU, None where y has passed it.
            backend: "mamba_ssm" takes its kernel for gate and norm, where that can.

        Returns:
            (S, D).
        """
        config = self.config
        if z is not None:
            normed = kernels.gated_norm(y, z, self.norm_weight, config.norm_eps) if backend == "mamba_ssm" else None
            if normed is not None:
                out: Tensor = self.out_proj(normed)
                return out
            y = y * F.silu(z)
        return normed_linear(y, self.norm_weight, self.out_proj.weight, self.out_proj.bias, config.norm_eps)

    @property
    def A(self) -> Tensor:
        """(H,) negative decay rates."""
        return -torch.exp(self.A_log)


class TiSSD(StateSpace):
    """Time-aware SSD block: one stream in, one stream and one time signal out (docs/model.md, TiSSD)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        E, GN, H = config.inner_width, config.group_width, config.n_heads
        self.in_proj = nn.Linear(config.hidden_size, 2 * E + 2 * GN + H)  # z | x | B | C | dt
        self.conv = PackedConv(E + 2 * GN, config.d_conv)
        self.time_scale = TimeScale(config) if config.is_time else None
        self.time_gate = TimeGate(config) if config.is_time else None

    def project(self, u: Tensor, keep: Tensor | None = None, bare: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """u (T, D) → z (S, E) of the kept tokens, x | B | C (T, E + 2GN), ``bare``: without its bias, and dt (T, H)."""
        config = self.config
        sizes = (config.inner_width, config.inner_width + 2 * config.group_width, config.n_heads)
        z, xBC, dt = split_linear(u, self.in_proj.weight, self.in_proj.bias, sizes, keep, 1 if bare else None)
        return z, xBC, dt

    @property
    def _wide_bias(self) -> Tensor:
        """(E + 2GN,) the bias that ``project(bare=True)`` leaves out, without a gradient of its own."""
        config = self.config
        first = config.inner_width
        return self.in_proj.bias[first : 2 * first + 2 * config.group_width].detach()

    def forward(
        self, u: Tensor, signal: Tensor | None, ragged: Ragged, plan: Plan, projected: Projected | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scan a stream.

        Args:
            u: (T, D).
            signal: (B, H, L) time signal, None without time.
            ragged: layout of the T tokens.
            plan: how to compute, and the S tokens whose output is wanted: what follows the scan runs on these alone.
            projected: what :meth:`project` makes of u, if it is at hand.

        Returns:
            (S, D), and the next time signal (B, H, L) or None.
        """
        bare = projected is None and plan.in_blocks(ragged)
        tokens: Tensor | None = None
        if projected is None:
            z, xBC, dt = self.project(u, plan.keep, bare)
        else:
            wide = torch.is_grad_enabled() or not plan.in_blocks(ragged)  # else each block gathers its own
            tokens = None if wide else projected.tokens
            z, xBC, dt = projected.gather(plan.keep, wide)
        scale = self.time_scale(signal) if self.time_scale is not None else None
        missing = self._wide_bias if bare else None
        y, gate = self.mix(xBC, z, None, self.step_size(dt, scale, ragged), self.conv, ragged, plan, missing, tokens)
        return self.output(y, gate, plan.backend), self.time_gate(signal, scale) if self.time_gate is not None else None

    def prefixes(self, u: Tensor, signal: Tensor, shared: SharedPrefixes, prefixes: Tensor, backend: str) -> Tensor:
        """The block's output at the end of every prefix: u (T', D), signal (B, H, L) → (T', D)."""
        assert self.time_scale is not None
        z, xBC, dt = self.project(u, bare=True)
        scale = self.time_scale(signal)
        steps = self.step_size(dt.index_select(0, shared.expand), scale, shared.ragged)
        gated = self.mix_prefixes(xBC, z, steps, self.conv, shared, prefixes, self._wide_bias, backend)
        return self.output(gated, None, "torch")


class CrossSSD(StateSpace):
    """Cross-SSD block: the states come from one stream, the queries from the other (docs/model.md, Cross-SSD)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        E, GN, H = config.inner_width, config.group_width, config.n_heads
        self.u_proj = nn.Linear(config.hidden_size, E + GN + H)  # x | B | dt
        self.q_proj = nn.Linear(config.hidden_size, GN)
        self.z_proj = nn.Linear(config.hidden_size, E)
        self.u_conv = PackedConv(E + GN, config.d_conv)
        self.q_conv = PackedConv(GN, config.d_conv)
        self.time_scale = TimeScale(config) if config.is_time else None

    def forward(self, q: Tensor, u: Tensor, signal: Tensor | None, ragged: Ragged, tail: Ragged, plan: Plan) -> Tensor:
        """Scan the stream u with the queries q.

        Args:
            q: (S', D) the query stream at the tokens of ``tail``: all T, or the last K of each sequence, which is what
                the convolution of C at the last position can see.
            u: (T, D).
            signal: (B, H, L) filtered time signal, None without time.
            ragged: layout of the T tokens; tail: layout of the S' tokens.
            plan: how to compute, and the S tokens whose output is wanted: all or the last ones.

        Returns:
            (S, D).
        """
        config = self.config
        E, GN, H = config.inner_width, config.group_width, config.n_heads
        weight, bias, bare = self.u_proj.weight, self.u_proj.bias, plan.in_blocks(ragged)
        xB, dt = split_linear(u, weight, bias, (E + GN, H), bare=0 if bare else None)
        scale = self.time_scale(signal) if self.time_scale is not None else None
        C = self.q_conv(self.q_proj(q), tail, plan.backend)
        if plan.keep is not None:
            C, q, u = (part.index_select(0, at) for part, at in ((C, tail.last), (q, tail.last), (u, plan.keep)))
        steps = self.step_size(dt, scale, ragged)
        missing = bias[: E + GN].detach() if bare else None
        y, gate = self.mix(xB, self.z_proj(q + u), C, steps, self.u_conv, ragged, plan, missing)
        return self.output(y, gate, plan.backend)
