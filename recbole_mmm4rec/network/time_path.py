"""The time signals: gaps between interactions, the scale of the step size, the gate, the Fourier filter.

They are (B, H, L) or (B, L), a small part of the work, and are the only part that needs all L columns. They stay in
float32 under autocast: gaps reach 1e9 seconds, and PyTorch's FFT takes no bfloat16.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.ops.conv import row_conv
from recbole_mmm4rec.network.ops.dropout import dropout

Signal = Tensor | None
"""A time signal (B, H, L); None without time."""


def full_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run a module's forward with autocast off."""

    @functools.wraps(forward)
    def wrapped(self: Any, *signals: Tensor) -> Tensor:
        with torch.autocast(signals[0].device.type, enabled=False):
            return forward(self, *signals)

    return wrapped


def time_gaps(timestamps: Tensor, lengths: Tensor, padding: str) -> Tensor:
    """Seconds since the previous interaction.

    Differs from the published program under ``padding="masked"``: it takes a time stamp of 0 at padded positions, so
    that the first padded gap is about −1.5e9 s and drowns the real gaps in the LayerNorm that follows.

    Args:
        timestamps: (B, L) int64 seconds, right-padded with anything.
        lengths: (B,) int64 valid positions.
        padding: "masked" (gaps of 0 at padding) or "zero_stamp" (as published).

    Returns:
        (B, L) float32; the subtraction runs in 64-bit integers, the first gap is 0.
    """
    columns = torch.arange(timestamps.shape[1], device=timestamps.device)
    valid = columns < lengths.unsqueeze(1)
    stamps = torch.where(valid, timestamps, 0)
    gaps = F.pad(stamps[:, 1:] - stamps[:, :-1], (1, 0))
    if padding == "masked":
        gaps = torch.where(valid, gaps, 0)
    return gaps.to(torch.float32)


class TimeInput(nn.Module):
    """Dropout and LayerNorm over the L columns, then the same row for each of the H heads."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.max_len, eps=config.norm_eps)
        self.heads = config.n_heads
        self.drop = config.time_dropout_prob

    @full_precision
    def forward(self, gaps: Tensor) -> Tensor:
        """(B, L) → (B, H, L); each call draws its own dropout."""
        gaps = gaps.to(self.norm.weight.dtype)
        row = self.norm(dropout(gaps, self.drop, self.training))  # (B, L)
        return row.unsqueeze(1).expand(-1, self.heads, -1)


class RowConv(nn.Module):
    """SiLU(y), y_t = bias + Σ_k weight_k s_(t−K+1+k), every head for itself."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(heads, heads, width, groups=heads)

    def forward(self, signal: Tensor) -> Tensor:
        """(B, H, L) → (B, H, L)."""
        assert self.conv.bias is not None
        return row_conv(signal, self.conv.weight.squeeze(1), self.conv.bias)


class TimeScale(nn.Module):
    """s = conv(conv(tanhshrink(W2 SiLU(W1 dropout(g)))·g)): W1, W2 along positions, conv causal in a row, with SiLU."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.max_len, config.max_len)
        self.fc2 = nn.Linear(config.max_len, config.max_len)
        self.conv1 = RowConv(config.n_heads, config.d_conv)
        self.conv2 = RowConv(config.n_heads, config.d_conv)
        self.drop = config.time_dropout_prob

    @full_precision
    def forward(self, signal: Tensor) -> Tensor:
        """(B, H, L) → (B, H, L)."""
        hidden = self.fc2(F.silu(self.fc1(dropout(signal, self.drop, self.training))))  # (B, H, L)
        return self.conv2(self.conv1(F.tanhshrink(hidden) * signal))


class TimeGate(nn.Module):
    """g' = LayerNorm(r·g + (1 − r)·s) with r = sigmoid(Linear(dropout(g)))."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.max_len, config.max_len if config.p2p_residual else 1)
        self.norm = nn.LayerNorm(config.max_len, eps=config.norm_eps)
        self.drop = config.time_dropout_prob

    @full_precision
    def forward(self, signal: Tensor, scale: Tensor) -> Tensor:
        """(B, H, L) twice → (B, H, L)."""
        share = torch.sigmoid(self.gate(dropout(signal, self.drop, self.training)))  # (B, H, 1 or L)
        return self.norm(share * signal + (1 - share) * scale)


class ComplexLinear(nn.Module):
    """A complex linear map of F frequencies built from two real Linears, whose biases take part in both products."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.real = nn.Linear(frequencies, frequencies)
        self.imag = nn.Linear(frequencies, frequencies)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(…, F) complex64 → (…, F) complex64."""
        parts = torch.stack([spectrum.real, spectrum.imag])
        weight, bias = torch.cat([self.real.weight, self.imag.weight]), torch.cat([self.real.bias, self.imag.bias])
        (real_re, imag_re), (real_im, imag_im) = (half.chunk(2, -1) for half in F.linear(parts, weight, bias))
        return torch.complex(real_re - imag_im, imag_re + real_im)


class FourierFilter(nn.Module):
    """Dual-channel filter: both time signals weight their own spectrum, the sum is filtered and transformed back.

    In docs/model.md ``image`` is W_a, ``text`` W_b, ``joint`` W_c.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        frequencies = config.max_len // 2 + 1
        self.image = ComplexLinear(frequencies)
        self.text = ComplexLinear(frequencies)
        self.joint = ComplexLinear(frequencies)

    @full_precision
    def forward(self, image_signal: Tensor, text_signal: Tensor) -> Tensor:
        """(B, H, L) twice → (B, H, L)."""
        a = torch.fft.rfft(image_signal, norm="ortho")  # (B, H, F)
        b = torch.fft.rfft(text_signal, norm="ortho")  # (B, H, F)
        mixed = self.joint(self.image(a) * a + self.text(b) * b)  # (B, H, F)
        return torch.fft.irfft(mixed, n=image_signal.shape[-1], norm="ortho")
