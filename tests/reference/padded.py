"""The network once more, as one would write it first with PyTorch: padded to (B, L), with PyTorch's own layers.

The baseline of `python -m benchmarks`. Every position of both streams is computed, features are gathered and adapted
position by position, each modality scores with a product of its own. It isn't slower than it needs to be: the scan is
the dual form, masked (L, L) products over the whole batch, and everything else a layer of PyTorch's. Nothing of
``recbole_mmm4rec`` is used here; parameters go by the names of published checkpoints (docs/model.md).

Axes: B users, L positions, D hidden size, E inner width, H heads, P head_dim, G groups, N d_state, K d_conv, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Settings = Mapping[str, Any]
PREFIX = {"text": "text", "image": "vision"}


class FeedForward(nn.Module):
    """LayerNorm(dropout(W2·dropout(hardswish(W1·x))) + x)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.fc1 = nn.Linear(settings["hidden_size"], settings["inner_size"])
        self.fc2 = nn.Linear(settings["inner_size"], settings["hidden_size"])
        self.layer_norm = nn.LayerNorm(settings["hidden_size"], eps=settings["norm_eps"])
        self.drop = settings["dropout_prob"]

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) → (B, L, D)."""
        hidden = F.dropout(F.hardswish(self.fc1(x)), self.drop, self.training)
        return self.layer_norm(F.dropout(self.fc2(hidden), self.drop, self.training) + x)


class CausalConv(nn.Conv1d):
    """SiLU of a causal depthwise convolution of width K along L."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels, width, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) → (B, C, L)."""
        return F.silu(super().forward(F.pad(x, (self.kernel_size[0] - 1, 0))))

    tuned = False

    def over_positions(self, x: Tensor) -> Tensor:
        """(B, L, C) → (B, L, C); tuned: as an image of one row with its channels last, faster on a processor."""
        if not self.tuned:
            return self(x.transpose(1, 2)).transpose(1, 2)
        padded = F.pad(x, (0, 0, self.kernel_size[0] - 1, 0)).transpose(1, 2).unsqueeze(2)  # (B, C, 1, K-1+L)
        y = F.conv2d(padded, self.weight.unsqueeze(2), self.bias, groups=self.groups)
        return F.silu(y).squeeze(2).transpose(1, 2)


