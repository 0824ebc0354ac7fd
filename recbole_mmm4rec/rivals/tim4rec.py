"""TiM4Rec (arXiv 2409.16182): item embeddings, time-aware SSD blocks with feed-forward layers, scores by product.

MMM4Rec's TiSSD descends from it, and its block is used here as it is, with what differs put in: the skip of Mamba-2,
one group of B and C, and a time scale without Tanhshrink.

Axes: B users, L positions, T valid positions of a batch, S of them wanted, D width, H heads, I items (row 0 pads).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.layers import FeedForward
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.packing.layouts import Layout, layout_of
from recbole_mmm4rec.network.ops.streams import Stream, Vectors
from recbole_mmm4rec.network.state_space import TiSSD
from recbole_mmm4rec.network.time_path import Signal, TimeInput, TimeScale, full_precision, time_gaps
from recbole_mmm4rec.rivals.rival import Rival, begin_like_bert, histories_of

SETTINGS = (
    *("hidden_size", "inner_size", "num_layers", "d_state", "head_dim", "expand", "d_conv", "norm_eps", "dropout_prob"),
    *("time_dropout_prob", "is_ffn", "is_time", "p2p_residual", "time_padding", "ssd_backend"),
)
"""Of :class:`NetworkConfig`, those that a configuration may set."""


class TiM4Rec(Rival):
    """TiM4Rec."""

    def __init__(self, config: Any, dataset: Any) -> None:
        """Build it; what a configuration can say stands in properties/model/TiM4Rec.yaml.

        Raises:
            UserError: settings that do not fit each other.
        """
        super().__init__(config, dataset)
        given = {name: config[name] for name in SETTINGS}
        if given["inner_size"] is None:
            given["inner_size"] = 4 * given["hidden_size"]
        self.settings = network = NetworkConfig(
            **given, max_len=config["MAX_ITEM_LIST_LENGTH"], n_groups=1, d_skip="mamba"
        )
        self.time_list = f"{config['TIME_FIELD']}{config['LIST_SUFFIX']}"
        self.item_embedding = nn.Embedding(self.n_items, network.hidden_size, padding_idx=0)
        self.norm = nn.LayerNorm(network.hidden_size, eps=network.norm_eps)
        self.time_input = TimeInput(network) if network.is_time else None
        if self.time_input is not None:
            self.time_input.drop = network.dropout_prob  # that of the items, as in its program
        self.layers = nn.ModuleList(TiM4RecLayer(network) for _ in range(network.num_layers))
        begin_like_bert(self)

    def user_vectors(self, interaction: Interaction) -> Tensor:
        """(B, D): the last layer's output at the last position."""
        histories, lengths = histories_of(self, interaction)
        network = self.settings
        layout = layout_of(
            lengths,
            max_len=network.max_len,
            width=network.d_conv,
            backend=network.ssd_backend,
            looks_ahead=network.is_time,
            single=network.num_layers == 1,
        )
        x = self.item_embedding(layout.pack(histories))  # (T, D)
        stream = layout.stream(self.norm(dropout(x, network.dropout_prob, self.training)))
        g: Signal = None
        if self.time_input is not None:
            stamps = layout.times.arrange(interaction[self.time_list])
            g = self.time_input(time_gaps(stamps, layout.times.lengths, network.time_padding))  # (B, H, L)
        for layer in self.layers[:-1]:
            stream, g = layer(stream, g, layout)
        stream, _ = self.layers[-1](stream, g, layout.last())
        return layout.restore(stream.x)

    def both(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D), and the embeddings themselves (I+1, D)."""
        return self.user_vectors(interaction), self.item_embedding.weight


class TiM4RecLayer(nn.Module):
    """h = LayerNorm(dropout(TiSSD(x)) + x), a single layer without "+ x"; then the feed-forward layer."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.ssd = TiSSD(network)
        if network.is_time:
            self.ssd.time_scale = PlainTimeScale(network)
        self.norm = nn.LayerNorm(network.hidden_size, eps=network.norm_eps)
        self.ffn = FeedForward(network) if network.is_ffn else None
        self.alone, self.drop = network.num_layers == 1, network.dropout_prob

    def forward(self, u: Stream, g: Signal, at: Layout) -> tuple[Stream, Signal]:
        """One layer: u (T, D), time signal g (B, H, L) or None, the tokens ``at`` → (S, D) and the next time signal."""
        out, g = self.ssd(u, g, at)  # (S, D), (B, H, L)
        h = dropout(out, self.drop, self.training)
        h = self.norm(h if self.alone else h + at.wanted(u.x))
        return Vectors(h if self.ffn is None else self.ffn(h)), g


class PlainTimeScale(TimeScale):
    """s = conv(conv(W2 SiLU(W1 dropout(g))·g)), where MMM4Rec has a Tanhshrink around the MLP."""

    @full_precision
    def forward(self, signal: Tensor) -> Tensor:
        """(B, H, L) → (B, H, L)."""
        hidden = self.fc2(F.silu(self.fc1(dropout(signal, self.drop, self.training))))  # (B, H, L)
        return self.conv2(self.conv1(hidden * signal))
