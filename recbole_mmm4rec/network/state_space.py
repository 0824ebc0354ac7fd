"""The state-space blocks on packed tokens: TiSSD and Cross-SSD.

Convolution, recurrence, skip, gate, norm and output Linear are one operator, ``at.mix``; in plain words it stands in
:func:`.ops.plain.mix`. Axes: T tokens, S of them wanted, B histories, L positions, D, E inner width, H heads, P = E/H,
G groups, N states, K taps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.ops.operands import Operands, Weights, Wide
from recbole_mmm4rec.network.ops.packing.layouts import Layout
from recbole_mmm4rec.network.ops.streams import Stream
from recbole_mmm4rec.network.time_path import Signal, TimeGate, TimeScale


class CausalConv(nn.Module):
    """SiLU(y), y_t = bias + Σ_k weight_k x_(t−K+1+k), every channel for itself."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        plain = nn.Conv1d(channels, channels, width, groups=channels)  # for PyTorch's default initial values
        self.weight = nn.Parameter(plain.weight.detach().squeeze(1).clone())  # (C, K)
        self.bias = nn.Parameter(plain.bias.detach().clone())  # type: ignore[union-attr]

    def forward(self, x: Tensor, at: Layout) -> Tensor:
        """(S, C) → (S, C) of the wanted tokens; a convolution sees only other wanted ones."""
        return at.conv(x, Weights(self.weight, self.bias))


class StateSpace(nn.Module):
    """What both blocks share: step size, recurrence with its skip, gated RMSNorm, output Linear."""

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

    @property
    def A(self) -> Tensor:
        """(H,) negative decay rates."""
        return -torch.exp(self.A_log)

    def step_size(self, dt: Tensor, s: Signal, at: Layout) -> Tensor:
        """Δ = softplus(dt·s + dt_bias), at least float32: dt (T, H), s (B, H, L) or None without time → (T, H)."""
        dt = at.spread(dt).to(self.dt_bias.dtype)  # (T, H)
        if s is not None:
            dt = dt * at.pack_signal(s)  # (T, H)
        return F.softplus(dt + self.dt_bias)

    def skip(self, step: Tensor) -> Tensor:
        """What y takes of x beside the recurrence: Δ (S, H) → (S, H).

        Differs from Mamba-2 under ``d_skip: scaled``: the published program multiplies the skip by Δ.
        """
        return self.D_skip * step if self.config.d_skip == "scaled" else self.D_skip.expand_as(step)

    def ssd(self, wide: Wide, C: Tensor | None, z: Tensor, step: Tensor, conv: CausalConv, at: Layout) -> Tensor:
        """The block behind its projections, as operands for ``at.mix``. Every head h reads group ⌊h·G/H⌋ of B and C:

            x | B | C ← SiLU(conv(x | B | C))
            h_t = exp(Δ_t A) h_(t−1) + Δ_t x_t B_tᵀ               (P, N)
            y_t = h_t C_t + skip(Δ_t) x_t                         (P,)
            out = out_proj(RMSNorm(y·SiLU(z)))                    (D,), the norm over all E

        Args:
            wide: (T, E + 2GN) x | B | C, or (T, E + GN) x | B.
            C: (S, GN) if it is not part of ``wide``; its convolution is done then.
            z: (S, E).
            step: (T, H) Δ.
            conv: the convolution of ``wide``.
            at: the T tokens, and the S wanted ones.

        Returns:
            (S, D).
        """
        operands = Operands(
            wide=wide,
            C=C,
            z=z,
            step=step,
            A=self.A,
            skip=self.skip,
            conv=Weights(conv.weight, conv.bias),
            groups=self.config.n_groups,
            norm=self.norm_weight,
            eps=self.config.norm_eps,
            out=Weights(self.out_proj.weight, self.out_proj.bias),
        )
        return at.mix(operands)


class TiSSD(StateSpace):
    """Time-aware SSD block: one stream in, one stream and one time signal out (docs/model.md, TiSSD)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        E, GN, H = config.inner_width, config.group_width, config.n_heads
        self.widths = (E, E + 2 * GN, H)  # z, x | B | C, dt
        self.in_proj = nn.Linear(config.hidden_size, sum(self.widths))
        self.conv = CausalConv(E + 2 * GN, config.d_conv)
        self.time_scale = TimeScale(config) if config.is_time else None
        self.time_gate = TimeGate(config) if config.is_time else None

    def forward(self, u: Stream, g: Signal, at: Layout) -> tuple[Tensor, Signal]:
        """Scan a stream.

        Args:
            u: (T, D).
            g: (B, H, L) time signal, None without time.
            at: the T tokens, and the S whose output is wanted.

        Returns:
            (S, D), and the next time signal (B, H, L) or None.
        """
        z, xBC, dt = at.project(u, self.in_proj, self.widths)  # (S, E), (T, E + 2GN), (T, H)
        s = None if self.time_scale is None else self.time_scale(g)  # (B, H, L)
        step = self.step_size(dt, s, at)  # (T, H)
        out = self.ssd(xBC, None, z, step, self.conv, at)  # (S, D)
        # the last layer's signal is read by nobody, but its dropout is part of what a seed gives
        return out, self.time_gate(g, s) if self.time_gate is not None and at.carries_signals else None


class CrossSSD(StateSpace):
    """Cross-SSD block: the states come from one stream, the queries from the other (docs/model.md, Cross-SSD)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        E, GN, H = config.inner_width, config.group_width, config.n_heads
        self.widths = (E + GN, H)  # x | B, dt
        self.u_proj = nn.Linear(config.hidden_size, sum(self.widths))
        self.q_proj = nn.Linear(config.hidden_size, GN)
        self.z_proj = nn.Linear(config.hidden_size, E)
        self.u_conv = CausalConv(E + GN, config.d_conv)
        self.q_conv = CausalConv(GN, config.d_conv)
        self.time_scale = TimeScale(config) if config.is_time else None

    def forward(self, q: Tensor, u: Tensor, c: Signal, near: Layout, at: Layout) -> Tensor:
        """Scan the stream u with the queries q.

        Args:
            q: (S', D) the query stream.
            u: (T, D).
            c: (B, H, L) filtered time signal, None without time.
            near: the T tokens, and the S' that the convolution of C at the wanted ones sees.
            at: the T tokens, and the S whose output is wanted.

        Returns:
            (S, D).
        """
        xB, dt = at.project_states(u, self.u_proj, self.widths)  # (T, E + GN), (T, H)
        s = None if self.time_scale is None else self.time_scale(c)  # (B, H, L)
        C = at.narrow(self.q_conv(self.q_proj(q), near), near)  # (S, GN)
        q, u = at.narrow(q, near), at.wanted(u)  # (S, D)
        step = self.step_size(dt, s, at)  # (T, H)
        z = self.z_proj(q + u)  # (S, E)
        return self.ssd(xB, C, z, step, self.u_conv, at)
