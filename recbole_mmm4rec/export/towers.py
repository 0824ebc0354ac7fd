"""The network as two plain modules that an exporter can take: histories → user vectors, features → item vectors.

The weights are the network's own; what is computed is docs/model.md, padded, without any of :mod:`..network.ops`. An
exporter takes neither packing nor loops nor complex numbers: here the scan is one masked product of all positions, and
the Fourier transform a product with constant matrices.

Axes: B users, L positions, D hidden size, E inner width, P head width, H heads, G groups, N states, K taps,
F frequencies, I items, n new items, M modalities.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.layers import CrossLayer, FeedForward, TiSSDLayer
from recbole_mmm4rec.network.new_items import NEAREST
from recbole_mmm4rec.network.ops.tables.frozen import pieces
from recbole_mmm4rec.network.state_space import CausalConv, CrossSSD, StateSpace, TiSSD
from recbole_mmm4rec.network.time_path import ComplexLinear, FourierFilter, TimeGate, TimeScale

Signal = Tensor | None
"""A time signal (B, H, L); None without time."""


class UserTower(nn.Module):
    """Histories, and the tables of all items → user vectors.

    Args:
        network: whose weights it shares.
    """

    def __init__(self, network: MMM4RecNetwork) -> None:
        super().__init__()
        self.network, length = network, network.config.max_len
        self.modalities = network.items.modalities
        dtype = next(network.parameters()).dtype
        frequencies = torch.arange(length // 2 + 1)
        turns = torch.outer(torch.arange(length), frequencies) % length  # (L, F), in L-ths
        angles = turns.double() * (2 * math.pi / length)
        # a frequency stands for its mirror image, too; not so 0 and, of an even L, the last one
        share = torch.where((frequencies == 0) | (2 * frequencies == length), 1.0, 2.0)
        for name, matrix in {"cosine": torch.cos(angles), "sine": torch.sin(angles)}.items():
            matrix = matrix / math.sqrt(length)
            self.register_buffer(name, matrix.to(dtype), persistent=False)  # (L, F)
            self.register_buffer(f"{name}_back", (share * matrix).T.to(dtype), persistent=False)  # (F, L)

    cosine: Tensor
    sine: Tensor
    cosine_back: Tensor
    sine_back: Tensor

    def forward(self, items: Tensor, lengths: Tensor, timestamps: Tensor | None, *tables: Tensor) -> Tensor:
        """The user vectors.

        Args:
            items: (B, L) int64 item numbers, oldest first; behind ``lengths`` anything.
            lengths: (B,) int64, 1 … L.
            timestamps: (B, L) int64 seconds; None without time.
            tables: (I+1, D) of each modality, text first.

        Returns:
            (B, D).
        """
        net = self.network
        valid = torch.arange(net.config.max_len) < lengths.unsqueeze(1)  # (B, L)
        items = torch.where(valid, items, 0)
        streams = [_norm(net.input_norm[m], table[items]) for m, table in zip(self.modalities, tables, strict=True)]
        text, image = streams[0], streams[-1]  # (B, L, D)
        g_text = g_image = None if timestamps is None else self._time_signal(timestamps, valid)  # (B, H, L)
        for index, module in enumerate(net.layers):
            layer = cast(TiSSDLayer, module)
            before, g_before = text, g_text
            out, g_text = self._tissd(layer.ssd, before, g_before)
            text = self._feed_forward(layer.ffn, _norm(layer.norm, out + before))
            if len(streams) == 2:
                cross = cast(CrossLayer, net.cross_layers[index])
                h = image
                if cross.align_norm is not None:
                    out, g_image = self._tissd(cross.own or layer.ssd, image, g_image)
                    h = _norm(cross.align_norm, out + image)
                out = h + text
                if cross.cross is not None:
                    out = self._cross_ssd(cross.cross, h, text, self._filter(cross.filter, g_image, g_text)) + out
                image = self._feed_forward(cross.ffn, _norm(cross.cross_norm, out))
        user = text if len(streams) == 1 else image
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, user.shape[2])  # (B, 1, D)
        return user.gather(1, last).squeeze(1)

    def _time_signal(self, timestamps: Tensor, valid: Tensor) -> Tensor:
        """(B, L) → (B, H, L); the gaps are taken in 64-bit integers."""
        net = self.network
        stamps = torch.where(valid, timestamps, 0)
        gaps = stamps[:, 1:] - stamps[:, :-1]
        if net.config.time_padding == "masked":
            gaps = torch.where(valid[:, 1:], gaps, 0)
        assert net.time_input is not None
        gaps = F.pad(gaps.to(torch.float32), (1, 0)).to(self.cosine.dtype)  # (B, L)
        return _norm(net.time_input.norm, gaps).unsqueeze(1).expand(-1, net.config.n_heads, -1)

    def _tissd(self, block: TiSSD, u: Tensor, g: Signal) -> tuple[Tensor, Signal]:
        """(B, L, D), (B, H, L) → the same."""
        config = self.network.config
        z, xBC, dt = block.in_proj(u).split(block.widths, -1)  # (B, L, E), (B, L, E + 2GN), (B, L, H)
        x, B, C = _conv(block.conv, xBC).split((config.inner_width, config.group_width, config.group_width), -1)
        s = None if g is None else _time_scale(cast(TimeScale, block.time_scale), g)  # (B, H, L)
        out = self._scan(block, x, B, C, z, dt, s)
        return out, None if g is None or s is None else _time_gate(cast(TimeGate, block.time_gate), g, s)

    def _cross_ssd(self, block: CrossSSD, q: Tensor, u: Tensor, c: Signal) -> Tensor:
        """(B, L, D) twice, (B, H, L) → (B, L, D)."""
        config = self.network.config
        xB, dt = block.u_proj(u).split(block.widths, -1)  # (B, L, E + GN), (B, L, H)
        x, B = _conv(block.u_conv, xB).split((config.inner_width, config.group_width), -1)
        C = _conv(block.q_conv, block.q_proj(q))  # (B, L, GN)
        s = None if c is None else _time_scale(cast(TimeScale, block.time_scale), c)  # (B, H, L)
        return self._scan(block, x, B, C, block.z_proj(q + u), dt, s)

    def _scan(self, block: StateSpace, x: Tensor, B: Tensor, C: Tensor, z: Tensor, dt: Tensor, s: Signal) -> Tensor:
        """Recurrence with its skip, gate, norm, output Linear: (B, L, ·) → (B, L, D).

        y_t = Σ_(r ≤ t) exp(A Σ_(r < q ≤ t) Δ_q) (C_t·B_r) Δ_r x_r + skip(Δ_t) x_t, the recurrence written out.
        """
        config = self.network.config
        length, heads, groups = config.max_len, config.n_heads, config.n_groups
        dt = dt.transpose(1, 2)  # (B, H, L)
        step = F.softplus((dt if s is None else dt * s) + block.dt_bias.unsqueeze(1))  # (B, H, L)
        x = x.unflatten(2, (heads, config.head_dim)).transpose(1, 2)  # (B, H, L, P)
        B, C = (part.unflatten(2, (groups, config.d_state)).transpose(1, 2) for part in (B, C))  # (B, G, L, N)
        match = (C @ B.transpose(2, 3)).repeat_interleave(heads // groups, dim=1)  # (B, H, L, L): t, r
        below = torch.ones(length, length, dtype=torch.bool).tril(-1)  # t > r
        log_decay = (step * block.A.unsqueeze(1)).unsqueeze(3) * below  # (B, H, L, L): q, r
        decay = torch.exp(log_decay.cumsum(2)) * torch.ones(length, length).tril()  # (B, H, L, L): t, r
        y = (match * decay) @ (step.unsqueeze(3) * x)  # (B, H, L, P)
        skip = step if config.d_skip == "scaled" else torch.ones_like(step)
        y = y + (block.D_skip.unsqueeze(1) * skip).unsqueeze(3) * x
        gated = y.transpose(1, 2).flatten(2) * F.silu(z)  # (B, L, E)
        # RMSNorm, eps taken out of the sum: onnxscript's optimizer holds an addend of 1e-12 for none
        large = gated * config.norm_eps**-0.5
        normed = large * torch.rsqrt(large.square().mean(2, keepdim=True) + 1)
        return block.out_proj(normed * block.norm_weight)

    def _filter(self, filters: FourierFilter | None, image: Signal, text: Signal) -> Signal:
        """The dual-channel Fourier filter of both time signals (B, H, L) → (B, H, L), their sum without one."""
        if image is None or text is None:
            return None
        if filters is None:
            return image + text
        real, imag = torch.zeros(()), torch.zeros(())
        for weigh, signal in ((filters.image, image), (filters.text, text)):
            re, im = signal @ self.cosine, -(signal @ self.sine)  # (B, H, F)
            w_re, w_im = _complex_linear(weigh, re, im)
            real, imag = real + w_re * re - w_im * im, imag + w_re * im + w_im * re
        real, imag = _complex_linear(filters.joint, real, imag)
        return real @ self.cosine_back - imag @ self.sine_back

    def _feed_forward(self, ffn: FeedForward | None, x: Tensor) -> Tensor:
        """(B, L, D) → (B, L, D)."""
        return x if ffn is None else _norm(ffn.norm, ffn.fc2(F.hardswish(ffn.fc1(x))) + x)


class ItemTower(nn.Module):
    """Features of items that the network was not trained with → their vectors, and their side of the scores.

    As ``mmm4rec add`` makes them: what stands in for an ID row is the mean row of the trained items that are nearest by
    their features (:func:`.rows_of_nearest`), and for weights of its own the mean of the trained ones.

    Args:
        network: whose weights it shares.

    Attributes:
        known: for each modality with ID rows what :func:`known_items` gives.
    """

    def __init__(self, network: MMM4RecNetwork) -> None:
        super().__init__()
        items = network.items
        self.items, self.modalities, self.temperature = items, items.modalities, network.config.temperature
        found = {name: known_items(items, name) for name in items.bias}
        self.known = {name: tables for name, tables in found.items() if len(tables[1])}
        self.mean = nn.ParameterDict({name: table[1:].detach().mean(0) for name, table in items.bias.items()})
        self.unseen = nn.ParameterDict({name: items.unseen(name) for name in self.modalities})
        factors = torch.zeros(len(self.modalities), dtype=next(network.parameters()).dtype)
        if items.fusion is not None:
            factors = items.fusion.detach() if items.fusion.dim() == 1 else items.fusion.detach()[1:].mean(0)
        static = network.config.item_mm_fusion == "static" or len(self.modalities) == 1
        self.register_buffer("weights", torch.ones_like(factors) if static else factors.softmax(0), persistent=False)

    weights: Tensor

    def forward(self, given: tuple[Tensor, ...], known: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The vectors of new items.

        Args:
            given: for each modality, text first, the features (n, F) and the mask (n,) bool of the items that have it.
            known: the tables of ``self.known``.

        Returns:
            (n, D) the side of the scores, then for each modality (n, D) the row of its table.
        """
        features, has = given[::2], torch.stack(given[1::2], 1)  # (n, M)
        scored = has | ~has.any(1, keepdim=True)  # an item with nothing is scored by its learned vectors
        weights = self.weights * scored  # (n, M)
        weights = weights * (self.weights.sum() / weights.sum(1, keepdim=True))
        tables = dict(zip(self.known, zip(known[::2], known[1::2], strict=True), strict=True))
        rows, side = [], torch.zeros(())
        for column, name in enumerate(self.modalities):
            here = has[:, column].unsqueeze(1)  # (n, 1)
            vectors = torch.where(here, self.items.adapter[name](features[column]), self.unseen[name])
            if name in tables:
                count = min(NEAREST, len(self.known[name][1]))
                nearest = self._nearest(features[column], *tables[name], count)  # (n, D)
                vectors = vectors + torch.where(here, nearest, self.mean[name])
            elif name in self.mean:
                vectors = vectors + self.mean[name]
            rows.append(vectors)  # (n, D)
            side = side + weights[:, column].unsqueeze(1) * F.normalize(vectors, dim=1, eps=1e-12)
        return side / self.temperature, *rows

    def _nearest(self, features: Tensor, directions: Tensor, ids: Tensor, count: int) -> Tensor:
        """(n, D), the mean ID row of the nearest items of the catalogue."""
        likeness = F.normalize(features, dim=1) @ directions.T  # (n, J)
        return ids[likeness.topk(count, 1).indices].mean(1)