class Block(nn.Module):
    """What TiSSD and Cross-SSD share: the time scale, the scan with its skip, the gated norm and the output."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.inner = settings["expand"] * settings["hidden_size"]
        self.state = settings["n_groups"] * settings["d_state"]
        self.heads = self.inner // settings["head_dim"]
        if settings["is_time"]:
            length, drop = settings["max_len"], nn.Dropout(settings["time_dropout_prob"])
            self.mlp4time_scale = nn.Sequential(
                drop, nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length), nn.Tanhshrink()
            )
            self.conv1d4time_1 = CausalConv(self.heads, settings["d_conv"])
            self.conv1d4time_2 = CausalConv(self.heads, settings["d_conv"])
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        step = torch.empty(self.heads).uniform_(-6.9, -2.3).exp()
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(self.inner, eps=settings["norm_eps"])
        self.out_proj = nn.Linear(self.inner, settings["hidden_size"])

    def time_scale(self, signal: Tensor) -> Tensor:
        """s (B, H, L) from the time signal (B, H, L)."""
        return self.conv1d4time_2(self.conv1d4time_1(self.mlp4time_scale(signal) * signal))

    def scan(self, x: Tensor, dt: Tensor, s: Tensor | None, b: Tensor, c: Tensor) -> Tensor:
        """The dual form: x (B, L, E), dt (B, L, H), s (B, H, L), b and c (B, L, G·N) → (B, L, E)."""
        batch, length, _ = x.shape
        groups, per_group = self.settings["n_groups"], self.heads // self.settings["n_groups"]
        dt = dt.float() if dt.dtype.itemsize < 4 else dt
        delta = F.softplus((dt if s is None else dt * s.transpose(1, 2)) + self.dt_bias)  # (B, L, H)
        x = x.view(batch, length, self.heads, -1).transpose(1, 2)  # (B, H, L, P)
        b, c = (part.view(batch, length, groups, -1).transpose(1, 2) for part in (b, c))  # (B, G, L, N)
        total = (-delta * self.A_log.exp()).transpose(1, 2).cumsum(-1)  # (B, H, L)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        decay = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, -torch.inf).exp()  # (B, H, L, L)
        weight = decay.unflatten(1, (groups, per_group)) * (c @ b.transpose(-1, -2)).unsqueeze(2)
        x_in = x * delta.transpose(1, 2).unsqueeze(-1)
        y = weight.flatten(1, 2).to(x.dtype) @ x_in.to(x.dtype)
        skipped = x_in if self.settings["d_skip"] == "scaled" else x
        y = y + (self.D[:, None, None] * skipped).to(y.dtype)
        return y.transpose(1, 2).reshape(batch, length, self.inner)

    def output(self, y: Tensor, z: Tensor) -> Tensor:
        """out_proj(RMSNorm(y·SiLU(z))): (B, L, E) twice → (B, L, D)."""
        gated = (y * F.silu(z)).to(self.norm.weight.dtype)  # the mean square needs float32
        return self.out_proj(self.norm(gated))


class TiSSD(Block):
    """The time-aware SSD block."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        length = settings["max_len"]
        self.in_proj = nn.Linear(settings["hidden_size"], 2 * self.inner + 2 * self.state + self.heads)
        self.conv1d_1 = CausalConv(self.inner + 2 * self.state, settings["d_conv"])
        if settings["is_time"]:
            gate = nn.Linear(length, length if settings["p2p_residual"] else 1)
            self.time_gate_residual = nn.Sequential(nn.Dropout(settings["time_dropout_prob"]), gate, nn.Sigmoid())
            self.time_layer_norm = nn.LayerNorm(length, eps=settings["norm_eps"])

    def forward(self, u: Tensor, signal: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, L, D), (B, H, L) → (B, L, D) and the next time signal (B, H, L)."""
        z, xbc, dt = self.in_proj(u).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        xbc = self.conv1d_1.over_positions(xbc)
        x, b, c = (part.contiguous() for part in xbc.split([self.inner, self.state, self.state], -1))
        s = None if signal is None else self.time_scale(signal)
        out = self.output(self.scan(x, dt, s, b, c), z)
        if signal is None or s is None:
            return out, None
        share = self.time_gate_residual(signal)
        return out, self.time_layer_norm(share * signal + (1 - share) * s)


class CrossSSD(Block):
    """The Cross-SSD block: states from one stream, queries from the other."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        width = settings["hidden_size"]
        self.u_in_proj = nn.Linear(width, self.inner + self.state + self.heads)
        self.q_in_proj = nn.Linear(width, self.state)
        self.z_in_proj = nn.Linear(width, self.inner)
        self.u_conv1d = CausalConv(self.inner + self.state, settings["d_conv"])
        self.q_conv1d = CausalConv(self.state, settings["d_conv"])

    def forward(self, q: Tensor, u: Tensor, signal: Tensor | None) -> Tensor:
        """q, u (B, L, D), signal (B, H, L) → (B, L, D)."""
        xb, dt = self.u_in_proj(u).split([self.inner + self.state, self.heads], -1)
        xb = self.u_conv1d.over_positions(xb)
        x, b = (part.contiguous() for part in xb.split([self.inner, self.state], -1))
        c = self.q_conv1d.over_positions(self.q_in_proj(q))
        s = None if signal is None else self.time_scale(signal)
        return self.output(self.scan(x, dt, s, b, c), self.z_in_proj(q + u))


class EncoderLayer(nn.Module):
    """A stream on its own: TiSSD, residual, norm, feed-forward."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.ssd = TiSSD(settings)
        self.layer_norm = nn.LayerNorm(settings["hidden_size"], eps=settings["norm_eps"])
        self.ffn = FeedForward(settings) if settings["is_ffn"] else nn.Identity()
        self.drop = settings["dropout_prob"]

    def forward(self, x: Tensor, signal: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, L, D), (B, H, L) → the same."""
        out, signal = self.ssd(x, signal)
        return self.ffn(self.layer_norm(F.dropout(out, self.drop, self.training) + x)), signal


