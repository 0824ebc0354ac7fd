"""The state-space blocks and layers on packed tokens: TiSSD, Cross-SSD, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.conv import PackedConv
from recbole_mmm4rec.network.ragged import Ragged
from recbole_mmm4rec.network.ssd import ssd, ssd_last
from recbole_mmm4rec.network.time_path import FourierFilter, TimeGate, TimeScale


class FeedForward(nn.Module):
    """LayerNorm(dropout(W2·dropout(hardswish(W1·x))) + x)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.inner_size)
        self.fc2 = nn.Linear(config.inner_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.drop = config.dropout_prob

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) → (T, D)."""
        hidden = F.dropout(F.hardswish(self.fc1(x)), self.drop, self.training)
        return self.norm(F.dropout(self.fc2(hidden), self.drop, self.training) + x)


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

    def skip(self, x: Tensor, dt: Tensor) -> Tensor:
        """The skip of the scan: (T, H, P), (T, H) → (T, H, P).

        Differs from Mamba-2 under ``d_skip: scaled``: the published program multiplies the skip by Δ.
        """
        weight = self.D_skip * dt if self.config.d_skip == "scaled" else self.D_skip.expand_as(dt)
        return weight.to(x.dtype).unsqueeze(-1) * x

    def output(self, y: Tensor, z: Tensor) -> Tensor:
        """RMSNorm(y·SiLU(z)) over all E, gate first, then the output Linear: (T, H, P), (T, E) → (T, D)."""
        gated = y.flatten(1) * F.silu(z)
        wide = gated.to(self.norm_weight.dtype)  # the mean square needs float32
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.config.norm_eps) * self.norm_weight
        return self.out_proj(normed.to(gated.dtype))

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

    def forward(
        self, u: Tensor, signal: Tensor | None, ragged: Ragged, backend: str, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scan a stream.

        Args:
            u: (T, D).
            signal: (B, H, L) time signal, None without time.
            ragged: layout of the T tokens.
            backend: implementation of the scan.
            keep: (S,) the tokens whose output is wanted, None for all: what follows the scan runs on these alone.

        Returns:
            (T, D) or (S, D), and the next time signal (B, H, L) or None.
        """
        config = self.config
        E, GN, H, P = config.inner_width, config.group_width, config.n_heads, config.head_dim
        weight, bias = self.in_proj.weight, self.in_proj.bias
        if keep is None:
            z, xBC, dt = self.in_proj(u).split([E, E + 2 * GN, H], -1)
        else:
            z = F.linear(u.index_select(0, keep), weight[:E], bias[:E])
            xBC, dt = F.linear(u, weight[E:], bias[E:]).split([E + 2 * GN, H], -1)
        x, B, C = self.conv(xBC, ragged, backend).split([E, GN, GN], -1)
        scale = self.time_scale(signal) if self.time_scale is not None else None
        dt = self.step_size(dt, scale, ragged)
        x = x.unflatten(1, (H, P))
        B, C = (part.unflatten(1, (config.n_groups, config.d_state)) for part in (B, C))
        y = ssd(x, dt, self.A, B, C, ragged, backend=backend, chunk=config.chunk_size) + self.skip(x, dt)
        if keep is not None:
            y = y.index_select(0, keep)
        return self.output(y, z), self.time_gate(signal, scale) if self.time_gate is not None else None


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

    def _states(self, u: Tensor, signal: Tensor | None, ragged: Ragged, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, H, P), B (T, G, N) and Δ (T, H) of the stream u (T, D)."""
        config = self.config
        xB, dt = self.u_proj(u).split([config.inner_width + config.group_width, config.n_heads], -1)
        x, B = self.u_conv(xB, ragged, backend).split([config.inner_width, config.group_width], -1)
        scale = self.time_scale(signal) if self.time_scale is not None else None
        dt = self.step_size(dt, scale, ragged)
        return x.unflatten(1, (config.n_heads, -1)), B.unflatten(1, (config.n_groups, -1)), dt

    def forward(self, q: Tensor, u: Tensor, signal: Tensor | None, ragged: Ragged, backend: str) -> Tensor:
        """q, u: (T, D), signal: (B, H, L) or None → (T, D)."""
        config = self.config
        x, B, dt = self._states(u, signal, ragged, backend)
        C = self.q_conv(self.q_proj(q), ragged, backend).unflatten(1, (config.n_groups, -1))
        y = ssd(x, dt, self.A, B, C, ragged, backend=backend, chunk=config.chunk_size) + self.skip(x, dt)
        return self.output(y, self.z_proj(q + u))

    def last(
        self, q_tail: Tensor, tail: Ragged, u: Tensor, signal: Tensor | None, ragged: Ragged, backend: str
    ) -> Tensor:
        """The block's output at the last position of each sequence, exactly, for a fraction of the work.

        Args:
            q_tail: (S, D) the query stream at the last K positions, all that the convolution of C can see.
            tail: layout of these S tokens.
            u: (T, D), signal: (B, H, L) or None, ragged: layout of the T tokens.

        Returns:
            (B, D).
        """
        x, B, dt = self._states(u, signal, ragged, backend)
        C = self.q_conv(self.q_proj(q_tail), tail, backend).index_select(0, tail.last)
        y = ssd_last(x, dt, self.A, B, C.unflatten(1, (self.config.n_groups, -1)), ragged)
        y = y + self.skip(x.index_select(0, ragged.last), dt.index_select(0, ragged.last))
        z = self.z_proj(q_tail.index_select(0, tail.last) + u.index_select(0, ragged.last))
        return self.output(y, z)


class TiSSDLayer(nn.Module):
    """h = LayerNorm(dropout(TiSSD(x)) + x), then the feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.ssd = TiSSD(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.ffn = FeedForward(config) if config.is_ffn else None
        self.drop = config.dropout_prob

    def forward(
        self, x: Tensor, signal: Tensor | None, ragged: Ragged, backend: str, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(T, D), (B, H, L) → (T, D) or, with ``keep`` (S,), (S, D); and the next time signal."""
        out, signal = self.ssd(x, signal, ragged, backend, keep)
        h = self.norm(F.dropout(out, self.drop, self.training) + (x if keep is None else x.index_select(0, keep)))
        return (h if self.ffn is None else self.ffn(h)), signal


class CrossLayer(nn.Module):
    """Alignment through the text layer's own TiSSD block, Fourier filter, Cross-SSD, feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.align_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.filter = FourierFilter(config) if config.is_time else None
        self.cross = CrossSSD(config)
        self.cross_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.ffn = FeedForward(config) if config.is_ffn else None
        self.drop = config.dropout_prob

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        signals: tuple[Tensor, Tensor] | None,
        shared: TiSSD,
        ragged: Ragged,
        backend: str,
        last_only: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """One cross layer.

        Args:
            text: (T, D) output of the text layer; image: (T, D) the image stream.
            signals: the text layer's output time signal and the image's, (B, H, L) each; None without time.
            shared: the TiSSD block of the text layer of the same index.
            ragged: layout of the T tokens.
            backend: implementation of the scan.
            last_only: only the last position of each sequence is wanted.

        Returns:
            (T, D), or (B, D) with ``last_only``, and the image's next time signal.
        """
        text_signal, image_signal = signals if signals is not None else (None, None)
        keep, tail = ragged.tail(self.config.d_conv) if last_only else (None, ragged)
        aligned, image_signal = shared(image, image_signal, ragged, backend, keep)
        skipped = image if keep is None else image.index_select(0, keep)
        h = self.align_norm(F.dropout(aligned, self.drop, self.training) + skipped)
        joint = self.filter(image_signal, text_signal) if self.filter is not None else None
        if last_only:
            out = self.cross.last(h, tail, text, joint, ragged, backend)
            h, text = h.index_select(0, tail.last), text.index_select(0, ragged.last)
        else:
            out = self.cross(h, text, joint, ragged, backend)
        o = self.cross_norm(F.dropout(out, self.drop, self.training) + h + text)
        return (o if self.ffn is None else self.ffn(o)), image_signal