def known_items(items: ItemTables, modality: str) -> tuple[Tensor, Tensor]:
    """The items of the catalogue that have a modality: directions of their features (J, F), and ID rows (J, D)."""
    column = items.modalities.index(modality)
    there = items.present[:, column].nonzero().flatten()[1:]  # without padding
    ids = items.bias[modality].detach()[there]
    directions = torch.empty(len(there), items.features[modality].shape[1], dtype=ids.dtype)
    for piece in pieces(*directions.shape):
        directions[piece] = F.normalize(items.features[modality].take(there[piece], torch.float32), dim=1)
    return directions, ids


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    """LayerNorm of centred rows: ONNX Runtime takes the variance as a difference of two means."""
    normed: Tensor = norm(x - x.mean(-1, keepdim=True))
    return normed


def _conv(conv: CausalConv, x: Tensor) -> Tensor:
    """The causal depthwise convolution and its SiLU, (B, L, C) → (B, L, C)."""
    return _row_conv(x.transpose(1, 2), conv.weight.unsqueeze(1), conv.bias).transpose(1, 2)


def _row_conv(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same on rows, (B, C, L) with weight (C, 1, K)."""
    return F.silu(F.conv1d(F.pad(rows, (weight.shape[2] - 1, 0)), weight, bias, groups=weight.shape[0]))


def _time_scale(scale: TimeScale, g: Tensor) -> Tensor:
    """(B, H, L) → (B, H, L)."""
    s = F.tanhshrink(scale.fc2(F.silu(scale.fc1(g)))) * g
    for conv in (scale.conv1.conv, scale.conv2.conv):
        s = _row_conv(s, conv.weight, conv.bias)
    return s


def _time_gate(gate: TimeGate, g: Tensor, s: Tensor) -> Tensor:
    """(B, H, L) twice → (B, H, L)."""
    share = torch.sigmoid(gate.gate(g))
    return _norm(gate.norm, share * g + (1 - share) * s)


def _complex_linear(linear: ComplexLinear, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the complex map, (B, H, F) each."""
    return linear.real(real) - linear.imag(imag), linear.imag(real) + linear.real(imag)