class ComplexLinear(nn.Module):
    """A complex map F → F of two real ones, each with its bias."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.real = nn.Linear(frequencies, frequencies)
        self.imag = nn.Linear(frequencies, frequencies)

    def forward(self, z: Tensor) -> Tensor:
        """(…, F) complex → (…, F) complex."""
        return torch.complex(self.real(z.real) - self.imag(z.imag), self.imag(z.real) + self.real(z.imag))


class DecoderLayer(nn.Module):
    """The image stream: alignment by the text layer's block, Fourier filter, Cross-SSD, feed-forward."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, eps = settings["hidden_size"], settings["norm_eps"]
        self.co_ssd = CrossSSD(settings)
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        self.co_layer_norm = nn.LayerNorm(width, eps=eps)
        self.ffn = FeedForward(settings) if settings["is_ffn"] else nn.Identity()
        self.drop = settings["dropout_prob"]
        if settings["is_time"]:
            frequencies = settings["max_len"] // 2 + 1
            self.text_complex_weight = nn.Sequential(ComplexLinear(frequencies))
            self.vision_complex_weight = nn.Sequential(ComplexLinear(frequencies))
            self.co_complex_weight = nn.Sequential(ComplexLinear(frequencies))

    def filtered(self, image: Tensor, text: Tensor) -> Tensor:
        """Both time signals (B, H, L) through the dual-channel filter."""
        with torch.autocast(image.device.type, enabled=False):  # the FFT takes no bfloat16
            a, b = (torch.fft.rfft(signal.to(self.layer_norm.weight.dtype), norm="ortho") for signal in (image, text))
            mixed = self.co_complex_weight(self.text_complex_weight(a) * a + self.vision_complex_weight(b) * b)
            return torch.fft.irfft(mixed, n=image.shape[-1], norm="ortho")

    def forward(
        self, text: Tensor, image: Tensor, signals: tuple[Tensor | None, Tensor | None], shared: TiSSD
    ) -> tuple[Tensor, Tensor | None]:
        """text, image (B, L, D), their time signals (B, H, L), the text layer's block → image and its signal."""
        out, signal = shared(image, signals[1])
        h = self.layer_norm(F.dropout(out, self.drop, self.training) + image)
        joint = None if signal is None or signals[0] is None else self.filtered(signal, signals[0])
        o = F.dropout(self.co_ssd(h, text, joint), self.drop, self.training)
        return self.ffn(self.co_layer_norm(o + h + text)), signal


