"""The layers on packed tokens: TiSSD layer, cross layer, feed-forward.

Axes: T tokens, S of them wanted, B histories, L positions, D, H heads. S': the tokens that a convolution of width K
at the S wanted ones sees (``near = at.seen_by(K)``). ``at.wanted``: T → S; ``near.wanted``: T → S';
``at.narrow(·, near)``: S' → S.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.packing.layouts import Layout
from recbole_mmm4rec.network.ops.streams import Stream, Vectors
from recbole_mmm4rec.network.state_space import CrossSSD, TiSSD
from recbole_mmm4rec.network.time_path import FourierFilter, Signal


class FeedForward(nn.Module):
    """LayerNorm(dropout(W2·dropout(hardswish(W1·x))) + x)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.inner_size)
        self.fc2 = nn.Linear(config.inner_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.drop = config.dropout_prob

    def forward(self, x: Tensor) -> Tensor:
        """(S, D) → (S, D)."""
        hidden = dropout(F.hardswish(self.fc1(x)), self.drop, self.training)  # (S, inner_size)
        return self.norm(dropout(self.fc2(hidden), self.drop, self.training) + x)


class TiSSDLayer(nn.Module):
    """h = LayerNorm(dropout(TiSSD(x)) + x), then the feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.ssd = TiSSD(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.ffn = FeedForward(config) if config.is_ffn else None
        self.drop = config.dropout_prob

    def forward(self, u: Stream, g: Signal, at: Layout) -> tuple[Stream, Signal]:
        """One layer: u (T, D), time signal g (B, H, L) or None, the tokens ``at`` → (S, D) and the next time signal."""
        out, g = self.ssd(u, g, at)  # (S, D), (B, H, L)
        h = self.norm(dropout(out, self.drop, self.training) + at.wanted(u.x))  # (S, D)
        return Vectors(h if self.ffn is None else self.ffn(h)), g


class CrossLayer(nn.Module):
    """Alignment through the text layer's own TiSSD block, Fourier filter, Cross-SSD, feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        without = config.ablation
        self.own = TiSSD(config) if without == "sharing" else None
        self.align_norm = None if without == "alignment" else nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.filter = FourierFilter(config) if config.is_time and without not in ("filter", "cross") else None
        self.cross = CrossSSD(config) if without != "cross" else None
        self.cross_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.ffn = FeedForward(config) if config.is_ffn else None
        self.drop = config.dropout_prob
        self.width = config.d_conv

    def forward(
        self, text: Tensor, image: Stream, g_text: Signal, g_image: Signal, shared: TiSSD, at: Layout
    ) -> tuple[Stream, Signal]:
        """One cross layer; what ``ablation`` leaves out stands in docs/model.md.

        Args:
            text: (T, D) output of the text layer; image: (T, D) the image stream.
            g_text: the text layer's output time signal; g_image: the image's, (B, H, L) each; None without time.
            shared: the TiSSD block of the text layer of the same index.
            at: the T tokens, and the S whose output is wanted.

        Returns:
            (S, D), and the image's next time signal.
        """
        near = at.seen_by(self.width)  # S' tokens: the convolution of C at the wanted ones sees the last K
        if self.align_norm is None:
            h = near.wanted(image.x)  # (S', D)
        else:
            out, g_image = (self.own or shared)(image, g_image, near)  # (S', D), (B, H, L)
            h = self.align_norm(dropout(out, self.drop, self.training) + near.wanted(image.x))  # (S', D)
        out = None if self.cross is None else self.cross(h, text, self._joined(g_image, g_text), near, at)  # (S, D)
        sum_ = at.narrow(h, near) + at.wanted(text)  # (S, D)
        o = self.cross_norm(sum_ if out is None else dropout(out, self.drop, self.training) + sum_)  # (S, D)
        return Vectors(o if self.ffn is None else self.ffn(o)), g_image

    def _joined(self, g_image: Signal, g_text: Signal) -> Signal:
        """(B, H, L) twice → (B, H, L), the filtered time signal, without the filter their sum; None without time."""
        if self.filter is not None:
            return self.filter(g_image, g_text)
        return None if g_image is None or g_text is None else g_image + g_text
