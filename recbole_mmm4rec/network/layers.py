"""The layers on packed tokens: TiSSD layer, cross layer, feed-forward."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.ragged import Ragged
from recbole_mmm4rec.network.ops.shared_prefixes import SharedPrefixes
from recbole_mmm4rec.network.state_space import CrossSSD, Plan, Projected, TiSSD
from recbole_mmm4rec.network.time_path import FourierFilter


def residual(x: Tensor, out: Tensor, drop: float, training: bool) -> Tensor:
    """dropout(out) + x."""
    return dropout(out, drop, training) + x


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
        hidden = dropout(F.hardswish(self.fc1(x)), self.drop, self.training)
        return self.norm(residual(x, self.fc2(hidden), self.drop, self.training))


class TiSSDLayer(nn.Module):
    """h = LayerNorm(dropout(TiSSD(x)) + x), then the feed-forward layer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.ssd = TiSSD(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.ffn = FeedForward(config) if config.is_ffn else None
        self.drop = config.dropout_prob

    def forward(
        self, x: Tensor, signal: Tensor | None, ragged: Ragged, plan: Plan, projected: Projected | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(T, D), (B, H, L) → (S, D) of the tokens that ``plan`` wants; and the next time signal."""
        out, signal = self.ssd(x, signal, ragged, plan, projected)
        return self._after(plan.kept(x), out), signal

    def prefixes(self, x: Tensor, signal: Tensor, shared: SharedPrefixes, prefixes: Tensor, backend: str) -> Tensor:
        """The layer's output at the end of every prefix: x (T', D), signal (B, H, L) → (T', D)."""
        return self._after(x, self.ssd.prefixes(x, signal, shared, prefixes, backend))

    def _after(self, x: Tensor, out: Tensor) -> Tensor:
        h = self.norm(residual(x, out, self.drop, self.training))
        return h if self.ffn is None else self.ffn(h)


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
        plan: Plan,
        projected: Projected | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One cross layer.

        Args:
            text: (T, D) output of the text layer; image: (T, D) the image stream.
            signals: the text layer's output time signal and the image's, (B, H, L) each; None without time.
            shared: the TiSSD block of the text layer of the same index.
            ragged: layout of the T tokens.
            plan: how to compute, and the S tokens whose output is wanted: all or the last ones.
            projected: what the shared block's ``project`` makes of ``image``, if it is at hand.

        Returns:
            (S, D), and the image's next time signal.
        """
        text_signal, image_signal = signals if signals is not None else (None, None)
        tail, aligning = ragged, plan
        if plan.keep is not None:  # the convolution of C at the last position sees the last K
            tokens, tail = ragged.tail(self.config.d_conv)
            aligning = Plan(plan.backend, tokens, self.config.d_conv)
        aligned, image_signal = shared(image, image_signal, ragged, aligning, projected)
        h = self.align_norm(residual(aligning.kept(image), aligned, self.drop, self.training))
        joint = self.filter(image_signal, text_signal) if self.filter is not None else None
        out = self.cross(h, text, joint, ragged, tail, plan)
        if plan.keep is not None:
            h, text = h.index_select(0, tail.last), text.index_select(0, plan.keep)
        o = self.cross_norm(residual(h + text, out, self.drop, self.training))
        return (o if self.ffn is None else self.ffn(o)), image_signal