class PaddedMMM4Rec(nn.Module):
    """The network, padded; no item may miss a modality.

    Args:
        settings: the names and values of ``NetworkConfig``.
        features: "text" and/or "image" tables (I+1, F) float32; row 0 is padding.

    Raises:
        ValueError: a setting that isn't there: a fusion other than static.
    """

    def __init__(self, settings: Settings, features: Mapping[str, Tensor]) -> None:
        super().__init__()
        if settings["item_mm_fusion"] != "static":
            raise ValueError("the padded reference has static fusion alone")
        self.settings = settings
        width, eps, layers = settings["hidden_size"], settings["norm_eps"], settings["num_layers"]
        self.modalities = [name for name in PREFIX if name in features]
        for prefix, table in ((PREFIX[name], features[name]) for name in self.modalities):
            self.register_buffer(f"{prefix}_embedding", table, persistent=False)
            self.add_module(f"{prefix}_adapter", nn.Sequential(nn.Linear(table.shape[1], width)))
            self.add_module(f"{prefix}_in_layer_norm", nn.LayerNorm(width, eps=eps))
            if settings["is_modality_bias"]:
                self.register_parameter(f"{prefix}_item_embedding_bias", nn.Parameter(torch.zeros(len(table), width)))
        if settings["is_time"]:
            self.layer_norm_time = nn.LayerNorm(settings["max_len"], eps=eps)
        self.encoder_ssd_layers = nn.ModuleList(EncoderLayer(settings) for _ in range(layers))
        both = len(self.modalities) == 2
        self.decoder_ssd_layers = nn.ModuleList(DecoderLayer(settings) for _ in range(layers if both else 0))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                nn.init.zeros_(module.bias)

    def item_vectors(self, modality: str, items: Tensor | slice) -> Tensor:
        """(…,) item numbers → (…, D), each from its own features."""
        prefix = PREFIX[modality]
        vectors = getattr(self, f"{prefix}_adapter")(getattr(self, f"{prefix}_embedding")[items])
        if self.settings["is_modality_bias"]:
            vectors = vectors + getattr(self, f"{prefix}_item_embedding_bias")[items]
        return vectors

    def gaps(self, timestamps: Tensor, lengths: Tensor) -> Tensor:
        """Seconds since the position before, (B, L) int64 → (B, L) float."""
        valid = torch.arange(timestamps.shape[1], device=timestamps.device) < lengths[:, None]
        stamps = timestamps.masked_fill(~valid, 0)
        gaps = torch.diff(stamps, dim=1, prepend=stamps[:, :1])
        if self.settings["time_padding"] == "masked":
            gaps = gaps.masked_fill(~valid, 0)
        return gaps.to(self.layer_norm_time.weight.dtype)

    def user_vectors(self, item_seq: Tensor, lengths: Tensor, timestamps: Tensor | None = None) -> Tensor:
        """(B, L) int64, (B,) int64, (B, L) int64 seconds → (B, D)."""
        settings = self.settings
        heads = settings["expand"] * settings["hidden_size"] // settings["head_dim"]
        streams: list[Tensor] = []
        signals: list[Tensor | None] = []
        for modality in self.modalities:
            vectors = self.item_vectors(modality, item_seq)
            vectors = F.dropout(vectors, settings["embedding_drop_prob"], self.training)
            streams.append(getattr(self, f"{PREFIX[modality]}_in_layer_norm")(vectors))
            signal = None
            if settings["is_time"]:
                assert timestamps is not None
                gaps = F.dropout(self.gaps(timestamps, lengths), settings["time_dropout_prob"], self.training)
                signal = self.layer_norm_time(gaps).unsqueeze(1).repeat(1, heads, 1)
            signals.append(signal)
        for index, layer in enumerate(self.encoder_ssd_layers):
            streams[0], signals[0] = layer(streams[0], signals[0])
            if len(streams) == 2:
                cross = self.decoder_ssd_layers[index]
                streams[1], signals[1] = cross(*streams, (signals[0], signals[1]), layer.ssd)
        return streams[-1][torch.arange(len(lengths), device=lengths.device), lengths - 1]

    def candidates(self) -> list[Tensor]:
        """For each modality the normalised (I, D) table of items 1 … I."""
        tables = (self.item_vectors(modality, slice(1, None)) for modality in self.modalities)
        return [F.normalize(table, dim=-1, eps=1e-12) for table in tables]

    def scores(self, users: Tensor, candidates: list[Tensor] | None = None) -> Tensor:
        """(B, D) → (B, I) scores of items 1 … I: one product a modality."""
        candidates = self.candidates() if candidates is None else candidates
        logits = [users @ table.to(users.dtype).T for table in candidates]
        return sum(logits[1:], start=logits[0]) / self.settings["temperature"]

    def forward(self, item_seq: Tensor, lengths: Tensor, timestamps: Tensor | None = None) -> Tensor:
        """Histories → (B, I) scores of items 1 … I."""
        return self.scores(self.user_vectors(item_seq, lengths, timestamps))


class Contender:
    """The padded network as `python -m benchmarks --against` drives it."""

    loads_weights = True

    def __init__(self, setup: Any) -> None:
        torch.manual_seed(setup.seed)
        self.model = PaddedMMM4Rec(setup.settings, setup.features).to(setup.device)
        if setup.weights is not None:
            self.model.load_state_dict(setup.weights)
        self.optimizer = torch.optim.NAdam(
            self.model.parameters(), lr=setup.learning_rate, weight_decay=setup.weight_decay
        )
        self.autocast = torch.autocast(setup.device, torch.bfloat16, enabled=setup.precision == "bfloat16")

    def train_step(self, batch: Any) -> Tensor:
        """Forward, loss, backward, optimiser step; the loss."""
        self.model.train()
        self.optimizer.zero_grad()
        with self.autocast:
            scores = self.model(batch.item_seq, batch.item_seq_len, batch.timestamps)
        loss = F.cross_entropy(scores.float(), batch.labels - 1)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def begin_evaluation(self) -> None:
        """What stays the same for a whole evaluation: the candidates' tables."""
        self.model.eval()
        self.candidates = self.model.candidates()

    @torch.no_grad()
    def score(self, batch: Any) -> Tensor:
        """(B, I) scores of items 1 … I."""
        with self.autocast:
            users = self.model.user_vectors(batch.item_seq, batch.item_seq_len, batch.timestamps)
        return self.model.scores(users.float(), self.candidates)


def make(setup: Any) -> Contender:
    """See `python -m benchmarks --contract`."""
    return Contender(setup)


def make_tuned(setup: Any) -> Contender:
    """The same with the fastest of PyTorch's convolutions."""
    made = Contender(setup)
    for module in made.model.modules():
        if isinstance(module, CausalConv):
            module.tuned = True
    return made
